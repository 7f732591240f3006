"""Attention maps and sheets of them: bright where attention is, on the scale that is printed, for any caption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner import plots
from captioner.errors import ConfigError
from captioner.generated_caption import Caption
from captioner.plots.attention_sheet import (
    attention_maps,
    contour_level,
    draw_attention_sheet,
    spread_attention,
    spread_over_boxes,
)
from tests.plots.examples import ExampleCaption, attended_caption, image, read_png


@pytest.mark.parametrize("region", [(0, 0), (0, 6), (3, 2), (6, 6)])
@pytest.mark.parametrize("color", [0.1, 0.5, 0.95])
def test_the_overlay_is_brightest_where_attention_is(region: tuple[int, int], color: float) -> None:
    weights = np.full((7, 7), 0.5 / 48)
    weights[region] = 0.5
    overlay = plots.attention_overlay(np.full((70, 140, 3), color, np.float32), weights, largest=0.5)
    red_over_blue = overlay[..., 0] - overlay[..., 2]
    row, column = np.unravel_index(red_over_blue.argmax(), red_over_blue.shape)
    assert (row // 10, column // 20) == region


def test_uniform_attention_dims_evenly_and_adds_no_color() -> None:
    pixels = np.random.default_rng(0).random((40, 60, 3), np.float32)
    gray = np.repeat(pixels[..., :1], 3, axis=2)
    overlay = plots.attention_overlay(gray, np.full((7, 7), 1 / 49), largest=0.4)
    ratio = overlay / np.maximum(gray, 1e-6)
    assert ratio.min() == pytest.approx(ratio.max(), abs=1e-3)
    assert 0.3 < ratio.mean() < 0.8


def test_more_attention_is_brighter() -> None:
    pixels = np.full((8, 8, 3), 0.5, np.float32)
    reds = []
    for weight in np.linspace(0, 1, 21):
        rest = (1 - weight) / 3
        overlay = plots.attention_overlay(pixels, np.array([[weight, rest], [rest, rest]]), largest=1.0)
        reds.append(overlay[0, 0, 0])
    assert np.all(np.diff(reds) > 0)


def test_a_cropped_image_shows_attention_in_its_central_square_only() -> None:
    pixels = np.full((40, 120, 3), 0.5, np.float32)
    weights = np.array([[0.0, 1.0], [0.0, 0.0]])
    overlay = plots.attention_overlay(pixels, weights, 1.0, resize="crop")
    heat = overlay[..., 0] - overlay[..., 2]
    assert heat[:, :40].max() == heat[:, 80:].max() == pytest.approx(0, abs=1e-6)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row < 20
    assert 60 <= column < 80


TEXTS = [
    "a dog runs",
    "ein Hund läuft über die Straße – naïve café",
    "собака бежит по снегу",
    "一只狗在雪地上奔跑",
    "costs $ 5 and $x_{ ^ \\frac",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3,
    "word " * 60,
    "",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("attends", [True, False])
def test_any_caption_can_be_drawn(text: str, attends: bool, tmp_path: Path) -> None:
    caption = attended_caption(text) if attends and text else ExampleCaption(text)
    plots.attention_sheet([image()], [caption], tmp_path / "sheet.png", [[text, "a reference"]])
    height, width, _ = read_png(tmp_path / "sheet.png").shape
    assert width == 1420
    assert 100 < height < 1200


def test_every_word_gets_its_panel(tmp_path: Path) -> None:
    """Colored pixels right of the image: eight equal words have eight times those of one word."""
    one = attended_caption("a")
    many = ExampleCaption("a b c d e f g h", np.repeat(one.attention, 8, axis=0))
    areas = {}
    for caption in (one, many):
        plots.attention_sheet([image(60, 60, (0, 200, 255))], [caption], tmp_path / "sheet.png")
        page = read_png(tmp_path / "sheet.png")[70:]
        areas[len(caption.tokens)] = int((np.ptp(page, axis=2) > 12)[:, 340:].sum())
    assert areas[8] == pytest.approx(8 * areas[1], rel=0.02)


def test_a_panel_shows_where_attention_is(tmp_path: Path) -> None:
    weights = np.full((1, 4, 4), 0.1 / 15, np.float32)
    weights[0, 3, 0] = 0.9
    plots.attention_sheet([image(100, 100)], [ExampleCaption("low", weights)], tmp_path / "sheet.png")
    page = read_png(tmp_path / "sheet.png")[70:, 340:]
    heat = page[..., 0] - page[..., 2]
    panel_rows, panel_columns = np.nonzero((page.max(2) < 250) & (page.max(2) > 20))
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row > np.percentile(panel_rows, 70)
    assert column < panel_columns.min() + 40


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        plots.attention_sheet([image()], [attended_caption("a dog runs")], tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


# ---------------------------------------------------------------------- interpolation, scales and contours


def bilinear(weights: np.ndarray, y: float, x: float) -> float:
    """Weights at a point, in regions from the top left corner; constant beyond the outermost region centers."""
    y, x = (min(max(at - 0.5, 0), size - 1) for at, size in zip((y, x), weights.shape, strict=True))
    top, left = int(y), int(x)
    bottom, right = min(top + 1, weights.shape[0] - 1), min(left + 1, weights.shape[1] - 1)
    upper = weights[top, left] * (1 - (x - left)) + weights[top, right] * (x - left)
    lower = weights[bottom, left] * (1 - (x - left)) + weights[bottom, right] * (x - left)
    return float(upper * (1 - (y - top)) + lower * (y - top))


@pytest.mark.parametrize(("resize", "size"), [("squash", (30, 80)), ("crop", (30, 80)), ("crop", (80, 30))])
def test_weights_are_interpolated_bilinearly_over_what_the_encoder_saw(resize: str, size: tuple[int, int]) -> None:
    weights = np.random.default_rng(0).random((3, 5)).astype(np.float32)
    height, width = size
    spread = spread_attention(weights, height, width, resize)
    rows, columns = (height, width) if resize == "squash" else (30, 30)
    top, left = (height - rows) // 2, (width - columns) // 2
    for row in range(0, height, 7):
        for column in range(0, width, 7):
            inside = top <= row < top + rows and left <= column < left + columns
            y, x = (row - top + 0.5) / rows * 3, (column - left + 0.5) / columns * 5
            expected = bilinear(weights, y, x) if inside else 0.0
            assert spread[row, column] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_contour_is_around_the_smallest_area_with_the_share(share: float) -> None:
    spread = np.random.default_rng(1).permutation(400).reshape(20, 20).astype(np.float32)
    level = contour_level(spread, share)
    assert level is not None
    assert spread[spread >= level].sum() >= share * spread.sum()
    assert spread[spread > level].sum() < share * spread.sum()


def test_constant_maps_have_no_contour() -> None:
    assert contour_level(np.full((5, 5), 0.2, np.float32), 0.5) is None
    assert contour_level(np.eye(2, dtype=np.float32), 0.99) is None  # only the two highest pixels are not 0


def test_a_contour_is_drawn_on_request(tmp_path: Path) -> None:
    weights = np.full((1, 4, 4), 0.1 / 15, np.float32)
    weights[0, 1, 1] = 0.9
    caption, white = ExampleCaption("dog", weights), {}
    for contour in (None, 0.5):
        plots.attention_sheet([image(100, 100)], [caption], tmp_path / "sheet.png", contour=contour)
        panel = read_png(tmp_path / "sheet.png")[100:230, 350:480]
        white[contour] = int((panel.min(2) > 235).sum())
    assert white[0.5] > white[None] + 50


def test_words_share_a_scale_or_have_one_each(tmp_path: Path) -> None:
    """Two words, one with nearly uniform attention: equally bright on scales of their own, not on a shared one."""
    weights = np.full((2, 4, 4), 1.0)
    weights[0, 1, 1], weights[1, 1, 1] = 4.0, 60.0
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    hottest = {}
    for scale in ("shared", "word"):
        plots.attention_sheet([image(100, 100)], [ExampleCaption("a b", weights)], tmp_path / "s.png", scale=scale)
        page = read_png(tmp_path / "s.png")[100:]
        heat = page[:140, :, 0] - page[:140, :, 2]
        hottest[scale] = [float(heat[:, at : at + 136].max()) for at in (354, 502)]
    assert hottest["word"][0] == pytest.approx(hottest["word"][1], abs=4)
    assert hottest["shared"][0] < hottest["shared"][1] - 20
    with pytest.raises(ConfigError, match="Did you mean shared"):
        plots.attention_sheet([image()], [ExampleCaption("a")], tmp_path / "s.png", scale="share")


def test_the_sentinel_weight_is_printed(tmp_path: Path) -> None:
    """Weights that sum to less than 1 add β to the heading, and to the scale's note: more dark pixels there."""
    weights = np.full((1, 4, 4), 1 / 16)
    dark = {}
    for part in (1.0, 0.4):
        plots.attention_sheet([image()], [ExampleCaption("a", part * weights)], tmp_path / "sheet.png")
        heading = read_png(tmp_path / "sheet.png")[60:100, 380:]
        dark[part] = int((heading.max(2) < 160).sum())
    assert dark[0.4] > dark[1.0] + 20


