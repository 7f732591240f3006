"""A sheet of images with their captions and references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from captioner.files import write_atomically
from captioner.plots.canvas import GAP, MARGIN, Page, check_lengths, draw_captions, fit, pixels_of

MAX_CAPTIONS = 60  # on one sheet, which stays readable


def caption_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    path: str | Path,
    references: Sequence[Sequence[str]] | None = None,
    columns: int = 5,
) -> None:
    """Write a PNG file: images in rows of `columns`, each above its caption and its references.

    At most `MAX_CAPTIONS` images are drawn; the sheet says so where there are more.
    Raises OSError where `path` cannot be written, ValueError where the numbers of images and captions differ.
    """
    check_lengths(images, captions, references)
    count, width = min(len(images), MAX_CAPTIONS), 2.7
    columns = max(1, min(columns, count))
    page = Page(2 * MARGIN + columns * width + (columns - 1) * 2 * GAP)
    top = MARGIN
    if count < len(images):
        page.label(f"The first {count} of {len(images)} images.", MARGIN, top, 9, "left")
        top += 3 * GAP
    for start in range(0, count, columns):
        row = range(start, min(start + columns, count))
        tallest = max(fit(images[index], width, width)[1] for index in row)
        bottom = top
        for column, index in enumerate(row):
            left = MARGIN + column * (width + 2 * GAP)
            drawn_width, drawn_height = fit(images[index], width, width)
            pixels = pixels_of(images[index], drawn_width, drawn_height)
            page.image(pixels, left, top + tallest - drawn_height, drawn_width, drawn_height)
            below = references[index] if references is not None else ()
            bottom = max(bottom, draw_captions(page, captions[index], below, left, top + tallest + GAP, width))
        top = bottom + 2 * GAP
    write_atomically(Path(path), page.to_png(top))
