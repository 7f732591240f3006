"""Colored text: lines, colors, escaped HTML, pixels."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioner.plots import unit_plots as units
from captioner.plots.unit_plots import (
    BLUE,
    RED,
    UNIT_SCALE,
    Piece,
    Scale,
    color,
    layout_lines,
    percentile_scale,
    saturation_plot,
    write_html,
    write_png,
)


def test_lines_end_at_line_breaks() -> None:
    lines = layout_lines(list("ab\n\tc\x07"), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert [[piece.text for piece in line] for line in lines] == [["a", "b", "↵"], ["→   ", "c", "·"]]
    assert lines[1][0].value == 0.4


def test_long_lines_are_broken_and_starts_begin_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "COLUMNS", 7)
    assert ["".join(piece.text for piece in line) for line in layout_lines(list("abcdefghij"), [0.0] * 10)] == [
        "abcdefg",
        "hij",
    ]
    words = ["a", "dog", "runs", "a", "cat"]
    lines = layout_lines(words, [1.0] * 5, separator=" ", starts=[0, 3])
    assert ["".join(piece.text for piece in line) for line in lines] == ["a dog", "runs", "a cat"]
    assert lines[0][1] == Piece(" ", None)


@given(st.lists(st.text(min_size=1, max_size=3), max_size=40))
@settings(deadline=None, max_examples=50)
def test_every_token_is_laid_out_once(tokens: list[str]) -> None:
    lines = layout_lines(tokens, [float(i) for i in range(len(tokens))])
    assert [piece.value for line in lines for piece in line] == list(range(len(tokens)))


def test_colors() -> None:
    assert color(0.0) == color(None) == (255, 255, 255)
    assert color(1.0) == color(7.0) == BLUE
    assert color(-1.0) == RED
    assert all(a > b for a, b in zip(color(0.3), color(0.6), strict=True))


def test_scales() -> None:
    assert UNIT_SCALE.apply([-2.0, -1.0, 0.0, 0.5]) == [-1.0, -1.0, 0.0, 0.5]
    assert Scale(2.0, 6.0).apply([2.0, 4.0, 6.0]) == [-1.0, 0.0, 1.0]
    assert Scale(3.0, 3.0).apply([3.0, 4.0]) == [0.0, 0.0]
    assert percentile_scale(list(range(101))) == Scale(1.0, 99.0)


ATTACKS = ["<script>alert(1)</script>", '"', "'", "&amp;", "</pre>", "<", ">"]


def test_html_is_escaped_and_shows_every_value(tmp_path: Path) -> None:
    path = tmp_path / "unit.html"
    write_html([[Piece(text, 0.25) for text in ATTACKS]], path, "<b>title</b>", "<i>note</i>", Scale(0.0, 8.0))
    page = path.read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    shown = re.findall(r'<span style="[^"]*" title="([^"]*)">([^<>"]*)</span>', page)
    assert [unescape(text) for value, text in shown if value == "+5.00"] == ATTACKS  # 0.25 of −1 … 1 is 5 of 0 … 8
    assert page.count("<pre>") == page.count("</pre>") == 2


def test_pixels_have_the_colors(tmp_path: Path) -> None:
    path = tmp_path / "unit.png"
    write_png([[Piece(" " * 20, 1.0), Piece(" " * 20, -0.5)], [Piece(" ", 0.0)]], path, "unit", "note")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    row = pixels[round((0.5 + 0.08) * units.DPI)]
    step = units.DPI * 0.085
    margin = 0.1 * units.DPI
    assert tuple(row[round(margin + 10 * step)]) == BLUE
    assert tuple(row[round(margin + 30 * step)]) == color(-0.5)
    assert tuple(row[round(margin + 50 * step)]) == (255, 255, 255)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_any_text_is_drawn_within_bounds(tmp_path: Path) -> None:
    tokens = ["漢", "é", "$x_{1}$", "\x00", "👩", "\n"] * 400
    lines = layout_lines(tokens, [0.5] * len(tokens))
    write_png(lines, tmp_path / "unit.png", "$unit_{", "note")
    assert size_of(tmp_path / "unit.png")[1] < (units.MAX_LINES * 0.165 + 1) * units.DPI
    write_png([], tmp_path / "empty.png", "nothing")


def test_saturation_has_a_panel_per_gate(tmp_path: Path) -> None:
    gate = SimpleNamespace(left=[0.1, 0.9], right=[0.8, 0.05])
    one, four = tmp_path / "one.png", tmp_path / "four.png"
    saturation_plot({"layer1.forget_gate": gate}, one)
    saturation_plot({f"layer{i}.{name}_gate": gate for i in (1, 2) for name in ("forget", "input")}, four)
    assert size_of(four)[0] > 1.5 * size_of(one)[0]
    assert size_of(four)[1] > 1.5 * size_of(one)[1]
