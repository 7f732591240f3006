"""Attention maps: heat maps of attention weights over an image, and sheets with one per word."""

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
from captioner.plots.canvas import GAP, GRAY, MARGIN, Page, Pixels, check_lengths, draw_captions, fit, pixels_of

MAX_IMAGES = 12  # on one sheet
MAX_WORDS = 28  # panels per image
WORDS_PER_ROW = 7
SCALES = ("shared", "word")
_IMAGE_WIDTH = 3.0
_PANEL = 1.36  # side of the square that a word's panel fits into
_HEADING = 0.23  # height of the word above its panel
_SMALLEST_SENTINEL = 0.005  # sentinel weights above this are printed: they round to 0.01 or more


class CaptionLike(Protocol):
    """The attributes of a caption that a sheet needs; `captioner.inference.Caption` has them.

    attention: (T, rows, columns) attention weights of each of the T tokens over the image's regions. They sum to 1 per
    token, or to less with adaptive attention, whose sentinel has the rest. None for a model without attention.
    """

    @property
    def text(self) -> str: ...

    @property
    def tokens(self) -> Sequence[str]: ...

    @property
    def attention(self) -> NDArray[Any] | None: ...


@dataclass(frozen=True)
class _PanelStyle:
    """How the panels of a sheet are drawn."""

    largest: float | None  # the weight at the color scale's end, on all panels; None: the largest of each word
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
    A caption without attention gets its image and its text only. So does one whose regions have no known place, which
    are features made elsewhere without boxes. With boxes, a pixel has the largest weight of the boxes around it.
    At most `MAX_IMAGES` images are drawn; the sheet says so where there are more.
    Raises ConfigError for an unknown scale, ValueError where the numbers of images, captions and references differ.
    """
    choose("scale", scale, SCALES)
    check_lengths(images, captions, references)
    shown = captions[:MAX_IMAGES]
    maps = [weights for caption in shown if (weights := attention_maps(caption)) is not None]
    page = Page(2 * MARGIN + _IMAGE_WIDTH + 2 * GAP + WORDS_PER_ROW * (_PANEL + GAP))
    top = MARGIN
    if len(captions) > len(shown):
        page.label(f"The first {len(shown)} of {len(captions)} images.", MARGIN, top, 9, "left")
        top += 2 * GAP
    largest = max((float(weights.max()) for weights in maps), default=0.0)
    style = _PanelStyle(largest if scale == "shared" else None, contour, resize)
    if maps:
        has_sentinel = any(float(_sentinel_weights(weights).max()) > _SMALLEST_SENTINEL for weights in maps)
        top = _draw_scale(page, maps[0][0].size, style, has_sentinel)
    for index, caption in enumerate(shown):
        if index:
            page.rule(top)
            top += 2 * GAP
        image_references = references[index] if references is not None else ()
        top = _draw_block(page, top, images[index], caption, image_references, style) + 2 * GAP
    return page.to_png(top)


def attention_overlay(
    image: Pixels, weights: NDArray[Any], largest: float, resize: str = "squash", boxes: NDArray[Any] | None = None
) -> Pixels:
    """An image (height, width, 3), dimmed, with the attention weights (rows, columns) of one word over it.

    Regions with the uniform weight 1 / (rows · columns) are dimmed. Smaller weights are darker, down to 0; larger ones
    glow, up to `largest`. boxes: of the regions, see `spread_over_boxes`.
    """
    spread = _spread(weights, boxes, image.shape[0], image.shape[1], resize)
    return _color(image, spread, 1 / weights.size, largest)


def attention_maps(caption: CaptionLike) -> NDArray[Any] | None:
    """The attention of a caption that can be drawn; None without attention or where its regions have no known place."""
    weights = caption.attention
    if weights is None or not len(weights):
        return None
    has_place = boxes_of(caption) is not None or weights.shape[1] > 1 or weights.shape[2] == 1
    return weights if has_place else None


def boxes_of(caption: CaptionLike) -> NDArray[Any] | None:
    """The boxes of the regions of features made elsewhere, as fractions of the image; None for a grid."""
    boxes: NDArray[Any] | None = getattr(caption, "boxes", None)
    return boxes


def spread_over_boxes(weights: NDArray[Any], boxes: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """Weights of N regions as a map (height, width): at each pixel the largest weight of the boxes around it.

    boxes: (N, 4) left, top, right and bottom as fractions of the image; each covers one pixel at least.
    """
    spread = np.zeros((height, width), np.float32)
    scale = np.array([width, height, width, height])
    for weight, (left, top, right, bottom) in zip(
        weights.reshape(-1), np.round(boxes * scale).astype(int), strict=True
    ):
        left, top = min(left, width - 1), min(top, height - 1)
        part = spread[top : max(bottom, top + 1), left : max(right, left + 1)]
        np.maximum(part, weight, out=part)
    return spread


def _spread(
    weights: NDArray[Any], boxes: NDArray[Any] | None, height: int, width: int, resize: str
) -> NDArray[np.float32]:
    if boxes is not None:
        return spread_over_boxes(weights, boxes, height, width)
    return spread_attention(weights, height, width, resize)


def spread_attention(weights: NDArray[Any], height: int, width: int, resize: str = "squash") -> NDArray[np.float32]:
    """Weights (rows, columns) as a map (height, width), interpolated bilinearly between the centers of the regions.

    With resize="crop" they cover the central square, and the map is 0 outside of it.
    """
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
    """The level of the contour around the smallest area that holds this share of the map's sum.

    None where there is no such contour: the map is constant, or the area is all of it.
    """
    values = np.sort(spread, axis=None)[::-1].astype(np.float64)
    cumulative = np.cumsum(values)
    level = float(values[min(int(np.searchsorted(cumulative, share * cumulative[-1])), values.size - 1)])
    highest, lowest = float(values[0]), float(values[-1])
    return level if lowest < level < highest and highest - lowest > 1e-6 * highest else None


def _sentinel_weights(attention: NDArray[Any]) -> NDArray[Any]:
    """β of each word (T,): the weight of adaptive attention's sentinel, which the regions' weights lack to 1."""
    sentinel: NDArray[Any] = np.clip(1 - attention.sum(axis=(1, 2)), 0, 1)
    return sentinel


def _color(image: Pixels, weights: NDArray[np.float32], uniform: float, largest: float) -> Pixels:
    """Image (height, width, 3) under weights (height, width): gray and dim where they are small, bright where large."""
    below = np.clip(weights / uniform, 0, 1)[..., None]
    above = np.clip((weights - uniform) / max(largest - uniform, uniform), 0, 1)[..., None]
    gray = image @ np.array([[0.299], [0.587], [0.114]], np.float32)
    dimmed = (0.25 + 0.35 * below) * (0.6 * gray + 0.4 * image)
    heat = np.array([1.0, 0.25, 0.0], np.float32) + above * np.array([0.0, 0.65, 0.2], np.float32)
    opacity = 0.75 * np.sqrt(above)
    colored: Pixels = ((1 - opacity) * dimmed + opacity * (0.3 * image + 0.7) * heat).astype(np.float32)
    return colored


def _draw_scale(page: Page, regions: int, style: _PanelStyle, has_sentinel: bool) -> float:
    """Draw the sheet's color scale at its top right; returns its lower edge."""
    uniform = 1 / regions
    top = 4 * uniform if style.largest is None else max(style.largest, 2 * uniform)
    width, height, left = 4.0, 0.16, page.width - MARGIN - 4.0
    strip = np.broadcast_to(np.linspace(0, top, 400, dtype=np.float32), (16, 400))
    page.image(_color(np.full((16, 400, 3), 0.75, np.float32), strip, uniform, top), left, MARGIN, width, height)
    end = f"{top:.2f}" if style.largest is not None else f"the word's largest, at least 2/{regions}"
    ticks = (
        (0.0, "0", "right"),
        (uniform, f"uniform 1/{regions}", "left"),
        (top, end, "center" if style.largest else "right"),
    )
    for weight, label, align in ticks:
        at = left + width * weight / top
        page.line(at, MARGIN - 0.03, at, MARGIN + height + 0.03)
        page.label(label, at, MARGIN + height + 0.06, 7, align)
    notes = ["attention weight of a region; above each panel: the largest"]
    if has_sentinel:
        notes[0] += ", and β, the sentinel's weight"
    if style.largest is None:
        notes.append("each word has its own scale: compare regions, not words")
    if style.contour is not None:
        notes.append(f"line: the smallest area with {100 * style.contour:.0f} % of a word's attention")
    for line, note in enumerate(notes):
        page.label(note, left - 0.15, MARGIN + 0.16 * line, 8, "right")
    return MARGIN + max(height + 0.4, 0.16 * len(notes) + 0.2)


def _draw_block(
    page: Page, top: float, image: Image.Image, caption: CaptionLike, references: Sequence[str], style: _PanelStyle
) -> float:
    """Draw one image, its texts and one panel per word; returns the lower edge."""
    width, height = fit(image, _IMAGE_WIDTH, _IMAGE_WIDTH)
    page.image(pixels_of(image, width, height), MARGIN, top, width, height)
    right = MARGIN + _IMAGE_WIDTH + 2 * GAP
    maps, boxes = attention_maps(caption), boxes_of(caption)
    if maps is None:
        text_width = page.width - right - MARGIN
        return max(top + height, draw_captions(page, caption.text, references, right, top, text_width))
    bottom = draw_captions(page, caption.text, references, MARGIN, top + height + GAP, _IMAGE_WIDTH)

    panel_width, panel_height = fit(image, _PANEL, _PANEL)
    pixels = pixels_of(image, panel_width, panel_height)
    words = list(zip(caption.tokens, maps, _sentinel_weights(maps), strict=True))
    for index, (word, weights, sentinel) in enumerate(words[:MAX_WORDS]):
        row, column = divmod(index, WORDS_PER_ROW)
        left, panel_top = right + column * (_PANEL + GAP), top + row * (_HEADING + panel_height + GAP)
        note = f"{weights.max():.2f}" + (f" β{sentinel:.2f}" if sentinel > _SMALLEST_SENTINEL else "")
        page.heading(word, note, left, panel_top, _PANEL)
        overlay = attention_overlay(pixels, weights, style.largest or float(weights.max()), style.resize, boxes)
        page.image(overlay, left, panel_top + _HEADING, panel_width, panel_height)
        if style.contour is not None:
            spread = _spread(weights, boxes, pixels.shape[0], pixels.shape[1], style.resize)
            level = contour_level(spread, style.contour)
            page.contour(spread, level, left, panel_top + _HEADING, panel_width, panel_height)
        bottom = max(bottom, panel_top + _HEADING + panel_height)
    if len(words) > MAX_WORDS:
        bottom += page.text(f"… and {len(words) - MAX_WORDS} more words", right, bottom + 0.05, 4, 8, color=GRAY)
    return bottom
