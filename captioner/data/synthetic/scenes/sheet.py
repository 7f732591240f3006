"""An overview image of scenes and captions: `python -m captioner.data.synthetic.scenes.sheet docs/scenes.png`."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from captioner.config import ScenesConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.images.decode import load_image
from captioner.data.synthetic.scenes.generate_scenes import load_scenes
from captioner.data.synthetic.scenes.layout import IMAGE_SIZE

_GAP = 12
_LINE = 15
_CAPTIONS = 2
_TILE = (IMAGE_SIZE + _GAP, IMAGE_SIZE + _GAP + 2 * _CAPTIONS * _LINE)


def contact_sheet(dataset: CaptionDataset, columns: int = 4, rows: int = 3) -> Image.Image:
    """The first images of a data set in a grid, with the first two captions below each."""
    sheet = Image.new("RGB", (_GAP + columns * _TILE[0], _GAP + rows * _TILE[1]), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for place, image in enumerate(dataset.images[: columns * rows]):
        left, top = _GAP + place % columns * _TILE[0], _GAP + place // columns * _TILE[1]
        sheet.paste(load_image(image.path), (left, top))
        lines = [line for caption in image.captions[:_CAPTIONS] for line in textwrap.wrap(caption, 42)[:2]]
        for number, line in enumerate(lines):
            draw.text((left, top + IMAGE_SIZE + 2 + number * _LINE), line, fill=(40, 40, 44), font=font)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the PNG file to write")
    parser.add_argument("--seed", type=int, default=0, help="which scenes (default 0)")
    parser.add_argument("--split", default="train", help="train, val or test (default train)")
    arguments = parser.parse_args()
    config = ScenesConfig(seed=arguments.seed, train_size=12, val_size=12, test_size=12)
    contact_sheet(load_scenes(config, arguments.split)).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
