"""Random numbers that depend on nothing but what they are for: a seed, and how many were drawn before.

A generator with a state would give an image other numbers in another batch, or to a search that goes other ways.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def _signed(number: int) -> int:
    """A 64-bit pattern as torch's int64 holds it."""
    return number - 2**64 if number >= 2**63 else number


_STEP, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def uniform(seeds: Int[Tensor, " N"], counts: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """In [0, 1): number `counts` (from 0) of the stream that belongs to each seed; the same on every device.

    SplitMix64 (Steele, Lea & Flood 2014, figure 17), of which the upper 24 bits are kept. int64 products wrap around.
    """
    z = seeds + (counts + 1) * _STEP
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    z = z ^ _shifted(z, 31)
    return _shifted(z, 40).to(torch.float32) / 2**24


def _shifted(z: Tensor, bits: int) -> Tensor:
    """To the right, zeros coming in; torch's own shift brings in the sign."""
    shifted: Tensor = (z >> bits) & (2 ** (64 - bits) - 1)
    return shifted
