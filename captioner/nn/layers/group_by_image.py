"""Groups rows of any order by their images, so that attention reads an image's grid once for all of its rows."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from captioner.nn.packing import PackedCaptions


class RowsByImage(NamedTuple):
    """N rows and their positions in a (B, R, …) tensor whose second dimension holds the rows of one image.

    images: (N,) int64, the image of each row.
    position: (N,) int64, image·R + the row's index within its image; positions without a row are zero in `group`.
    image_count: B.
    rows_per_image: R.
    """

    images: Tensor
    position: Tensor
    image_count: int
    rows_per_image: int

    def first_rows(self, rows: int) -> RowsByImage:
        """Only the first rows: those of the captions that are still active, because the longest come first."""
        return RowsByImage(self.images[:rows], self.position[:rows], self.image_count, self.rows_per_image)

    def group(self, values: Float[Tensor, "N X"]) -> Float[Tensor, "B R X"]:
        """Values per row → values per image, zero where an image has fewer than R rows."""
        size = self.image_count * self.rows_per_image
        grouped = values.new_zeros(size, values.shape[1]).index_copy(0, self.position, values)
        return grouped.view(self.image_count, self.rows_per_image, -1)

    def ungroup(self, values: Float[Tensor, "B R X"]) -> Float[Tensor, "N X"]:
        """The inverse of `group`."""
        return values.flatten(0, 1).index_select(0, self.position)


def rows_of_captions(captions: PackedCaptions, images: int) -> RowsByImage:
    """One row per caption, in packed order; `images`: B, which counts images without captions too."""
    size = captions.captions_per_image
    return RowsByImage(captions.images, captions.images * size + captions.caption_indices, images, size)


def rows_of_words(captions: PackedCaptions, images: int) -> RowsByImage:
    """One row per token, in packed order: for computations over all tokens at once."""
    steps = len(captions.batch_sizes)
    captions_by_image = rows_of_captions(captions, images)
    image_of_token: Int[Tensor, " M"] = captions_by_image.images.index_select(0, captions.rows)
    position = captions_by_image.position.index_select(0, captions.rows) * steps + captions.steps_of_tokens()
    return RowsByImage(image_of_token, position, images, captions.captions_per_image * steps)


def words_by_caption(captions: PackedCaptions) -> RowsByImage:
    """One row per token, in packed order, grouped by caption instead of by image: (N, T, …), padded with zeros."""
    steps = len(captions.batch_sizes)
    position = captions.rows * steps + captions.steps_of_tokens()
    return RowsByImage(captions.rows, position, len(captions.images), steps)
