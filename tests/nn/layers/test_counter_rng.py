"""Counter-based random numbers against SplitMix64 in Python integers, and their statistics."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.nn.layers.counter_rng import uniform

MASK = 2**64 - 1


def splitmix64(seed: int, count: int) -> float:
    """Number `count` of the reference generator, whose state starts at `seed`."""
    z = (seed + (count + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 40) / 2**24


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**20))
@settings(max_examples=50, deadline=None)
def test_equals_the_reference(seed: int, count: int) -> None:
    assert float(uniform(torch.tensor([seed]), torch.tensor([count]))) == splitmix64(seed % 2**64, count)


def test_a_published_value() -> None:
    """The first output of the reference implementation for seed 0 is 0xE220A8397B1DCDAF."""
    assert splitmix64(0, 0) == (0xE220A8397B1DCDAF >> 40) / 2**24


def test_even_and_independent() -> None:
    """Over seeds 0, 1, 2, … and over one seed's numbers: uniform mean and variance, no correlation of neighbors."""
    many = torch.arange(100_000)
    for values in (uniform(many, torch.zeros_like(many)), uniform(torch.zeros_like(many), many)):
        assert float(values.min()) >= 0
        assert float(values.max()) < 1
        assert abs(float(values.mean()) - 0.5) < 0.005
        assert abs(float(values.var()) - 1 / 12) < 0.002
        assert abs(float(torch.corrcoef(torch.stack([values[1:], values[:-1]]))[0, 1])) < 0.015
