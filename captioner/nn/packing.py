"""Captions of many lengths, laid out so that no step works on padding.

Captions are sorted by falling length and stored step by step: all first words, then all second
words of the captions that have one, and so on. At step t only the first `batch_sizes[t]` rows are
at work, and everything that does not depend on the previous state is one product over M words.
(The layout is that of `torch.nn.utils.rnn.PackedSequence`, with the images of the rows beside it.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from captioner.text.vocabulary import SPECIAL_TOKENS, SpecialTokens


class PackedCaptions(NamedTuple):
    """N captions of B images, M words in all (<END> counted, <START> read but not said).

    inputs: (M,) what the decoder reads, <START> first; targets: (M,) what it should say, <END> last;
    batch_sizes: how many captions are still going at each of the T steps;
    images: (N,) the image of each row; slots: (N,) the how-manieth caption of its image a row is;
    rows: (M,) the row each word belongs to; captions_per_image: R, the most captions one image has.
    """

    inputs: Tensor
    targets: Tensor
    batch_sizes: tuple[int, ...]
    images: Tensor
    caption_indices: Tensor
    rows: Tensor
    captions_per_image: int

    def to(self, device: torch.device | str) -> PackedCaptions:
        """The same on another device."""
        return PackedCaptions(
            self.inputs.to(device),
            self.targets.to(device),
            self.batch_sizes,
            self.images.to(device),
            self.caption_indices.to(device),
            self.rows.to(device),
            self.captions_per_image,
        )

    def steps(self) -> Iterator[tuple[int, slice]]:
        """(how many rows are at work, where their words stand in the packed order), step by step."""
        start = 0
        for size in self.batch_sizes:
            yield size, slice(start, start + size)
            start += size

    def last_token_positions(self) -> Int[Tensor, " N"]:
        """Where each row's last word stands in the packed order; there the whole caption has been read."""
        sizes = torch.tensor(self.batch_sizes, device=self.rows.device)
        lengths = torch.bincount(self.rows, minlength=len(self.images))
        starts = sizes.cumsum(0) - sizes  # of each step
        return starts[lengths - 1] + torch.arange(len(lengths), device=self.rows.device)


def pack_captions(
    captions: Sequence[Sequence[Sequence[int]]], special: SpecialTokens = SPECIAL_TOKENS
) -> PackedCaptions:
    """`captions[b]` are the captions of image b as word numbers, without <START> and <END>.

    Rows of equal length keep the order of their images, so the layout is a function of the captions.
    """
    flat = [(image, slot, list(words)) for image, own in enumerate(captions) for slot, words in enumerate(own)]
    if not flat:
        raise ValueError("pack_captions needs at least one caption")
    flat.sort(key=lambda row: -len(row[2]))
    lengths = torch.tensor([len(words) + 1 for _, _, words in flat])
    steps = int(lengths[0])
    padded = torch.full((len(flat), steps + 1), special.pad)
    for row, (_, _, words) in enumerate(flat):
        padded[row, : len(words) + 2] = torch.tensor([special.start, *words, special.end])
    going = torch.arange(steps)[:, None] < lengths[None, :]  # (T, N)
    rows = torch.arange(len(flat)).expand(steps, -1)[going]
    return PackedCaptions(
        inputs=padded[:, :-1].t()[going],
        targets=padded[:, 1:].t()[going],
        batch_sizes=tuple(going.sum(dim=1).tolist()),
        images=torch.tensor([image for image, _, _ in flat]),
        caption_indices=torch.tensor([slot for _, slot, _ in flat]),
        rows=rows,
        captions_per_image=max(len(own) for own in captions),
    )


def unpack(packed: Int[Tensor, " M"], layout: PackedCaptions) -> list[list[int]]:
    """(M,) numbers in packed order back to one list a row: the inverse of packing, for tests and messages."""
    rows: list[list[int]] = [[] for _ in range(len(layout.images))]
    for value, row in zip(packed.tolist(), layout.rows.tolist(), strict=True):
        rows[row].append(value)
    return rows
