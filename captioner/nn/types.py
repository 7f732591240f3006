"""What encoders, decoders and searches exchange.

A search works with every decoder because it only ever selects rows and images of a state; it never reads its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

PartsT = TypeVar("PartsT", bound="tuple[Any, ...]")
ImagePartsT = TypeVar("ImagePartsT", bound="tuple[Any, ...]")
RowPartsT = TypeVar("RowPartsT", bound="tuple[Any, ...]")


class ImageFeatures(NamedTuple):
    """Encoder output for B images.

    vector: (B, D), the mean of the grid, or the class token of a vision transformer.
    grid: (B, P, D), the P regions in reading order; None where only the vector was computed.
    seeds: (B,) int64, one seed per image, for a decoder that samples where to attend. A search sets them, so that the
        samples of an image do not depend on the batch it is in. None: each image's position in the batch is its seed.
    mask: (B, P) bool, False for padding, where images have different numbers of regions. The regions of an image come
        first, and there is at least one. None: no region is padding.
    others: of an ensemble (`captioner.nn.ensemble`), the features of the same images from its further encoders.
    classes: (B, 1000), the probabilities of ImageNet's classes (`captioner.nn.encoders.class_head`), for decoders and
        searches that use them; None where they were not computed.
    """

    vector: Tensor
    grid: Tensor | None = None
    seeds: Tensor | None = None
    mask: Tensor | None = None
    others: tuple[ImageFeatures, ...] = ()
    classes: Tensor | None = None

    def images(self, select: Callable[[Tensor], Tensor]) -> ImageFeatures:
        """The features after `select`, which selects or reorders images, is applied to each tensor."""
        tensors = (self.grid, self.seeds, self.mask, self.classes)
        grid, seeds, mask, classes = (None if part is None else select(part) for part in tensors)
        others = tuple(one.images(select) for one in self.others)
        return ImageFeatures(select(self.vector), grid, seeds, mask, others, classes)

    def grid_mean(self) -> Tensor:
        """(B, D): the mean of each image's regions, without padding. ValueError where there is no grid."""
        if self.grid is None:
            raise ValueError("there is no grid, only the vector")
        return mean_of_regions(self.grid, self.mask)


@dataclass(frozen=True)
class DecoderState(Generic[ImagePartsT, RowPartsT]):
    """The state of N = B·K rows (hypotheses) of B images; the K rows of one image are adjacent.

    image: tensors with leading dimension B, computed once per image, shared by its rows and never changed.
    rows: tensors with leading dimension N, such as the hidden states of the recurrent layers.

    Each of the two is a tuple, most readably a NamedTuple of the decoder's own, whose items are tensors, tuples of
    tensors, or None for a part that these settings do not need.
    """

    image: ImagePartsT
    rows: RowPartsT


class DecoderStep(NamedTuple):
    """The result of one decoding step.

    logits: (N, V), unnormalized.
    state: the state after the step.
    attention: (N, P) attention weights over the regions; None for a decoder that does not attend. A row sums to 1, or
        to less in adaptive attention, where the rest is the weight of the sentinel.
    """

    logits: Tensor
    state: DecoderState[Any, Any]
    attention: Tensor | None = None


class SampledAttention(NamedTuple):
    """The sampled locations of a batch of captions, for REINFORCE (see `captioner.nn.decoders.hard_attention`).

    log_probs: (M,), the log-probability of the location sampled at each token; 0 where none was sampled.
    baseline: (), the usual cost per token, in nats.
    weight: the weight of the REINFORCE term in the loss.
    """

    log_probs: Tensor
    baseline: Tensor
    weight: float


class AuxiliaryLoss(NamedTuple):
    """A loss that a decoder adds to the cross-entropy.

    total: (), its sum over the captions of a batch.
    weight: its factor in the training loss; the value that is logged is without it.
    per: whether training divides `total` by the number of tokens or of captions.
    """

    total: Tensor
    weight: float = 1.0
    per: Literal["token", "caption"] = "token"


