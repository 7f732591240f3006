"""A matrix in 4 or 8 bits a value, with one step size per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

BITS = (4, 8)
_STEPS_IN_DEVIATION = 0.3352  # the step of the best uniform quantizer with 16 levels of a Gaussian (Max 1960, table II)


@dataclass(frozen=True, eq=False)
class QuantizedRows:
    """R rows of C values: value = step of the row · (code − (2^bits − 1) / 2), with codes 0 … 2^bits − 1.

    codes: (R, C) in 8 bits, and (R, ⌈C/2⌉) in 4 bits, where a byte has the codes of columns 2i (low) and 2i + 1 (high).
    steps: (R,). columns: C.
    """

    codes: UInt8[np.ndarray, "R bytes"]
    steps: Float[np.ndarray, " R"]
    bits: int
    columns: int

    @classmethod
    def from_matrix(cls, matrix: Float[np.ndarray, "R C"], bits: int) -> QuantizedRows:
        """The nearest codes. In 8 bits the step lets the largest value of a row fit; in 4 bits a few are clipped."""
        levels = 1 << bits
        if bits == 4:
            steps = _STEPS_IN_DEVIATION * np.sqrt(np.square(matrix, dtype=np.float64).mean(axis=1))
        else:
            steps = np.abs(matrix).max(axis=1) / ((levels - 1) / 2)
        steps = np.where(steps > 0, steps, 1.0).astype(np.float32)
        codes = np.clip(np.floor(matrix / steps[:, None]) + levels // 2, 0, levels - 1).astype(np.uint8)
        if bits == 4:
            padded = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
            codes = padded[:, ::2] | padded[:, 1::2] << 4
        return cls(codes, steps, bits, matrix.shape[1])

    def rows(self, indices: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N C"]:
        """The values of these rows, in float64."""
        codes = self.codes[indices]
        if self.bits == 4:
            codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)[:, : self.columns]
        centered = codes - ((1 << self.bits) - 1) / 2
        values: np.ndarray = centered * self.steps[indices].astype(np.float64)[:, None]
        return values

    def matrix(self) -> Float[np.ndarray, "R C"]:
        """All rows."""
        return self.rows(np.arange(len(self.steps)))

    def check(self) -> None:
        """ValueError where the parts do not fit each other."""
        width = -(-self.columns * self.bits // 8) if self.bits in BITS else -1
        if self.codes.shape != (len(self.steps), width) or not np.isfinite(self.steps).all():
            raise ValueError(f"codes of {self.codes.shape} bytes do not fit {self.columns} columns of {self.bits} bits")
