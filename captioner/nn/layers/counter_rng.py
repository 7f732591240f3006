"""Counter-based random numbers: a function of a seed and a count, without a state.

A generator with a state would give an image other numbers in another batch, or in a search that takes other steps.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def _signed(pattern: int) -> int:
    """A 64-bit pattern as an int64 value."""
    return pattern - 2**64 if pattern >= 2**63 else pattern


_STEP, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def uniform(seeds: Int[Tensor, " N"], counts: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Number `counts` (from 0) of each seed's stream, uniform in [0, 1); the same values on every device.

    SplitMix64 (Steele, Lea & Flood 2014, figure 17), of which the upper 24 bits are used. int64 products wrap around.
    """
    z = seeds + (counts + 1) * _STEP
    z = (z ^ _shift_right(z, 30)) * _FIRST
    z = (z ^ _shift_right(z, 27)) * _SECOND
    z = z ^ _shift_right(z, 31)
    return _shift_right(z, 40).to(torch.float32) / 2**24


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """The logical shift, which fills with zeros; torch's operator fills with the sign bit."""
    shifted: Tensor = (z >> bits) & (2 ** (64 - bits) - 1)
    return shifted