class DecoderOutput(NamedTuple):
    """The result of a teacher-forced pass over M tokens, in the packed order of the captions.

    logits: (M, V), unnormalized.
    attention: (M, P), as in `DecoderStep`, or None.
    losses: the decoder's own losses by name; see `AuxiliaryLoss`.
    sampled_attention: for a decoder that samples where to attend, else None.
    """

    logits: Tensor
    attention: Tensor | None = None
    losses: Mapping[str, AuxiliaryLoss] = MappingProxyType({})
    sampled_attention: SampledAttention | None = None


def mean_of_regions(grid: Float[Tensor, "B P D"], mask: Tensor | None) -> Float[Tensor, "B D"]:
    """The mean over the regions; `mask`: (B, P) bool, False for padding, or None."""
    if mask is None:
        return grid.mean(dim=1)
    counts = mask.sum(dim=1, keepdim=True).to(grid.dtype)
    return (grid * mask.unsqueeze(2)).sum(dim=1) / counts


def join_features(parts: Sequence[ImageFeatures]) -> ImageFeatures:
    """The features of several batches as those of one. Grids with fewer regions than others are padded."""
    vector = torch.cat([part.vector for part in parts])
    seeds = [part.seeds for part in parts if part.seeds is not None]
    grids = [part.grid for part in parts if part.grid is not None]
    if len(grids) < len(parts):
        return ImageFeatures(vector, None, torch.cat(seeds) if seeds else None)
    most = max(grid.shape[1] for grid in grids)
    mask = None
    if any(part.mask is not None or grid.shape[1] < most for part, grid in zip(parts, grids, strict=True)):
        mask = vector.new_zeros(len(vector), most, dtype=torch.bool)
    joined, start = grids[0].new_zeros(len(vector), most, grids[0].shape[2]), 0
    for part, grid in zip(parts, grids, strict=True):
        rows, regions = slice(start, start + len(grid)), slice(grid.shape[1])
        joined[rows, regions] = grid
        if mask is not None:
            mask[rows, regions] = True if part.mask is None else part.mask
        start = rows.stop
    return ImageFeatures(vector, joined, torch.cat(seeds) if seeds else None, mask)


def map_tensors(function: Callable[[Tensor], Tensor], parts: PartsT) -> PartsT:
    """`parts`, a tuple or NamedTuple of tensors, of such tuples and of None, with `function` applied to each tensor."""
    mapped = [
        part if part is None else function(part) if isinstance(part, Tensor) else map_tensors(function, part)
        for part in parts
    ]
    kind: Any = type(parts)
    result: PartsT = kind._make(mapped) if hasattr(kind, "_make") else kind(mapped)
    return result


def select_rows(state: DecoderState[ImagePartsT, RowPartsT], rows: Tensor) -> DecoderState[ImagePartsT, RowPartsT]:
    """The state whose row i is row rows[i]; the images stay. `rows`: (B·K,) int64, for any K."""
    return DecoderState(state.image, map_tensors(lambda tensor: tensor.index_select(0, rows), state.rows))


def select_images(
    state: DecoderState[ImagePartsT, RowPartsT], images: Tensor, rows: Tensor
) -> DecoderState[ImagePartsT, RowPartsT]:
    """The state of the images `images`, (B',) int64, and of their rows `rows`, (B'·K,) int64."""
    return DecoderState(
        map_tensors(lambda tensor: tensor.index_select(0, images), state.image),
        map_tensors(lambda tensor: tensor.index_select(0, rows), state.rows),
    )


def repeat_rows(state: DecoderState[ImagePartsT, RowPartsT], times: int) -> DecoderState[ImagePartsT, RowPartsT]:
    """Each row `times` times, the copies adjacent."""
    return DecoderState(state.image, map_tensors(lambda tensor: tensor.repeat_interleave(times, 0), state.rows))


def rows_of_images(images: Tensor, rows: int | torch.SymInt) -> Tensor:
    """(B, …), one item per image → (N, …), the item of each row's image; `rows`: N = B·K, symbolic in an export."""
    beams = rows // images.shape[0]
    return images if beams == 1 else images.repeat_interleave(beams, 0)
