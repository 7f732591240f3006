"""The sheets: valid PNG files of bounded size, drawn without a display, with the heat where attention is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner import plots
from captioner.errors import CaptionerError


@dataclass(frozen=True)
class DrawnCaption:
    text: str
    attention: np.ndarray | None = None

    @property
    def tokens(self) -> list[str]:
        return self.text.split()


def picture(width: int = 64, height: int = 48, colour: tuple[int, int, int] = (128, 128, 128)) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def attended(text: str, rows: int = 7, columns: int = 7, seed: int = 0) -> DrawnCaption:
    weights = np.random.default_rng(seed).dirichlet(np.full(rows * columns, 0.2), len(text.split()))
    return DrawnCaption(text, weights.reshape(-1, rows, columns).astype(np.float32))


def read(path: Path) -> np.ndarray:
    """The file's pixels; fails where it is not a whole PNG file."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(float)


# --------------------------------------------------------------------------------------- the overlay


@pytest.mark.parametrize("cell", [(0, 0), (0, 6), (3, 2), (6, 6)])
@pytest.mark.parametrize("colour", [0.1, 0.5, 0.95])
def test_the_heat_is_where_attention_is(cell: tuple[int, int], colour: float) -> None:
    weights = np.full((7, 7), 0.5 / 48)
    weights[cell] = 0.5
    overlay = plots.attention_overlay(np.full((70, 140, 3), colour, np.float32), weights, largest=0.5)
    red_over_blue = overlay[..., 0] - overlay[..., 2]
    row, column = np.unravel_index(red_over_blue.argmax(), red_over_blue.shape)
    assert (row // 10, column // 20) == cell


def test_uniform_attention_dims_evenly_and_colours_nothing() -> None:
    pixels = np.random.default_rng(0).random((40, 60, 3), np.float32)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    overlay = plots.attention_overlay(grey, np.full((7, 7), 1 / 49), largest=0.4)
    ratio = overlay / np.maximum(grey, 1e-6)
    assert ratio.min() == pytest.approx(ratio.max(), abs=1e-3)
    assert 0.3 < ratio.mean() < 0.8


def test_more_attention_is_hotter_and_less_is_darker() -> None:
    pixels = np.full((8, 8, 3), 0.5, np.float32)
    reds = []
    for weight in np.linspace(0, 1, 21):
        rest = (1 - weight) / 3
        overlay = plots.attention_overlay(pixels, np.array([[weight, rest], [rest, rest]]), largest=1.0)
        reds.append(overlay[0, 0, 0])
    assert np.all(np.diff(reds) > 0)


def test_a_cropped_picture_shows_attention_in_its_central_square_only() -> None:
    pixels = np.full((40, 120, 3), 0.5, np.float32)
    weights = np.array([[0.0, 1.0], [0.0, 0.0]])
    overlay = plots.attention_overlay(pixels, weights, 1.0, resize="crop")
    heat = overlay[..., 0] - overlay[..., 2]
    assert heat[:, :40].max() == heat[:, 80:].max() == pytest.approx(0, abs=1e-6)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row < 20
    assert 60 <= column < 80


# ----------------------------------------------------------------------------------------- the sheets

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
    caption = attended(text) if attends and text else DrawnCaption(text)
    plots.attention_sheet([picture()], [caption], tmp_path / "sheet.png", [[text, "a reference"]])
    height, width, _ = read(tmp_path / "sheet.png").shape
    assert width == 1420
    assert 100 < height < 1200


def test_every_word_gets_its_panel(tmp_path: Path) -> None:
    """A red picture is drawn once large and once a word; counted by its untouched and its heated pixels."""
    one = attended("a")
    many = DrawnCaption("a b c d e f g h", np.repeat(one.attention, 8, axis=0))
    areas = {}
    for caption in (one, many):
        plots.attention_sheet([picture(60, 60, (0, 200, 255))], [caption], tmp_path / "sheet.png")
        page = read(tmp_path / "sheet.png")[70:]
        areas[len(caption.tokens)] = int((np.ptp(page, axis=2) > 12)[:, 340:].sum())
    assert areas[8] == pytest.approx(8 * areas[1], rel=0.02)


def test_a_panel_shows_where_attention_is(tmp_path: Path) -> None:
    weights = np.full((1, 4, 4), 0.1 / 15, np.float32)
    weights[0, 3, 0] = 0.9
    plots.attention_sheet([picture(100, 100)], [DrawnCaption("low", weights)], tmp_path / "sheet.png")
    page = read(tmp_path / "sheet.png")[70:, 340:]
    heat = page[..., 0] - page[..., 2]
    panel_rows, panel_columns = np.nonzero((page.max(2) < 250) & (page.max(2) > 20))
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row > np.percentile(panel_rows, 70)
    assert column < panel_columns.min() + 40


@pytest.mark.parametrize("size", [(1, 1), (3000, 20), (20, 3000), (4000, 3000)])
def test_any_shape_of_picture_fits(size: tuple[int, int], tmp_path: Path) -> None:
    plots.attention_sheet([picture(*size)], [attended("a dog")], tmp_path / "attention.png")
    plots.caption_sheet([picture(*size)] * 3, ["a dog"] * 3, tmp_path / "captions.png")
    assert read(tmp_path / "attention.png").shape[0] < 1000
    assert read(tmp_path / "captions.png").shape[0] < 500


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_any_mode_of_picture_is_drawn(mode: str, tmp_path: Path) -> None:
    plots.caption_sheet([picture().convert(mode)], ["grey"], tmp_path / "sheet.png")
    assert (read(tmp_path / "sheet.png") == 128).all(2).any()


def test_many_pictures_stay_within_bounds(tmp_path: Path) -> None:
    plots.attention_sheet([picture()] * 500, [DrawnCaption("a dog")] * 500, tmp_path / "attention.png")
    plots.caption_sheet([picture()] * 500, ["a dog"] * 500, tmp_path / "captions.png")
    for name in ("attention.png", "captions.png"):
        height, width, _ = read(tmp_path / name).shape
        assert height < 5_000
        assert width < 1_600


def test_endless_references_stay_within_bounds(tmp_path: Path) -> None:
    plots.caption_sheet([picture()], ["a dog"], tmp_path / "sheet.png", [["word " * 9_999, "w" * 9_999] * 99])
    assert read(tmp_path / "sheet.png").shape[0] < 2_500


def test_ten_captions_stand_beside_their_references(tmp_path: Path) -> None:
    pictures = [picture(colour=(20 * index, 100, 200)) for index in range(10)]
    plots.caption_sheet(pictures, ["a dog"] * 10, tmp_path / "bare.png")
    plots.caption_sheet(pictures, ["a dog"] * 10, tmp_path / "sheet.png", [["one", "two"]] * 10)
    bare, page = read(tmp_path / "bare.png"), read(tmp_path / "sheet.png")
    assert page.shape[0] > bare.shape[0]
    for index in range(10):
        assert (np.abs(page - (20 * index, 100, 200)).max(2) < 2).sum() > 40_000


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        plots.attention_sheet([picture()], [attended("a dog runs")], tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_lengths_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as many captions"):
        plots.caption_sheet([picture()] * 2, ["a"], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="as many captions"):
        plots.attention_sheet([], [], tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------- the curves


def records(steps: int = 50) -> list[dict[str, Any]]:
    train = [{"kind": "train", "step": step, "epoch": 1, "loss": 5 / step} for step in range(1, steps)]
    scores = [{"kind": "validation", "step": step, "CIDEr": step / 100, "Bleu_4": 0.2} for step in range(10, steps, 10)]
    return [*train, *scores, {"kind": "epoch", "step": steps}]


@pytest.mark.parametrize("monitor", ["CIDEr", "Bleu_4"])
@pytest.mark.parametrize("kinds", [("train", "validation"), ("train",), ("validation",)])
def test_curves_of_any_part_of_a_log(kinds: tuple[str, ...], monitor: str, tmp_path: Path) -> None:
    plots.training_curves([record for record in records() if record["kind"] in kinds], tmp_path / "curves.png", monitor)
    assert read(tmp_path / "curves.png").shape == (700, 900, 3)


def test_the_curve_of_the_monitored_score_is_marked(tmp_path: Path) -> None:
    plots.training_curves(records(), tmp_path / "curves.png")
    page = read(tmp_path / "curves.png")
    accent = np.abs(page - (0xC2, 0x41, 0x0C)).max(2) < 3
    rows, columns = np.nonzero(accent[350:])
    assert columns[rows > 30].size > 100  # the line and its star, below the title


def test_an_empty_log_says_so(tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="nothing to draw yet"):
        plots.training_curves([], tmp_path / "curves.png")


# -------------------------------------------------------------------------------------- being a guest


def test_importing_it_does_not_import_matplotlib_and_drawing_leaves_no_trace(tmp_path: Path) -> None:
    program = f"""
import sys
from captioner import plots
assert not [name for name in sys.modules if name.startswith("matplotlib")], "imported matplotlib"
from PIL import Image
plots.caption_sheet([Image.new("RGB", (8, 8))], ["a dog"], {str(tmp_path / "sheet.png")!r})
assert "matplotlib.pyplot" not in sys.modules, "touched pyplot"
"""
    environment = {"PATH": "", "MPLCONFIGDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=Path(__file__).parents[1])
    assert read(tmp_path / "sheet.png").shape[2] == 3
