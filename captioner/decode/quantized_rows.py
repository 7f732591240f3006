"""A matrix in 2, 4 or 8 bits a value, with one step size per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

BITS = (2, 4, 8)
# The steps of the best uniform quantizers of a Gaussian, in standard deviations (Max 1960, table II).
_STEPS_IN_DEVIATION = {2: 0.9957, 4: 0.3352}


@dataclass(frozen=True, eq=False)
class QuantizedRows:
    """R rows of C values: value = step of the row · (code − (2^bits − 1) / 2), with codes 0 … 2^bits − 1.

    codes: (R, ⌈C · bits / 8⌉). A byte has the codes of 8 / bits neighboring columns, the first in its lowest bits.
    steps: (R,). columns: C.
    """

    codes: UInt8[np.ndarray, "R bytes"]
    steps: Float[np.ndarray, " R"]
    bits: int
    columns: int

    @classmethod
    def from_matrix(cls, matrix: Float[np.ndarray, "R C"], bits: int) -> QuantizedRows:
        """The nearest codes. In 8 bits the step lets the largest value of a row fit; with fewer some are clipped."""
        levels = 1 << bits
        if bits in _STEPS_IN_DEVIATION:
            steps = _STEPS_IN_DEVIATION[bits] * np.sqrt(np.square(matrix, dtype=np.float64).mean(axis=1))
        else:
            steps = np.abs(matrix).max(axis=1) / ((levels - 1) / 2)
        steps = np.where(steps > 0, steps, 1.0).astype(np.float32)
        codes = np.clip(np.floor(matrix / steps[:, None]) + levels // 2, 0, levels - 1).astype(np.uint8)
        shifts = _shifts(bits)
        padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % len(shifts))))
        packed = np.bitwise_or.reduce(padded.reshape(len(codes), -1, len(shifts)) << shifts, axis=2)
        return cls(packed, steps, bits, matrix.shape[1])

    def rows(self, indices: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N C"]:
        """The values of these rows, in float64."""
        largest = (1 << self.bits) - 1
        codes = self.codes[indices, :, None] >> _shifts(self.bits) & np.uint8(largest)
        centered = codes.reshape(len(codes), self.codes.shape[1] * codes.shape[2])[:, : self.columns] - largest / 2
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


def _shifts(bits: int) -> UInt8[np.ndarray, " values"]:
    """The lowest bit of each code in a byte."""
    return np.arange(0, 8, bits, dtype=np.uint8)
