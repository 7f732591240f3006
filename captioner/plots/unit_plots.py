"""Values of a unit over a text as colored characters (PNG and HTML), and plots of how often gates are saturated.

Karpathy, Johnson & Li 2015, "Visualizing and Understanding Recurrent Networks", figures 2 and 3. Colors run from red
(lowest value) over white to blue (highest value). matplotlib is imported when something is drawn, not with this module.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from captioner.files import write_atomically
from captioner.plots.canvas import figure_to_png

RED, BLUE = (178, 24, 43), (33, 102, 172)
COLUMNS = 100  # characters per line
MAX_LINES = 120  # lines of the PNG file; the HTML page has all of them
DPI = 110
_CHARACTER_WIDTH, _LINE_HEIGHT, _HEADER = 0.085, 0.165, 0.5  # inches
_SUBSTITUTES = {"\n": "↵", "\t": "→   ", "\r": "␍"}
_FONTS = ("DejaVu Sans Mono", "Noto Sans Mono CJK SC", "Noto Sans CJK SC", "DejaVu Sans")  # the installed ones are used


class Piece(NamedTuple):
    """A token as it is drawn, and its scaled value in [−1, 1]; None for a blank between words."""

    text: str
    value: float | None


class Scale(NamedTuple):
    """The values that are drawn in full red (`low`) and in full blue (`high`)."""

    low: float
    high: float

    def apply(self, values: Sequence[float]) -> list[float]:
        """Scale values linearly to [−1, 1] and clip them; all 0 where low = high."""
        if self.high <= self.low:
            return [0.0] * len(values)
        scaled = 2 * (np.asarray(values, dtype=np.float64) - self.low) / (self.high - self.low) - 1
        clipped: list[float] = np.clip(scaled, -1, 1).tolist()
        return clipped


UNIT_SCALE = Scale(-1.0, 1.0)


def percentile_scale(values: Sequence[float]) -> Scale:
    """The scale from the 1st to the 99th percentile: suits a unit that counts as well as one that switches."""
    low, high = np.percentile(np.asarray(values, dtype=np.float64), [1, 99])
    return Scale(float(low), float(high))


class GateSaturation(Protocol):
    """Saturation of a gate's H units: fractions (H,) of steps below 0.1 (`left`) and above 0.9 (`right`)."""

    @property
    def left(self) -> Any: ...

    @property
    def right(self) -> Any: ...


def layout_lines(
    tokens: Sequence[str], values: Sequence[float], *, separator: str = "", starts: Sequence[int] = ()
) -> list[list[Piece]]:
    """Arrange tokens and their scaled values in lines of at most `COLUMNS` characters.

    A line break token ends a line. separator: drawn between two tokens of a line, such as a blank between words.
    starts: indices of tokens that begin a new line.
    """
    lines: list[list[Piece]] = [[]]
    width, new = 0, set(starts)
    for i, (token, value) in enumerate(zip(tokens, values, strict=True)):
        text = _SUBSTITUTES.get(token, token if token.isprintable() else "·")
        if lines[-1] and (i in new or width + len(separator) + len(text) > COLUMNS):
            lines.append([])
            width = 0
        if lines[-1] and separator:
            lines[-1].append(Piece(separator, None))
            width += len(separator)
        lines[-1].append(Piece(text, value))
        width += len(text)
        if token == "\n":
            lines.append([])
            width = 0
    return [line for line in lines if line]


def color(value: float | None) -> tuple[int, int, int]:
    """RGB of a scaled value: red for −1 and below, white for 0 and None, blue for +1 and above."""
    strength = min(1.0, abs(value or 0.0))
    end = BLUE if (value or 0.0) > 0 else RED
    red, green, blue = (round(255 + strength * (part - 255)) for part in end)
    return red, green, blue


def write_html(
    lines: Sequence[Sequence[Piece]], path: Path, title: str, note: str = "", scale: Scale = UNIT_SCALE
) -> None:
    """Write a self-contained HTML page; a token's value is shown when the mouse points at it."""
    body = "\n".join("".join(_span(piece, scale) for piece in line) for line in lines)
    legend = "".join(
        _span(Piece(f" {_unscale(value, scale):+.2f} ", value), scale) for value in (-1.0, -0.5, 0.0, 0.5, 1.0)
    )
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        "<style>body{font-family:sans-serif;margin:2em}pre{font:14px/1.45 monospace}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n<p>{escape(note)}</p>\n<pre>{legend}</pre>\n<pre>{body}</pre></body></html>\n"
    )
    write_atomically(path, page.encode("utf-8"))


def _unscale(scaled: float, scale: Scale) -> float:
    """The inverse of `Scale.apply` for one value in [−1, 1]."""
    return scale.low + (scaled + 1) / 2 * (scale.high - scale.low)


