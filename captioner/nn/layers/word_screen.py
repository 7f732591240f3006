"""The most probable word of one row without reading the whole vocabulary matrix in float32.

    z_v = w_v·h + b_v                                      the logits, of which the highest is wanted
    w_v = s_v q_v + e_v,    h = t p + f                    q_v: 8-bit integers, p: 16-bit integers
    |b_v + s_v t q_v·p − z_v| ≤ ‖e_v‖ ‖h‖ + s_v ‖q_v‖ ‖f‖      by Cauchy and Schwarz

With one row, a product takes the time in which the weights come from memory, and the matrix in 8 bits is a quarter of
it. Words whose logit cannot be the highest, by this bound, are left out; the logits of the few others, three or so of
ten thousand, are computed from the weights as they are, so the word is the one that the whole product finds. Two logits
that differ by less than float32 tells apart may change places, as they may with any other order of additions.

It is done in C, in `word_screen.c`: with NumPy, the few passes over all words would cost half of what is gained.
"""

from __future__ import annotations

import ctypes
import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.nn.layers.compile_c import compiling_is_allowed, load_c
from captioner.nn.layers.linear import can_copy, copy_of_weight

_SOURCE = Path(__file__).with_name("word_screen.c")
_FEWEST_WEIGHTS = 2**20  # a smaller matrix stays in the cache, where its type hardly matters
_ROWS_IN_CACHE = 256  # while they are rounded
_LARGEST_CODE = 127
_ROUNDING = 2e-6  # relative to a product: more than that of the C file
_TRIALS = 5
_NOTHING, _NOT_FINITE = -1, -2  # what the C function returns instead of a word


@dataclass(frozen=True, eq=False)
class ScreenedWeight:
    """W in 8 bits: w_v = s_v q_v + e_v.

    codes: q, (V, H) int8. steps: s, (V,). lengths: s_v ‖q_v‖, (V,). errors: ‖e_v‖ and what rounding adds, (V,).
    """

    codes: Int[Tensor, "V H"]
    steps: Float[Tensor, " V"]
    lengths: Float[Tensor, " V"]
    errors: Float[Tensor, " V"]

    @classmethod
    def of(cls, weight: Float[Tensor, "V H"]) -> ScreenedWeight:
        """The nearest codes, with steps that let the largest value of a row fit."""
        parts = [_in_8_bits(rows) for rows in torch.split(weight, _ROWS_IN_CACHE)]
        codes, steps, lengths, errors = (torch.cat(of_rows) for of_rows in zip(*parts, strict=True))
        return cls(codes, steps, lengths, errors)


def _in_8_bits(rows: Float[Tensor, "V H"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The fields of `ScreenedWeight`, of some of its rows."""
    largest = rows.abs().amax(dim=1)
    steps = torch.where(largest > 0, largest / _LARGEST_CODE, 1.0)
    codes = (rows / steps[:, None]).round_()
    lengths = steps * codes.norm(dim=1)
    errors = (rows - steps[:, None] * codes).norm(dim=1) + _ROUNDING * lengths
    return codes.to(torch.int8), steps, lengths, errors


def can_screen(words: nn.Linear, like: Tensor) -> bool:
    """Whether `most_probable_word` can do what `words` does with inputs of the type of `like`, and faster."""
    return (
        words.weight.numel() >= _FEWEST_WEIGHTS
        and can_copy(like, words.weight)
        and _library() is not None
        and _is_faster()
        and copy_of_weight(words, _screened_if_possible) is not None
    )


def most_probable_word(words: nn.Linear, hidden: Float[Tensor, "1 H"], forbidden: Sequence[int]) -> int | None:
    """The word that is not forbidden with the highest logit of `words`, the lowest id among equals.

    None where each word is forbidden or has the logit −∞. FloatingPointError where `hidden` is not finite. It is for
    layers that `can_screen`.
    """
    library, screened = _library(), copy_of_weight(words, _screened_if_possible)
    assert library is not None
    assert screened is not None
    found = _search(library, screened, words.weight, words.bias, hidden, forbidden)
    if found == _NOT_FINITE:
        raise FloatingPointError("a value of the hidden vector is not finite")
    return None if found == _NOTHING else found


def _search(
    library: ctypes.CDLL,
    screened: ScreenedWeight,
    weight: Float[Tensor, "V H"],
    bias: Float[Tensor, " V"],
    hidden: Float[Tensor, "1 H"],
    forbidden: Sequence[int],
) -> int:
    """What the C function returns."""
    words, dim = weight.shape
    tensors = (
        screened.codes,
        screened.steps,
        screened.lengths,
        screened.errors,
        weight,
        bias.contiguous(),
        hidden.contiguous(),
        torch.tensor(forbidden, dtype=torch.int64),
        torch.empty(dim, dtype=torch.int16),
        torch.empty(words),
    )
    finest = min(2**15 - 1, (2**31 - 1) // (_LARGEST_CODE * dim))
    function = library.most_probable_word
    function.restype = ctypes.c_int64
    found: int = function(
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors),
        *(ctypes.c_int64(size) for size in (words, dim, len(forbidden), finest)),
        ctypes.c_int(torch.get_num_threads()),
    )
    return found


def _library() -> ctypes.CDLL | None:
    return _load() if compiling_is_allowed() else None


@functools.cache
def _load() -> ctypes.CDLL | None:
    return load_c(_SOURCE, _is_right)


def _is_right(library: ctypes.CDLL) -> bool:
    """Whether the two best words of small examples are those of the product; each word has one that is much like it."""
    weight = torch.linspace(-20, 30, 19 * 41).sin().view(19, 41)
    weight, bias = torch.cat([weight, 1.0001 * weight]), torch.linspace(-1, 1, 19).repeat(2)
    rows = torch.linspace(-20, 20, 5 * 41).cos().view(5, 41)
    screened, best = ScreenedWeight.of(weight), torch.addmm(bias, rows, weight.t()).topk(2).indices.tolist()
    return all(
        [_search(library, screened, weight, bias, row[None], forbidden) for forbidden in ([], [first])]
        == [first, second]
        for row, (first, second) in zip(rows, best, strict=True)
    )


def _screened_if_possible(weight: Float[Tensor, "V H"]) -> ScreenedWeight | None:
    """The weight in 8 bits; None where that says nothing about it, or C would not find its rows."""
    return ScreenedWeight.of(weight) if weight.is_contiguous() and torch.isfinite(weight).all() else None


@functools.cache
def _is_faster() -> bool:
    """Whether this processor is faster with 8 bits.

    The trial takes some milliseconds, once per process: with a matrix of 8 MB, in turns, the fastest of several each,
    so that other programs hardly matter.
    """
    library = _library()
    assert library is not None
    words, dim = 2**12, 2**9
    weight, bias, row = torch.ones(words, dim), torch.zeros(words), torch.ones(1, dim)
    transposed = torch.ones(dim, words)
    bias[7] = 1.0  # this word is found, without a second candidate
    small = torch.full((words,), 1e-9)
    screened = ScreenedWeight(torch.ones(words, dim, dtype=torch.int8), torch.ones(words), small, small)
    product, screening = math.inf, math.inf
    for _ in range(_TRIALS):
        start = time.perf_counter()
        torch.addmm(bias, row, transposed)
        middle = time.perf_counter()
        _search(library, screened, weight, bias, row, [])
        product, screening = min(product, middle - start), min(screening, time.perf_counter() - middle)
    return screening < product
