"""Where attention looked at each word: heat maps over the image, and sheets of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioner.errors import choose
from captioner.files import write_atomically
from captioner.plots.canvas import GAP, GREY, MARGIN, Page, Pixels, check_lengths, draw_captions, fit, pixels_of

MOST_IMAGES = 12  # on one sheet
MOST_WORDS = 28  # panels an image
WORDS_A_ROW = 7
SCALES = ("shared", "word")
_IMAGE_WIDTH = 3.0
_PANEL = 1.36  # a word's panel fits into a square of this size
_HEADING = 0.23  # the word above it
_LOOKED_AWAY = 0.005  # of a word's attention: what rounds to 0.01 is worth a note


class CaptionLike(Protocol):
    """What a sheet needs to know of a caption; `captioner.inference.Caption` is one.

    attention: (T, rows, columns), the weights of each of the T tokens over the grid, each summing to 1, or to less
    where a sentinel has the rest (adaptive attention); or None.
    """

    @property
    def text(self) -> str: ...

    @property
    def tokens(self) -> Sequence[str]: ...

    @property
    def attention(self) -> NDArray[Any] | None: ...


@dataclass(frozen=True)
class _Look:
    """How the panels of a sheet are drawn."""

    largest: float | None  # the weight that glows most, on all panels; None: each word's own largest
    contour: float | None
    resize: str


def attention_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[CaptionLike],
    path: str | Path,
    references: Sequence[Sequence[str]] | None = None,
    resize: str = "squash",
    *,
    scale: str = "shared",
    contour: float | None = None,
) -> None:
    """Write `draw_attention_sheet` to a PNG file. Raises OSError where `path` cannot be written."""
    png = draw_attention_sheet(images, captions, references, resize, scale=scale, contour=contour)
    write_atomically(Path(path), png)


def draw_attention_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[CaptionLike],
    references: Sequence[Sequence[str]] | None = None,
    resize: str = "squash",
    *,
    scale: str = "shared",
    contour: float | None = None,
) -> bytes:
    """Each image with its caption, its references and one panel per word: the attention weights over the image; as PNG.

    Uniform attention leaves an image evenly dimmed. Regions with less are darker, regions with more glow. The color
    scale is at the top. With scale="shared" all panels have the same one, so that words can be compared; with "word"
    each panel has its own, which shows where a word attends even if its attention is nearly uniform.
    contour: also draw a line around the smallest area that holds this share of a word's attention.
    resize: the encoder's (`EncoderConfig.resize`); with "crop" the regions cover the central square only.
    A caption without attention gets its image and its text only.
    At most `MOST_IMAGES` images are drawn; the sheet says so where there are more.
    Raises ConfigError for an unknown scale, ValueError where the numbers of images, captions and references differ.
    """
    choose("scale", scale, SCALES)
    check_lengths(images, captions, references)
    shown = captions[:MOST_IMAGES]
    maps = [caption.attention for caption in shown if caption.attention is not None and len(caption.attention)]
    page = Page(2 * MARGIN + _IMAGE_WIDTH + 2 * GAP + WORDS_A_ROW * (_PANEL + GAP))
    top = MARGIN
    if len(captions) > len(shown):
        page.label(f"The first {len(shown)} of {len(captions)} images.", MARGIN, top, 9, "left")
        top += 2 * GAP
    largest = max((float(weights.max()) for weights in maps), default=0.0)
    look = _Look(largest if scale == "shared" else None, contour, resize)
    if maps:
        has_sentinel = any(float(_looked_away(weights).max()) > _LOOKED_AWAY for weights in maps)
        top = _draw_scale(page, maps[0][0].size, look, has_sentinel)
    for index, caption in enumerate(shown):
        if index:
            page.rule(top)
            top += 2 * GAP
        image_references = references[index] if references is not None else ()
        top = _draw_block(page, top, images[index], caption, image_references, look) + 2 * GAP
    return page.to_png(top)


def attention_overlay(image: Pixels, weights: NDArray[Any], largest: float, resize: str = "squash") -> Pixels:
    """The image, dimmed, with the attention weights (rows, columns) of one word over it.

    A weight of 1 / cells (uniform) leaves the image dimmed; from there it darkens down to weight 0 and glows up to
    weight `largest`.
    """
    return _color(image, spread_attention(weights, image.shape[0], image.shape[1], resize), 1 / weights.size, largest)


def spread_attention(weights: NDArray[Any], height: int, width: int, resize: str = "squash") -> NDArray[np.float32]:
    """(rows, columns) weights at an image's own size, between the cells' centres bilinearly; 0 outside the crop."""
    spread = np.zeros((height, width), np.float32)
    side = min(height, width)
    rows, columns = (height, width) if resize == "squash" else (side, side)
    top, left = (height - rows) // 2, (width - columns) // 2
    grid = Image.fromarray(np.ascontiguousarray(weights, dtype=np.float32))
    spread[top : top + rows, left : left + columns] = np.asarray(
        grid.resize((columns, rows), Image.Resampling.BILINEAR)
    )
    return spread


def contour_level(spread: NDArray[np.float32], share: float) -> float | None:
    """The value above which lies the smallest part of the map that holds this share of it; None where no line is."""
    values = np.sort(spread, axis=None)[::-1].astype(np.float64)
    held = np.cumsum(values)
    level = float(values[min(int(np.searchsorted(held, share * held[-1])), values.size - 1)])
    highest, lowest = float(values[0]), float(values[-1])
    return level if lowest < level < highest and highest - lowest > 1e-6 * highest else None


def _looked_away(attention: NDArray[Any]) -> NDArray[Any]:
    """β of each word: what its weights lack of 1."""
    away: NDArray[Any] = np.clip(1 - attention.sum(axis=(1, 2)), 0, 1)
    return away


def _color(image: Pixels, weights: NDArray[np.float32], uniform: float, largest: float) -> Pixels:
    """Image (height, width, 3) under weights (height, width): grey and dim where they are small, hot where large."""
    below = np.clip(weights / uniform, 0, 1)[..., None]
    above = np.clip((weights - uniform) / max(largest - uniform, uniform), 0, 1)[..., None]
    grey = image @ np.array([[0.299], [0.587], [0.114]], np.float32)
    dimmed = (0.25 + 0.35 * below) * (0.6 * grey + 0.4 * image)
    heat = np.array([1.0, 0.25, 0.0], np.float32) + above * np.array([0.0, 0.65, 0.2], np.float32)
    opacity = 0.75 * np.sqrt(above)
    colored: Pixels = ((1 - opacity) * dimmed + opacity * (0.3 * image + 0.7) * heat).astype(np.float32)
    return colored


def _draw_scale(page: Page, cells: int, look: _Look, has_sentinel: bool) -> float:
    """The color scale, once a sheet, at its top right; returns where the drawing below it may start."""
    uniform = 1 / cells
    top = 4 * uniform if look.largest is None else max(look.largest, 2 * uniform)
    width, height, left = 4.0, 0.16, page.width - MARGIN - 4.0
    strip = np.broadcast_to(np.linspace(0, top, 400, dtype=np.float32), (16, 400))
    page.image(_color(np.full((16, 400, 3), 0.75, np.float32), strip, uniform, top), left, MARGIN, width, height)
    end = f"{top:.2f}" if look.largest is not None else f"the word's largest, at least 2/{cells}"
    ticks = (
        (0.0, "0", "right"),
        (uniform, f"uniform 1/{cells}", "left"),
        (top, end, "center" if look.largest else "right"),
    )
    for weight, label, align in ticks:
        at = left + width * weight / top
        page.line(at, MARGIN - 0.03, at, MARGIN + height + 0.03)
        page.label(label, at, MARGIN + height + 0.06, 7, align)
    notes = ["attention weight of a grid cell; above each word: its largest"]
    if has_sentinel:
        notes[0] += ", and β, the sentinel's"
    if look.largest is None:
        notes.append("each word has a scale of its own: compare places, not words")
    if look.contour is not None:
        notes.append(f"line: around {100 * look.contour:.0f} % of a word's attention on the image")
    for number, note in enumerate(notes):
        page.label(note, left - 0.15, MARGIN + 0.16 * number, 8, "right")
    return MARGIN + max(height + 0.4, 0.16 * len(notes) + 0.2)


def _draw_block(
    page: Page, top: float, image: Image.Image, caption: CaptionLike, references: Sequence[str], look: _Look
) -> float:
    """One image, its texts and its words' panels; returns the lower edge."""
    width, height = fit(image, _IMAGE_WIDTH, _IMAGE_WIDTH)
    page.image(pixels_of(image, width, height), MARGIN, top, width, height)
    right = MARGIN + _IMAGE_WIDTH + 2 * GAP
    if caption.attention is None or not len(caption.attention):
        text_width = page.width - right - MARGIN
        return max(top + height, draw_captions(page, caption.text, references, right, top, text_width))
    bottom = draw_captions(page, caption.text, references, MARGIN, top + height + GAP, _IMAGE_WIDTH)

    panel_width, panel_height = fit(image, _PANEL, _PANEL)
    pixels = pixels_of(image, panel_width, panel_height)
    words = list(zip(caption.tokens, caption.attention, _looked_away(caption.attention), strict=True))
    for index, (word, weights, away) in enumerate(words[:MOST_WORDS]):
        row, column = divmod(index, WORDS_A_ROW)
        left, panel_top = right + column * (_PANEL + GAP), top + row * (_HEADING + panel_height + GAP)
        note = f"{weights.max():.2f}" + (f" β{away:.2f}" if away > _LOOKED_AWAY else "")
        page.heading(word, note, left, panel_top, _PANEL)
        overlay = attention_overlay(pixels, weights, look.largest or float(weights.max()), look.resize)
        page.image(overlay, left, panel_top + _HEADING, panel_width, panel_height)
        if look.contour is not None:
            spread = spread_attention(weights, pixels.shape[0], pixels.shape[1], look.resize)
            level = contour_level(spread, look.contour)
            page.contour(spread, level, left, panel_top + _HEADING, panel_width, panel_height)
        bottom = max(bottom, panel_top + _HEADING + panel_height)
    if len(words) > MOST_WORDS:
        bottom += page.text(f"… and {len(words) - MOST_WORDS} more words", right, bottom + 0.05, 4, 8, color=GREY)
    return bottom
