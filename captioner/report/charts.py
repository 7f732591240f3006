"""Line charts as SVG text, which a page shows without any script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

COLORS = ("#1d4ed8", "#c2410c", "#047857", "#7c3aed", "#b45309", "#0e7490", "#be185d", "#4d7c0f")
REFERENCES = "#6b7280"
_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 22, 12, 44


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, points (x, y), and color; dashed for the reference captions."""

    name: str
    points: Sequence[tuple[float, float]]
    color: str
    dashed: bool = False


def line_chart(series: Sequence[Series], x_label: str, y_label: str, *, logarithmic: bool = False) -> str:
    """An HTML figure: an SVG chart and its legend.

    logarithmic: of both axes; points with a coordinate of 0 or less are left out. Linear charts include y = 0.
    """
    shown = [
        Series(s.name, [(x, y) for x, y in s.points if not logarithmic or (x > 0 and y > 0)], s.color, s.dashed)
        for s in series
    ]
    points = [point for line in shown for point in line.points]
    if not points:
        return "<p>Nothing to plot.</p>"
    x_ticks = _ticks([x for x, _ in points], logarithmic)
    y_ticks = _ticks([*(y for _, y in points), *([] if logarithmic else [0.0])], logarithmic)
    x_at = _scale(x_ticks, _LEFT, _WIDTH - _RIGHT, logarithmic)
    y_at = _scale(y_ticks, _HEIGHT - _BOTTOM, _TOP, logarithmic)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(f"{y_label} against {x_label}")}">']
    for tick in y_ticks:
        y = y_at(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        parts.append(f'<text x="{x_at(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    for line in shown:
        path = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in line.points)
        dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="2"{dashes}/>')
    parts.append("</svg>")
    legend = "".join(
        f'<li><span style="border-top: 3px {"dashed" if line.dashed else "solid"} {line.color}"></span>'
        f"{escape(line.name)}</li>"
        for line in shown
    )
    return f'<figure>{"".join(parts)}<ul class="legend">{legend}</ul></figure>'


def _ticks(values: Sequence[float], logarithmic: bool) -> list[float]:
    """Round values that span the given ones: powers of ten, or multiples of 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values)
    if logarithmic:
        return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-9) + 1)]
    span = high - low if high - low > 1e-300 else 1.0  # a fifth of a smaller span may underflow to 0
    unit = 10.0 ** math.floor(math.log10(span / 5))
    step = next(unit * factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= 6)
    first = math.floor(low / step + 1e-9)
    return [step * multiple for multiple in range(first, math.ceil(high / step - 1e-9) + 1)] or [low]


def _scale(ticks: Sequence[float], start: float, end: float, logarithmic: bool) -> Callable[[float], float]:
    """A function from values to pixels, with the first tick at `start` and the last at `end`."""

    def place(value: float) -> float:
        return math.log10(value) if logarithmic else value

    low, high = place(ticks[0]), place(ticks[-1])
    span = high - low if high - low > 1e-300 else 1.0
    return lambda value: start + (place(value) - low) / span * (end - start)
