"""Properties of every sheet: bounded size, equal lengths, no global state of matplotlib touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from captioner import plots
from tests.plots.examples import ExampleCaption, attended_caption, image, read_png


@pytest.mark.parametrize("size", [(1, 1), (3000, 20), (20, 3000), (4000, 3000)])
def test_any_shape_of_image_fits(size: tuple[int, int], tmp_path: Path) -> None:
    plots.attention_sheet([image(*size)], [attended_caption("a dog")], tmp_path / "attention.png")
    plots.caption_sheet([image(*size)] * 3, ["a dog"] * 3, tmp_path / "captions.png")
    assert read_png(tmp_path / "attention.png").shape[0] < 1000
    assert read_png(tmp_path / "captions.png").shape[0] < 500


def test_many_images_stay_within_bounds(tmp_path: Path) -> None:
    plots.attention_sheet([image()] * 500, [ExampleCaption("a dog")] * 500, tmp_path / "attention.png")
    plots.caption_sheet([image()] * 500, ["a dog"] * 500, tmp_path / "captions.png")
    for name in ("attention.png", "captions.png"):
        height, width, _ = read_png(tmp_path / name).shape
        assert height < 5_000
        assert width < 1_600


def test_lengths_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as many captions"):
        plots.caption_sheet([image()] * 2, ["a"], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="as many captions"):
        plots.attention_sheet([], [], tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == []


def test_importing_plots_imports_no_matplotlib_and_drawing_no_pyplot(tmp_path: Path) -> None:
    program = f"""
import sys
from captioner import plots
assert not [name for name in sys.modules if name.startswith("matplotlib")], "imported matplotlib"
from PIL import Image
plots.caption_sheet([Image.new("RGB", (8, 8))], ["a dog"], {str(tmp_path / "sheet.png")!r})
assert "matplotlib.pyplot" not in sys.modules, "touched pyplot"
"""
    environment = {"PATH": "", "MPLCONFIGDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=Path(__file__).parents[2])
    assert read_png(tmp_path / "sheet.png").shape[2] == 3
