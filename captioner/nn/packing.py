"""Captions of different lengths, packed so that no time step computes padding.

Captions are sorted by decreasing length and stored step by step: all first tokens, then the second tokens of the
captions that have one, and so on. At step t only the first `batch_sizes[t]` rows are active. What does not depend on
the previous state is one product over all M tokens. The layout is that of `torch.nn.utils.rnn.PackedSequence`, with
the image of each row added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from captioner.text.vocabulary import SPECIAL_TOKENS, SpecialTokens


class PackedCaptions(NamedTuple):
    """N captions of B images, M tokens in all, in packed order. <END> counts as a token, <START> is only read.

    inputs: (M,) token ids that the decoder reads; the first of a caption is <START>.
    targets: (M,) token ids that it predicts; the last of a caption is <END>.
    batch_sizes: the number of active captions at each of the T steps.
    images: (N,) the image of each row.
    caption_indices: (N,) the caption's index within its image.
    rows: (M,) the row of each token.
    captions_per_image: R, the largest number of captions of an image.
    """

    inputs: Tensor
    targets: Tensor
    batch_sizes: tuple[int, ...]
    images: Tensor
    caption_indices: Tensor
    rows: Tensor
    captions_per_image: int

    def to(self, device: torch.device | str) -> PackedCaptions:
        """The captions with all tensors on `device`."""
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
        """For each time step: the number of active rows, and the positions of their tokens in the packed order."""
        start = 0
        for size in self.batch_sizes:
            yield size, slice(start, start + size)
            start += size

    def starts(self) -> Int[Tensor, " T"]:
        """The position of each step's first token in the packed order; that of row i is i further."""
        sizes = torch.tensor(self.batch_sizes, device=self.rows.device)
        return sizes.cumsum(0) - sizes

    def steps_of_tokens(self) -> Int[Tensor, " M"]:
        """The time step of each token, from 0."""
        steps = torch.arange(len(self.batch_sizes), device=self.rows.device)
        return steps.repeat_interleave(torch.tensor(self.batch_sizes, device=steps.device))

    def last_token_positions(self) -> Int[Tensor, " N"]:
        """The position of each row's last token in the packed order; at that step the whole caption has been read."""
        lengths = torch.bincount(self.rows, minlength=len(self.images))
        return self.starts()[lengths - 1] + torch.arange(len(lengths), device=self.rows.device)


def pack_captions(
    captions: Sequence[Sequence[Sequence[int]]], special: SpecialTokens = SPECIAL_TOKENS
) -> PackedCaptions:
    """Pack captions; `captions[b]`: those of image b as token ids, without <START> and <END>.

    Rows of equal length keep the order of `captions`. ValueError where there is no caption at all.
    """
    flat = [
        (image, index, list(token_ids))
        for image, image_captions in enumerate(captions)
        for index, token_ids in enumerate(image_captions)
    ]
    if not flat:
        raise ValueError("pack_captions needs at least one caption")
    flat.sort(key=lambda row: -len(row[2]))
    lengths = torch.tensor([len(token_ids) + 1 for _, _, token_ids in flat])
    steps = int(lengths[0])
    padded = torch.full((len(flat), steps + 1), special.pad)
    for row, (_, _, token_ids) in enumerate(flat):
        padded[row, : len(token_ids) + 2] = torch.tensor([special.start, *token_ids, special.end])
    active = torch.arange(steps)[:, None] < lengths[None, :]  # (T, N)
    rows = torch.arange(len(flat)).expand(steps, -1)[active]
    return PackedCaptions(
        inputs=padded[:, :-1].t()[active],
        targets=padded[:, 1:].t()[active],
        batch_sizes=tuple(active.sum(dim=1).tolist()),
        images=torch.tensor([image for image, _, _ in flat]),
        caption_indices=torch.tensor([index for _, index, _ in flat]),
        rows=rows,
        captions_per_image=max(map(len, captions)),
    )


def unpack(packed: Int[Tensor, " M"], layout: PackedCaptions) -> list[list[int]]:
    """(M,) values in packed order → one list per row: the inverse of packing, for tests and messages."""
    rows: list[list[int]] = [[] for _ in range(len(layout.images))]
    for value, row in zip(packed.tolist(), layout.rows.tolist(), strict=True):
        rows[row].append(value)
    return rows
