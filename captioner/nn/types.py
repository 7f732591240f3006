"""What a decoder remembers between two words, and how search moves it about.

Kept apart from the decoders so that every search works on every decoder: search only ever selects
rows and images; it never looks inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor


class ImageFeatures(NamedTuple):
    """What the encoder says of B images. `grid` is None where only the vector was asked for.

    vector: (B, D); grid: (B, P, D), the cells in reading order; seeds: (B,) int64, one of its own for each image, for a
    decoder that draws by lot. A search gives them, so that what is drawn depends on the image and not on its batch.
    """

    vector: Tensor
    grid: Tensor | None = None
    seeds: Tensor | None = None


class DecoderState(NamedTuple):
    """The state of N = B·K rows of B images; the K rows of one image stand side by side.

    image: tensors with leading dimension B: computed once an image, shared by its rows, never changed.
    hidden: tensors with leading dimension N: what the recurrence carries.
    """

    image: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...]


class DecoderStep(NamedTuple):
    """One step of a decoder.

    logits: (N, V), unnormalised; state: after the step; attention: (N, P) weights over the grid, or None for a
    decoder that does not attend. A row sums to 1, or to less where the decoder may look away (adaptive attention):
    what is missing is the weight of its sentinel.
    """

    logits: Tensor
    state: DecoderState
    attention: Tensor | None = None


def select_rows(state: DecoderState, rows: Tensor) -> DecoderState:
    """The state of rows[i] at row i; the images stay. `rows`: (M,) int64, M = B·K for some K."""
    return DecoderState(state.image, tuple(tensor.index_select(0, rows) for tensor in state.hidden))


def select_images(state: DecoderState, images: Tensor, rows: Tensor) -> DecoderState:
    """The state of some images and of their rows. `images`: (B',), `rows`: (B'·K,), int64 indices."""
    return DecoderState(
        tuple(tensor.index_select(0, images) for tensor in state.image),
        tuple(tensor.index_select(0, rows) for tensor in state.hidden),
    )


def repeat_rows(state: DecoderState, times: int) -> DecoderState:
    """Every row `times` times, side by side: the start of a beam."""
    return DecoderState(state.image, tuple(tensor.repeat_interleave(times, 0) for tensor in state.hidden))


def rows_of_images(images: Tensor, rows: int) -> Tensor:
    """(B, …) of the images as (N, …) of their rows, N = B·K, side by side."""
    beams = rows // len(images)
    return images if beams == 1 else images.repeat_interleave(beams, 0)


class SampledAttention(NamedTuple):
    """What a decoder drew by lot, to be learnt from by REINFORCE (see `nn.hard_attention`).

    log_probs: (M,) of what was drawn at each word, 0 where nothing was; baseline: (), what a word costs as a rule, in
    nats; weight: of the estimate's second term.
    """

    log_probs: Tensor
    baseline: Tensor
    weight: float


class DecoderOutput(NamedTuple):
    """A decoder's answer when the true words before each word are given (training only).

    logits: (M, V) in the packed order of the captions; attention: (M, P), as in `DecoderStep`, or None;
    losses: what else the
    model wants small, by name: each a sum over the M words, times its weight in the model's settings; drawn: for a
    decoder that draws by lot.
    """

    logits: Tensor
    attention: Tensor | None = None
    losses: Mapping[str, Tensor] = MappingProxyType({})
    sampled_attention: SampledAttention | None = None
