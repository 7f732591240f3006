"""Index arithmetic for rows of different lengths that lie behind each other in one array."""

from __future__ import annotations

import numpy as np

from captioner.metrics.ngrams import Integers


def ranges(first: Integers, lengths: Integers) -> Integers:
    """first[0], first[0] + 1, … (lengths[0] of them), first[1], …"""
    before = np.cumsum(lengths) - lengths
    found: Integers = np.arange(int(lengths.sum())) + np.repeat(first - before, lengths)
    return found


def starts_of(lengths: Integers) -> Integers:
    """(N + 1,) where each of N rows begins; the last item is the length of all."""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts
