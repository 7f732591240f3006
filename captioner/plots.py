"""Pictures to look at: where attention looked, captions beside their photos, and how training went.

Pure functions from data to one PNG file, drawn without a display and without touching matplotlib's global state.
matplotlib is imported when something is drawn, not with this module.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioner.config import MONITORS
from captioner.errors import CaptionerError
from captioner.files import write_atomically

Pixels = NDArray[np.float32]
"""(height, width, 3), RGB in [0, 1]."""

DPI = 100
# Bounds, so that a folder of a thousand pictures does not become a poster.
MOST_PICTURES = 12  # on one attention sheet
MOST_CAPTIONS = 60  # on one caption sheet
MOST_WORDS = 28  # panels a picture
MOST_REFERENCES = 10  # a picture
MOST_LINES = 12  # a text
_LONGEST = 400  # characters that are measured at once; no line holds more
WORDS_A_ROW = 7

# Lengths on a sheet are in inches, measured from its top left corner.
_MARGIN = 0.3
_GAP = 0.12
_PICTURE_WIDTH = 3.0
_PANEL = 1.36  # a word's panel fits into a square of this size
_HEADING = 0.23  # the word above it

_DARK, _GREY, _ACCENT = "#1a1a1a", "#666666", "#c2410c"
# Tried in this order for every character; whichever of them are installed.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Devanagari",
    "Noto Sans Arabic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "PingFang SC",
    "Arial Unicode MS",
)


class CaptionLike(Protocol):
    """What a sheet needs to know of a caption; `captioner.inference.Caption` is one.

    attention: (T, rows, columns), the weights of each of the T tokens over the grid, each summing to 1; or None.
    """

    @property
    def text(self) -> str: ...

    @property
    def tokens(self) -> Sequence[str]: ...

    @property
    def attention(self) -> NDArray[Any] | None: ...


def attention_sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[CaptionLike],
    path: str | Path,
    references: Sequence[Sequence[str]] | None = None,
    resize: str = "squash",
) -> None:
    """Write a PNG: each picture with its caption and references, then, word by word, where attention looked.

    All panels share one colour scale, drawn once at the top: uniform attention leaves a picture evenly dimmed, what got
    less is darker, what got more glows. A caption without attention gets its picture and its text only.
    `resize` is the encoder's (`EncoderConfig.resize`): with "crop" the grid covers the central square only.
    At most `MOST_PICTURES` pictures are drawn; the sheet says so where there are more.
    Raises OSError where `path` cannot be written.
    """
    _check_lengths(pictures, captions, references)
    shown = captions[:MOST_PICTURES]
    maps = [caption.attention for caption in shown if caption.attention is not None and len(caption.attention)]
    sheet = _Sheet(2 * _MARGIN + _PICTURE_WIDTH + 2 * _GAP + WORDS_A_ROW * (_PANEL + _GAP))
    top = _MARGIN
    if len(captions) > len(shown):
        sheet.label(f"The first {len(shown)} of {len(captions)} pictures.", _MARGIN, top, 9, "left")
        top += 2 * _GAP
    largest = max((float(weights.max()) for weights in maps), default=0.0)
    if maps:
        top = _draw_scale(sheet, maps[0][0].size, largest)
    for index, caption in enumerate(shown):
        if index:
            sheet.rule(top)
            top += 2 * _GAP
        picture_references = references[index] if references is not None else ()
        top = _draw_block(sheet, top, pictures[index], caption, picture_references, largest, resize) + 2 * _GAP
    sheet.save(path, top)


def caption_sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    path: str | Path,
    references: Sequence[Sequence[str]] | None = None,
    columns: int = 5,
) -> None:
    """Write a PNG: pictures in rows of `columns`, each with its caption below and its references below that.

    At most `MOST_CAPTIONS` pictures are drawn; the sheet says so where there are more.
    Raises OSError where `path` cannot be written.
    """
    _check_lengths(pictures, captions, references)
    count, width = min(len(pictures), MOST_CAPTIONS), 2.7
    columns = max(1, min(columns, count))
    sheet = _Sheet(2 * _MARGIN + columns * width + (columns - 1) * 2 * _GAP)
    top = _MARGIN
    if count < len(pictures):
        sheet.label(f"The first {count} of {len(pictures)} pictures.", _MARGIN, top, 9, "left")
        top += 3 * _GAP
    for start in range(0, count, columns):
        row = range(start, min(start + columns, count))
        tallest = max(_fit(pictures[index], width, width)[1] for index in row)
        bottom = top
        for column, index in enumerate(row):
            left = _MARGIN + column * (width + 2 * _GAP)
            drawn_width, drawn_height = _fit(pictures[index], width, width)
            pixels = _pixels(pictures[index], drawn_width, drawn_height)
            sheet.picture(pixels, left, top + tallest - drawn_height, drawn_width, drawn_height)
            below = references[index] if references is not None else ()
            bottom = max(bottom, _draw_captions(sheet, captions[index], below, left, top + tallest + _GAP, width))
        top = bottom + 2 * _GAP
    sheet.save(path, top)


def training_curves(log_records: Sequence[Mapping[str, Any]], path: str | Path, monitor: str = "CIDEr") -> None:
    """Write a PNG: the training loss, and the scores of generated validation captions, by optimizer step.

    `log_records` are a run's `log.jsonl`: {"kind": "train" | "validation", "step": …, …}. `monitor` is the score that
    chose the best checkpoint; it is drawn on top, and its best value is marked.
    """
    from matplotlib.figure import Figure

    train = [record for record in log_records if record.get("kind") == "train" and "loss" in record]
    validation = [record for record in log_records if record.get("kind") == "validation"]
    if not train and not validation:
        raise CaptionerError("There is nothing to draw yet: the log has no training step and no validation.")
    figure = Figure(figsize=(9, 7), dpi=DPI, layout="constrained")
    loss_axes, score_axes = figure.subplots(2, 1, sharex=True)
    loss_axes.plot([record["step"] for record in train], [record["loss"] for record in train], color=_DARK, linewidth=1)
    loss_axes.set_ylabel("training loss")
    scores = [name for name in (monitor, *MONITORS) if any(name in record for record in validation)]
    for name in dict.fromkeys(scores):
        points = [(record["step"], record[name]) for record in validation if name in record]
        chosen = {"color": _ACCENT, "linewidth": 2, "zorder": 3} if name == monitor else {"linewidth": 1}
        score_axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name, **chosen)
        if name == monitor:
            step, best = max(points, key=lambda point: point[1])
            score_axes.plot(step, best, "*", color=_ACCENT, markersize=13, zorder=3)
            score_axes.set_title(f"best {name} {best:.3f} at step {step}", fontsize=10, color=_ACCENT)
    if scores:
        score_axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    score_axes.set_ylabel("validation score")
    score_axes.set_xlabel("optimizer step")
    for axes in (loss_axes, score_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    _save(figure, path)


def attention_overlay(picture: Pixels, weights: NDArray[Any], largest: float, resize: str = "squash") -> Pixels:
    """The picture, dimmed, with the attention weights (rows, columns) of one word over it.

    A weight of 1 / cells (uniform) leaves the picture dimmed; from there it darkens down to weight 0 and glows up to
    weight `largest`. The weights are spread over the picture bilinearly.
    """
    height, width = picture.shape[:2]
    spread = np.zeros((height, width), np.float32)
    side = min(height, width)
    rows, columns = (height, width) if resize == "squash" else (side, side)
    top, left = (height - rows) // 2, (width - columns) // 2
    grid = Image.fromarray(np.ascontiguousarray(weights, dtype=np.float32))
    over = grid.resize((columns, rows), Image.Resampling.BILINEAR)
    spread[top : top + rows, left : left + columns] = np.asarray(over)
    return _colour(picture, spread, 1 / weights.size, largest)


def _colour(picture: Pixels, weights: NDArray[np.float32], uniform: float, largest: float) -> Pixels:
    """Picture (height, width, 3) under weights (height, width): grey and dim where they are small, hot where large."""
    below = np.clip(weights / uniform, 0, 1)[..., None]
    above = np.clip((weights - uniform) / max(largest - uniform, uniform), 0, 1)[..., None]
    grey = picture @ np.array([[0.299], [0.587], [0.114]], np.float32)
    dimmed = (0.25 + 0.35 * below) * (0.6 * grey + 0.4 * picture)
    heat = np.array([1.0, 0.25, 0.0], np.float32) + above * np.array([0.0, 0.65, 0.2], np.float32)
    opacity = 0.75 * np.sqrt(above)
    coloured: Pixels = ((1 - opacity) * dimmed + opacity * (0.3 * picture + 0.7) * heat).astype(np.float32)
    return coloured


def _draw_scale(sheet: _Sheet, cells: int, largest: float) -> float:
    """The colour scale, once a sheet, at its top right; returns where the drawing below it may start."""
    uniform = 1 / cells
    top = max(largest, 2 * uniform)
    width, height, left = 4.0, 0.16, sheet.width - _MARGIN - 4.0
    strip = np.broadcast_to(np.linspace(0, top, 400, dtype=np.float32), (16, 400))
    sheet.picture(_colour(np.full((16, 400, 3), 0.75, np.float32), strip, uniform, top), left, _MARGIN, width, height)
    ticks = ((0.0, "0", "right"), (uniform, f"uniform 1/{cells}", "left"), (top, f"{top:.2f}", "center"))
    for weight, label, align in ticks:
        at = left + width * weight / top
        sheet.line(at, _MARGIN - 0.03, at, _MARGIN + height + 0.03)
        sheet.label(label, at, _MARGIN + height + 0.06, 7, align)
    sheet.label("attention weight of a grid cell; above each word: its largest", left - 0.15, _MARGIN, 8, "right")
    return _MARGIN + height + 0.4


def _draw_block(
    sheet: _Sheet,
    top: float,
    picture: Image.Image,
    caption: CaptionLike,
    references: Sequence[str],
    largest: float,
    resize: str,
) -> float:
    """One picture, its texts and its words' panels; returns the lower edge."""
    width, height = _fit(picture, _PICTURE_WIDTH, _PICTURE_WIDTH)
    sheet.picture(_pixels(picture, width, height), _MARGIN, top, width, height)
    right = _MARGIN + _PICTURE_WIDTH + 2 * _GAP
    if caption.attention is None or not len(caption.attention):
        text_width = sheet.width - right - _MARGIN
        return max(top + height, _draw_captions(sheet, caption.text, references, right, top, text_width))
    bottom = _draw_captions(sheet, caption.text, references, _MARGIN, top + height + _GAP, _PICTURE_WIDTH)

    panel_width, panel_height = _fit(picture, _PANEL, _PANEL)
    pixels = _pixels(picture, panel_width, panel_height)
    words = list(zip(caption.tokens, caption.attention, strict=True))
    for index, (word, weights) in enumerate(words[:MOST_WORDS]):
        row, column = divmod(index, WORDS_A_ROW)
        left, panel_top = right + column * (_PANEL + _GAP), top + row * (_HEADING + panel_height + _GAP)
        sheet.heading(word, f"{weights.max():.2f}", left, panel_top, _PANEL)
        overlay = attention_overlay(pixels, weights, largest, resize)
        sheet.picture(overlay, left, panel_top + _HEADING, panel_width, panel_height)
        bottom = max(bottom, panel_top + _HEADING + panel_height)
    if len(words) > MOST_WORDS:
        bottom += sheet.text(f"… and {len(words) - MOST_WORDS} more words", right, bottom + 0.05, 4, 8, colour=_GREY)
    return bottom


