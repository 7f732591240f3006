"""Line charts as SVG: every point is inside the axes, at the position of its value."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.report.charts import Series, line_chart

NUMBERS = st.floats(-1e4, 1e4, allow_nan=False)
PLAIN = {"x_label": "x & <y>", "y_label": "share"}


def polylines(chart: str) -> list[list[tuple[float, float]]]:
    root = ET.fromstring(chart)
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]
        for line in root.iter("polyline")
    ]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_every_point_is_inside_the_axes(points: list[tuple[float, float]]) -> None:
    (drawn,) = polylines(line_chart([Series("a", points, "#000")], **PLAIN))
    assert len(drawn) == len(points)
    assert all(55 <= x <= 439 and 11 <= y <= 197 for x, y in drawn)


def test_positions_are_linear_or_logarithmic() -> None:
    (line,) = polylines(line_chart([Series("a", [(0, 0), (5, 5), (10, 10)], "#000")], **PLAIN))
    assert line[1] == pytest.approx([(line[0][i] + line[2][i]) / 2 for i in range(2)])
    (line,) = polylines(line_chart([Series("a", [(1, 1), (10, 10), (100, 100)], "#000")], **PLAIN, logarithmic=True))
    assert line[1] == pytest.approx([(line[0][i] + line[2][i]) / 2 for i in range(2)], abs=0.1)


def test_ticks_are_round_and_span_the_values() -> None:
    chart = line_chart([Series("a", [(0, 3), (33, 47)], "#000")], **PLAIN)
    ticks = [float(text) for text in re.findall(r">(-?[\d.]+)</text>", chart)]
    assert {0.0, 10.0, 20.0, 30.0, 40.0, 50.0} <= set(ticks)


def test_names_are_text_not_markup() -> None:
    chart = line_chart([Series("<script>", [(0, 1)], "#000", dashed=True)], **PLAIN)
    assert "<script>" not in chart
    assert "&lt;script&gt;" in chart
    assert "stroke-dasharray" in chart


def test_charts_without_points_say_so() -> None:
    assert "Nothing" in line_chart([Series("a", [(0, 0)], "#000")], **PLAIN, logarithmic=True)
    assert "Nothing" in line_chart([], **PLAIN)
