"""Sheets of captions: any image and any number of references, on a page of bounded size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from captioner import plots
from tests.plots.examples import image, read_png


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_any_mode_of_image_is_drawn(mode: str, tmp_path: Path) -> None:
    plots.caption_sheet([image().convert(mode)], ["grey"], tmp_path / "sheet.png")
    assert (read_png(tmp_path / "sheet.png") == 128).all(2).any()


def test_very_long_references_stay_within_bounds(tmp_path: Path) -> None:
    plots.caption_sheet([image()], ["a dog"], tmp_path / "sheet.png", [["word " * 9_999, "w" * 9_999] * 99])
    assert read_png(tmp_path / "sheet.png").shape[0] < 2_500


def test_ten_images_have_their_captions_and_references(tmp_path: Path) -> None:
    images = [image(color=(20 * index, 100, 200)) for index in range(10)]
    plots.caption_sheet(images, ["a dog"] * 10, tmp_path / "bare.png")
    plots.caption_sheet(images, ["a dog"] * 10, tmp_path / "sheet.png", [["one", "two"]] * 10)
    bare, page = read_png(tmp_path / "bare.png"), read_png(tmp_path / "sheet.png")
    assert page.shape[0] > bare.shape[0]
    for index in range(10):
        assert (np.abs(page - (20 * index, 100, 200)).max(2) < 2).sum() > 40_000
