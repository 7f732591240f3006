"""A unit's values over a text as colored characters (PNG and HTML), and how often gates are saturated.

As in Karpathy, Johnson & Li 2015, figures 2 and 3: red, white, blue from the lowest value to the highest. Drawn without
a display. matplotlib is imported when something is drawn, not with this module.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from captioner.files import write_atomically

RED, BLUE = (178, 24, 43), (33, 102, 172)
COLUMNS = 100  # characters a line holds before it is broken
MOST_LINES = 120  # lines of an image; the HTML page has them all
DPI = 110
_CELL_WIDTH, _CELL_HEIGHT, _HEADER = 0.085, 0.165, 0.5  # inches
_SHOWN = {"\n": "↵", "\t": "→   ", "\r": "␍"}
_FONTS = ("DejaVu Sans Mono", "Noto Sans Mono CJK SC", "Noto Sans CJK SC", "DejaVu Sans")  # those that are installed


class Piece(NamedTuple):
    """A token as it is drawn, and its value in [−1, 1]; None: a blank between words, which has none."""

    text: str
    value: float | None


class Scale(NamedTuple):
    """Which values are full red and full blue."""

    low: float
    high: float

    def apply(self, values: Sequence[float]) -> list[float]:
        """Values as numbers in [−1, 1], those beyond the ends cut; all 0 where the ends are one."""
        if self.high <= self.low:
            return [0.0] * len(values)
        scaled = 2 * (np.asarray(values, dtype=np.float64) - self.low) / (self.high - self.low) - 1
        clipped: list[float] = np.clip(scaled, -1, 1).tolist()
        return clipped


ONE = Scale(-1.0, 1.0)


def own_scale(values: Sequence[float]) -> Scale:
    """From the first to the 99th percentile of the values: shows a unit that counts as well as one that switches."""
    low, high = np.percentile(np.asarray(values, dtype=np.float64), [1, 99])
    return Scale(float(low), float(high))


class Saturated(Protocol):
    """What `saturation_plot` needs of a gate: fractions of time, (H,) each."""

    @property
    def left(self) -> Any: ...

    @property
    def right(self) -> Any: ...


def lay_out(
    tokens: Sequence[str], values: Sequence[float], *, separator: str = "", starts: Sequence[int] = ()
) -> list[list[Piece]]:
    """Tokens in lines: a line break ends one, `COLUMNS` characters end one, and a passage begins one.

    separator: what stands between two tokens of a line (a blank between words). starts: where passages begin.
    """
    lines: list[list[Piece]] = [[]]
    width, new = 0, set(starts)
    for i, (token, value) in enumerate(zip(tokens, values, strict=True)):
        text = _SHOWN.get(token, token if token.isprintable() else "·")
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
    """Red for −1, white for 0 (and for what has no value), blue for +1; beyond, the end's own color."""
    strength = min(1.0, abs(value or 0.0))
    end = BLUE if (value or 0.0) > 0 else RED
    red, green, blue = (round(255 + strength * (part - 255)) for part in end)
    return red, green, blue


def write_html(lines: Sequence[Sequence[Piece]], path: Path, title: str, note: str = "", scale: Scale = ONE) -> None:
    """One page that needs nothing beside it; a token's value is shown where the mouse rests on it."""
    body = "\n".join("".join(_span(piece, scale) for piece in line) for line in lines)
    legend = "".join(
        _span(Piece(f" {_true(value, scale):+.2f} ", value), scale) for value in (-1.0, -0.5, 0.0, 0.5, 1.0)
    )
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        "<style>body{font-family:sans-serif;margin:2em}pre{font:14px/1.45 monospace}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n<p>{escape(note)}</p>\n<pre>{legend}</pre>\n<pre>{body}</pre></body></html>\n"
    )
    write_atomically(path, page.encode("utf-8"))


def _true(scaled: float, scale: Scale) -> float:
    """The unit's own value behind a color."""
    return scale.low + (scaled + 1) / 2 * (scale.high - scale.low)


def _span(piece: Piece, scale: Scale) -> str:
    text = escape(piece.text)
    if piece.value is None:
        return text
    ink = ";color:#fff" if abs(piece.value) > 0.55 else ""
    red, green, blue = color(piece.value)
    style = f"background:#{red:02x}{green:02x}{blue:02x}{ink}"
    return f'<span style="{style}" title="{_true(piece.value, scale):+.2f}">{text}</span>'


def write_png(lines: Sequence[Sequence[Piece]], path: Path, title: str, note: str = "", scale: Scale = ONE) -> None:
    """The same as an image: at most `MOST_LINES` lines, and a word that says so where there are more."""
    from matplotlib.figure import Figure

    shown = lines[:MOST_LINES]
    columns = max(60, max((sum(len(piece.text) for piece in line) for line in shown), default=0))
    background = np.full((max(1, len(shown)), columns, 3), 255, np.uint8)
    width, height = columns * _CELL_WIDTH + 0.2, len(background) * _CELL_HEIGHT + _HEADER + 0.1
    figure = Figure(figsize=(width, height), dpi=DPI)
    text_height = len(background) * _CELL_HEIGHT / height
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
    """Red to blue, at the top right, with the unit's own values."""
    axes = figure.add_axes((1 - 1.9 / width, 1 - 0.26 / height, 1.6 / width, 0.12 / height))
    strip = np.array([[color(value) for value in np.linspace(-1, 1, 101)]], np.uint8)
    axes.imshow(strip, extent=(-1, 1, 0, 1), aspect="auto")
    axes.set_xticks([-1, 0, 1], [f"{_true(value, scale):+.2f}" for value in (-1, 0, 1)], size=7)
    axes.set_yticks([])


def saturation_plot(gates: Mapping[str, Saturated], path: Path) -> None:
    """One panel a gate, one dot a unit: how often it is open (> 0.9) against how often it is shut (< 0.1)."""
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
    figure.supxlabel("fraction of time above 0.9 (open)", fontsize=9)
    figure.supylabel("fraction of time below 0.1 (shut)", fontsize=9)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # a character that no installed font has is drawn as a box
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    write_atomically(path, buffer.getvalue())
