"""Rows whose images are in no order, brought side by side by image: a grid is then read once for all rows that look at
it, instead of being copied to rows_per_image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.nn.packing import PackedCaptions


class RowsByImage(NamedTuple):
    """N rows, and the places they have in a (B, R, …) tensor whose second dimension holds the rows of one image.

    images: (N,) the image of rows_per_image row; place: (N,) image·R + a number of its own among the image's rows;
    image_count: B; rows_per_image: R. Places that no row has stay zero.
    """

    images: Tensor
    position: Tensor
    image_count: int
    rows_per_image: int

    def first_rows(self, rows: int) -> RowsByImage:
        """The first rows alone: captions are packed by falling length, so those that are still going stand first."""
        return RowsByImage(self.images[:rows], self.position[:rows], self.image_count, self.rows_per_image)

    def group(self, values: Float[Tensor, "N X"]) -> Float[Tensor, "B R X"]:
        """Row by row into the places."""
        places = values.new_zeros(self.image_count * self.rows_per_image, values.shape[1]).index_copy(
            0, self.position, values
        )
        return places.view(self.image_count, self.rows_per_image, -1)

    def ungroup(self, values: Float[Tensor, "B R X"]) -> Float[Tensor, "N X"]:
        """The inverse: the rows out of their places."""
        return values.flatten(0, 1).index_select(0, self.position)


def rows_of_captions(captions: PackedCaptions, images: int) -> RowsByImage:
    """One row a caption, in packed order; `images`: how many there are, with captions or without."""
    rows_per_image = captions.captions_per_image
    return RowsByImage(
        captions.images, captions.images * rows_per_image + captions.caption_indices, images, rows_per_image
    )


def rows_of_words(captions: PackedCaptions, images: int) -> RowsByImage:
    """One row a word, in packed order: for what is done for all words at once."""
    steps, device = len(captions.batch_sizes), captions.rows.device
    step = torch.repeat_interleave(
        torch.arange(steps, device=device), torch.tensor(captions.batch_sizes, device=device)
    )
    rows_per_image = captions.captions_per_image * steps
    of_captions = rows_of_captions(captions, images)
    words: Int[Tensor, " M"] = of_captions.images.index_select(0, captions.rows)
    position = of_captions.position.index_select(0, captions.rows) * steps + step
    return RowsByImage(words, position, images, rows_per_image)
