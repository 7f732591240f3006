"""A page of fixed width on which images and texts are placed, and which is written as one PNG file.

Lengths are in inches, measured from the page's top left corner. matplotlib is imported when a page is made.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioner.files import write_atomically

Pixels = NDArray[np.float32]
"""(height, width, 3), RGB in [0, 1]."""

DPI = 100
MARGIN = 0.3
GAP = 0.12
MAX_LINES = 12  # per text
MAX_REFERENCES = 10  # per image
_LONGEST = 400  # characters that are measured at once; more than fit into a line

DARK, GRAY, ACCENT = "#1a1a1a", "#666666", "#c2410c"
# For every character, the first installed font in this order that has it is used.
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


class Page:
    """A page of fixed width; its height is given when it is written. Positions and sizes are in inches."""

    def __init__(self, width: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width = width
        self.figure = Figure(figsize=(width, 1), dpi=DPI)
        self._renderer: Any = FigureCanvasAgg(self.figure).get_renderer()  # type: ignore[no-untyped-call]
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()

    def image(self, pixels: Pixels, left: float, top: float, width: float, height: float) -> None:
        """Draw pixels (rows, columns, 3) into a rectangle."""
        extent = (left, left + width, top + height, top)
        self._axes.imshow(np.clip(pixels, 0, 1), extent=extent, aspect="auto", interpolation="antialiased")

    def contour(
        self, values: NDArray[Any], level: float | None, left: float, top: float, width: float, height: float
    ) -> None:
        """Draw the contour at `level` of a map (rows, columns) that fills a rectangle; None: draw nothing."""
        if level is None:
            return
        rows, columns = values.shape
        x = left + (np.arange(columns) + 0.5) / columns * width
        y = top + (np.arange(rows) + 0.5) / rows * height
        self._axes.contour(x, y, values, levels=[level], colors="white", linewidths=1.0)

    def line(self, left: float, top: float, right: float, bottom: float, color: str = DARK) -> None:
        """Draw a straight line from (left, top) to (right, bottom)."""
        self._axes.plot([left, right], [top, bottom], color=color, linewidth=0.8)

    def rule(self, top: float) -> None:
        """Draw a thin line across the page."""
        self.line(MARGIN, top, self.width - MARGIN, top, "#dddddd")

    def label(self, text: str, at: float, top: float, size: float, align: str) -> None:
        """Draw one line of gray text, not wrapped; `align`: its "left", "center" or "right" end is `at`."""
        font = _font(size)
        self._axes.text(at, top, text, fontproperties=font, color=GRAY, ha=align, va="top", parse_math=False)

    def heading(self, word: str, note: str, left: float, top: float, width: float) -> None:
        """Draw a word, in smaller letters or cut where it is too long, and a small note at the right end of `width`."""
        self.label(note, left + width, top + 0.03, 6.5, "right")
        room = width - self._text_width(note, 6.5) - 0.06
        size, word = 9.0, word[:_LONGEST]
        while size > 6 and self._text_width(word, size, bold=True) > room:
            size -= 0.5
        while len(word) > 1 and self._text_width(word, size, bold=True) > room:
            word = word.removesuffix("…")[:-1] + "…"
        font = _font(size, bold=True)
        self._axes.text(left, top + 0.17, word, fontproperties=font, color=DARK, va="baseline", parse_math=False)

    def text(
        self, text: str, left: float, top: float, width: float, size: float, bold: bool = False, color: str = DARK
    ) -> float:
        """Draw text wrapped to `width`, at most `MAX_LINES` lines; returns its height."""
        line_height = 1.3 * size / 72
        lines = list(itertools.islice(self._wrap(text, width, size, bold), MAX_LINES + 1))
        if len(lines) > MAX_LINES:
            lines[MAX_LINES - 1 :] = [f"{lines[MAX_LINES - 1]} …"]
        for index, line in enumerate(lines):
            baseline = top + (index + 0.8) * line_height
            font = _font(size, bold)
            self._axes.text(left, baseline, line, fontproperties=font, color=color, va="baseline", parse_math=False)
        return len(lines) * line_height

    def to_png(self, height: float) -> bytes:
        """The page as the content of a PNG file, cut at `height`."""
        self.figure.set_size_inches(self.width, height)
        self._axes.set(xlim=(0, self.width), ylim=(height, 0))
        return figure_to_png(self.figure)

    def _text_width(self, text: str, size: float, bold: bool = False) -> float:
        with _ignore_missing_glyphs():
            return float(self._renderer.get_text_width_height_descent(text, _font(size, bold), False)[0]) / DPI

    def _wrap(self, text: str, width: float, size: float, bold: bool) -> Iterator[str]:
        """Lines that fit into `width`: broken at spaces, and inside words that are longer than a line."""
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
        """The word, split into as few parts as fit into `width`."""
        while len(word) > 1 and self._text_width(word[:_LONGEST], size, bold) > width:
            lengths = range(1, min(len(word), _LONGEST))
            fitting = bisect_right(lengths, width, key=lambda n: self._text_width(word[:n], size, bold))
            yield word[: max(1, fitting)]
            word = word[max(1, fitting) :]
        yield word


def draw_captions(page: Page, caption: str, references: Sequence[str], left: float, top: float, width: float) -> float:
    """Draw a caption and its references, wrapped; returns the lower edge."""
    top += page.text(caption or "(no words)", left, top, width, 10, bold=True) + 0.04
    for reference in references[:MAX_REFERENCES]:
        top += page.text(f"– {reference}", left, top, width, 8, color=GRAY) + 0.02
    return top


@functools.cache
def _font(size: float, bold: bool = False) -> Any:
    from matplotlib.font_manager import FontProperties, fontManager

    installed = {font.name for font in fontManager.ttflist}
    families = [name for name in _FONTS if name in installed]
    return FontProperties(family=families, size=size, weight="bold" if bold else "normal")


@contextlib.contextmanager
def _ignore_missing_glyphs() -> Iterator[None]:
    """Suppress matplotlib's warning for each character that no installed font has: it is drawn as a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from (current )?font")
        yield


def fit(image: Image.Image, width: float, height: float) -> tuple[float, float]:
    """The largest (width, height) in inches that fits into the given ones, with the image's aspect ratio."""
    scale = min(width / image.width, height / image.height)
    return image.width * scale, image.height * scale


def pixels_of(image: Image.Image, width: float, height: float) -> Pixels:
    """The image, resized to the pixels of a rectangle of this size in inches."""
    size = max(1, round(width * DPI)), max(1, round(height * DPI))
    pixels: Pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
    pixels /= 255
    return pixels


def check_lengths(images: Sequence[object], captions: Sequence[object], references: Sequence[object] | None) -> None:
    """ValueError unless there are as many captions (and references) as images, and at least one."""
    counts = {len(images), len(captions), len(captions) if references is None else len(references)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"expected as many captions (and references) as images, and at least one; got {counts}")


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a matplotlib figure to a PNG file, atomically."""
    write_atomically(Path(path), figure_to_png(figure))


def figure_to_png(figure: Any, dpi: int = DPI) -> bytes:
    """A matplotlib figure as the content of a PNG file; characters that no installed font has are drawn as boxes."""
    buffer = io.BytesIO()
    with _ignore_missing_glyphs():
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()