def _draw_captions(
    sheet: _Sheet, caption: str, references: Sequence[str], left: float, top: float, width: float
) -> float:
    """A caption and its references, wrapped; returns the lower edge."""
    top += sheet.text(caption or "(no words)", left, top, width, 10, bold=True) + 0.04
    for reference in references[:MOST_REFERENCES]:
        top += sheet.text(f"– {reference}", left, top, width, 8, colour=_GREY) + 0.02
    return top


class _Sheet:
    """A page of fixed width and of whatever height it needs: pictures and texts put down at places in inches."""

    def __init__(self, width: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width = width
        self.figure = Figure(figsize=(width, 1), dpi=DPI)
        self._renderer: Any = FigureCanvasAgg(self.figure).get_renderer()  # type: ignore[no-untyped-call]
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()

    def picture(self, pixels: Pixels, left: float, top: float, width: float, height: float) -> None:
        extent = (left, left + width, top + height, top)
        self._axes.imshow(np.clip(pixels, 0, 1), extent=extent, aspect="auto", interpolation="antialiased")

    def line(self, left: float, top: float, right: float, bottom: float, colour: str = _DARK) -> None:
        self._axes.plot([left, right], [top, bottom], color=colour, linewidth=0.8)

    def rule(self, top: float) -> None:
        """A thin line across the page."""
        self.line(_MARGIN, top, self.width - _MARGIN, top, "#dddddd")

    def label(self, text: str, at: float, top: float, size: float, align: str) -> None:
        """One line of grey text, unwrapped."""
        font = _font(size)
        self._axes.text(at, top, text, fontproperties=font, color=_GREY, ha=align, va="top", parse_math=False)

    def heading(self, word: str, note: str, left: float, top: float, width: float) -> None:
        """A word, in smaller letters where it is too long, and a small note at the right end of `width`."""
        self.label(note, left + width, top + 0.03, 6.5, "right")
        room = width - self._text_width(note, 6.5) - 0.06
        size, word = 9.0, word[:_LONGEST]
        while size > 6 and self._text_width(word, size, bold=True) > room:
            size -= 0.5
        while len(word) > 1 and self._text_width(word, size, bold=True) > room:
            word = word.removesuffix("…")[:-1] + "…"
        font = _font(size, bold=True)
        self._axes.text(left, top + 0.17, word, fontproperties=font, color=_DARK, va="baseline", parse_math=False)

    def text(
        self, text: str, left: float, top: float, width: float, size: float, bold: bool = False, colour: str = _DARK
    ) -> float:
        """Text wrapped to `width`, at most `MOST_LINES` lines; returns the height it takes."""
        line_height = 1.3 * size / 72
        lines = list(itertools.islice(self._wrap(text, width, size, bold), MOST_LINES + 1))
        if len(lines) > MOST_LINES:
            lines[MOST_LINES - 1 :] = [f"{lines[MOST_LINES - 1]} …"]
        for index, line in enumerate(lines):
            baseline = top + (index + 0.8) * line_height
            font = _font(size, bold)
            self._axes.text(left, baseline, line, fontproperties=font, color=colour, va="baseline", parse_math=False)
        return len(lines) * line_height

    def save(self, path: str | Path, height: float) -> None:
        """Write the page as PNG, cut at `height`."""
        self.figure.set_size_inches(self.width, height)
        self._axes.set(xlim=(0, self.width), ylim=(height, 0))
        _save(self.figure, path)

    def _text_width(self, text: str, size: float, bold: bool = False) -> float:
        with _missing_glyphs_are_boxes():
            return float(self._renderer.get_text_width_height_descent(text, _font(size, bold), False)[0]) / DPI

    def _wrap(self, text: str, width: float, size: float, bold: bool) -> Iterator[str]:
        """Lines that fit into `width`: broken at spaces, and inside a word where it alone is too long."""
        space = self._text_width("a a", size, bold) - self._text_width("aa", size, bold)
        line: list[str] = []
        used = 0.0
        for word in text.split():
            for part in self._split(word, width, size, bold):
                needed = self._text_width(part, size, bold)
                if line and used + space + needed > width:
                    yield " ".join(line)
                    line, used = [], 0.0
                used += needed + (space if line else 0)
                line.append(part)
        if line:
            yield " ".join(line)

    def _split(self, word: str, width: float, size: float, bold: bool) -> Iterator[str]:
        """The word, in as few parts as fit into `width`."""
        while len(word) > 1 and self._text_width(word[:_LONGEST], size, bold) > width:
            lengths = range(1, min(len(word), _LONGEST))
            fitting = bisect_right(lengths, width, key=lambda n: self._text_width(word[:n], size, bold))
            yield word[: max(1, fitting)]
            word = word[max(1, fitting) :]
        yield word


@functools.cache
def _font(size: float, bold: bool = False) -> Any:
    from matplotlib.font_manager import FontProperties, fontManager

    installed = {font.name for font in fontManager.ttflist}
    families = [name for name in _FONTS if name in installed]
    return FontProperties(family=families, size=size, weight="bold" if bold else "normal")


@contextlib.contextmanager
def _missing_glyphs_are_boxes() -> Iterator[None]:
    """No warning for each character that no installed font has: it is drawn as a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def _fit(picture: Image.Image, width: float, height: float) -> tuple[float, float]:
    """(width, height) in inches: as large as fits into the given ones, with the picture's aspect."""
    scale = min(width / picture.width, height / picture.height)
    return picture.width * scale, picture.height * scale


def _pixels(picture: Image.Image, width: float, height: float) -> Pixels:
    """The picture at the size it is drawn."""
    size = max(1, round(width * DPI)), max(1, round(height * DPI))
    pixels: Pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
    pixels /= 255
    return pixels


def _check_lengths(pictures: Sequence[object], captions: Sequence[object], references: Sequence[object] | None) -> None:
    counts = {len(pictures), len(captions), len(captions) if references is None else len(references)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"expected as many captions (and references) as pictures, and at least one; got {counts}")


def _save(figure: Any, path: str | Path) -> None:
    buffer = io.BytesIO()
    with _missing_glyphs_are_boxes():
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    write_atomically(Path(path), buffer.getvalue())