def test_weights_of_boxes_are_where_the_boxes_are() -> None:
    """At each pixel the largest weight of the boxes around it; nothing outside of them; a thin box has a pixel."""
    boxes = np.array([[0, 0, 0.5, 1], [0.25, 0.5, 0.75, 1], [1, 1, 1, 1]])
    spread = spread_over_boxes(np.array([[0.3, 0.6, 0.1]]), boxes, 4, 8)
    expected = np.zeros((4, 8), np.float32)
    expected[:, :4] = 0.3
    expected[2:, 2:6] = 0.6
    expected[3, 7] = 0.1
    np.testing.assert_array_equal(spread, expected)


def test_regions_without_a_place_are_not_drawn() -> None:
    """Features made elsewhere without boxes: a map of them would show places that nobody knows."""
    caption = Caption("a cat", ("a", "cat"), -1.0, -1.0, True, attention=np.full((2, 1, 5), 0.2, np.float32))
    assert attention_maps(caption) is None
    boxes = np.tile(np.array([[0.0, 0.0, 0.5, 0.5]]), (5, 1))
    assert attention_maps(replace(caption, boxes=boxes)) is not None
    assert attention_maps(replace(caption, attention=np.full((2, 2, 2), 0.25, np.float32))) is not None
    image = Image.new("RGB", (40, 40), "white")
    with_maps, without = (draw_attention_sheet([image], [one]) for one in (replace(caption, boxes=boxes), caption))
    assert with_maps != without