def _span(piece: Piece, scale: Scale) -> str:
    text = escape(piece.text)
    if piece.value is None:
        return text
    ink = ";color:#fff" if abs(piece.value) > 0.55 else ""
    red, green, blue = color(piece.value)
    style = f"background:#{red:02x}{green:02x}{blue:02x}{ink}"
    return f'<span style="{style}" title="{_unscale(piece.value, scale):+.2f}">{text}</span>'


def write_png(
    lines: Sequence[Sequence[Piece]], path: Path, title: str, note: str = "", scale: Scale = UNIT_SCALE
) -> None:
    """Write colored lines to a PNG file: the first `MAX_LINES`; the title says so where there are more."""
    from matplotlib.figure import Figure

    shown = lines[:MAX_LINES]
    columns = max(60, max((sum(len(piece.text) for piece in line) for line in shown), default=0))
    background = np.full((max(1, len(shown)), columns, 3), 255, np.uint8)
    width, height = columns * _CHARACTER_WIDTH + 0.2, len(background) * _LINE_HEIGHT + _HEADER + 0.1
    figure = Figure(figsize=(width, height), dpi=DPI)
    text_height = len(background) * _LINE_HEIGHT / height
    axes = figure.add_axes((0.1 / width, 0.1 / height, 1 - 0.2 / width, text_height))
    axes.set(xlim=(0, columns), ylim=(len(background), 0))
    axes.set_axis_off()
    font = _monospace()
    for row, line in enumerate(shown):
        column = 0
        for piece in line:
            background[row, column : column + len(piece.text)] = color(piece.value)
            ink = "white" if abs(piece.value or 0.0) > 0.55 else "black"
            for character in piece.text:
                if character != " ":
                    place = (column + 0.5, row + 0.78)
                    axes.text(*place, character, fontproperties=font, color=ink, ha="center", parse_math=False)
                column += 1
    axes.imshow(background, extent=(0, columns, len(background), 0), aspect="auto", interpolation="nearest")
    more = f"  (the first {len(shown)} of {len(lines)} lines)" if len(lines) > len(shown) else ""
    left = 0.1 / width
    figure.text(left, 1 - 0.2 / height, title + more, size=10, weight="bold", va="center", parse_math=False)
    figure.text(left, 1 - 0.38 / height, note, size=8, color="#555555", va="center", parse_math=False)
    _draw_scale(figure, width, height, scale)
    _save(figure, path)


@functools.cache
def _monospace() -> Any:
    from matplotlib.font_manager import FontProperties, fontManager

    installed = {font.name for font in fontManager.ttflist}
    return FontProperties(family=[name for name in _FONTS if name in installed], size=8)


def _draw_scale(figure: Any, width: float, height: float, scale: Scale) -> None:
    """Draw the color scale at the top right, with the unit's values."""
    axes = figure.add_axes((1 - 1.9 / width, 1 - 0.26 / height, 1.6 / width, 0.12 / height))
    strip = np.array([[color(value) for value in np.linspace(-1, 1, 101)]], np.uint8)
    axes.imshow(strip, extent=(-1, 1, 0, 1), aspect="auto")
    axes.set_xticks([-1, 0, 1], [f"{_unscale(value, scale):+.2f}" for value in (-1, 0, 1)], size=7)
    axes.set_yticks([])


def saturation_plot(gates: Mapping[str, GateSaturation], path: Path) -> None:
    """Write a PNG file: one panel per gate, one dot per unit.

    Horizontal: fraction of steps with the gate above 0.9 (open). Vertical: fraction below 0.1 (closed). gates: names
    such as "layer1.forget_gate". Raises OSError where `path` cannot be written.
    """
    from matplotlib.figure import Figure

    layers = sorted({name.split(".")[0] for name in gates})
    kinds = list(dict.fromkeys(name.split(".")[1] for name in gates))
    figure = Figure(figsize=(3 * len(kinds) + 0.6, 3.2 * len(layers) + 0.7), dpi=DPI, layout="constrained")
    panels: NDArray[Any] = figure.subplots(len(layers), len(kinds), sharex=True, sharey=True, squeeze=False)
    for row, layer in enumerate(layers):
        for column, kind in enumerate(kinds):
            axes, gate = panels[row, column], gates[f"{layer}.{kind}"]
            axes.plot([0, 1], [1, 0], color="#bbbbbb", linewidth=0.8)  # no dot can lie above this line
            axes.scatter(gate.right, gate.left, s=12, color="#2166ac", alpha=0.5, linewidths=0)
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
            axes.set_title(f"{layer}: {kind.replace('_', ' ')}", fontsize=10)
    figure.supxlabel("fraction of steps above 0.9 (open)", fontsize=9)
    figure.supylabel("fraction of steps below 0.1 (closed)", fontsize=9)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    write_atomically(path, figure_to_png(figure, DPI))
