"""Small made data sets for the recipes of docs/languages.md: python benchmarks/language_samples.py DIR

Four folders for data=folder. What an image shows decides its caption, so a model can learn it:

    reports/  gray images of 12 bits in 16, and reports of about fifty words
    fields/   RGB TIFF images of 16 bits with reflectances below 3,000, and short English captions
    chinese/  colored halves, captions without spaces
    arabic/   the same, captions in Arabic
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES, SIZE = 160, 96
FINDINGS = (
    ("an opacity in the right upper lobe that may represent pneumonia", "the right upper lobe is clear"),
    ("a small left pleural effusion with blunting of the costophrenic angle", "there is no left pleural effusion"),
    ("the heart is enlarged compared with the prior examination", "the heart is normal in size and contour"),
    ("a nodule projects over the right lower lobe and ct is recommended", "no nodule is seen at the right base"),
)
COLORS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 70, 220), "white": (240, 240, 240)}
CHINESE = {"red": "红色", "green": "绿色", "blue": "蓝色", "white": "白色", "left": "左边", "right": "右边"}
ARABIC = {"red": "أحمر", "green": "أخضر", "blue": "أزرق", "white": "أبيض", "left": "اليسار", "right": "اليمين"}


def report(number: int, path: Path) -> list[str]:
    """A gray image of 12 bits with up to four bright patches, and a report that names them."""
    rng = np.random.default_rng(number)
    present = rng.random(4) < 0.5
    pixels = rng.integers(200, 500, (SIZE, SIZE))
    for quarter in np.flatnonzero(present):
        top, left = SIZE // 2 * (quarter // 2) + 12, SIZE // 2 * (quarter % 2) + 12
        pixels[top : top + 24, left : left + 24] += 3000
    Image.fromarray(pixels.astype(np.uint16)).save(path.with_suffix(".png"))
    sentences = [FINDINGS[finding][0 if present[finding] else 1] for finding in range(4)]
    return [f"portable chest radiograph in frontal view . {' . '.join(sentences)} . clinical correlation is advised ."]


def field(number: int, path: Path) -> list[str]:
    """Reflectances of a forest or of a field, with a river or without."""
    rng = np.random.default_rng(number)
    forest, river = rng.random(2) < 0.5
    pixels = rng.integers(0, 200, (SIZE, SIZE, 3)) + np.array([300, 900, 250] if forest else [1900, 1500, 700])
    if river:
        pixels[:, SIZE // 2 - 8 : SIZE // 2 + 8] = [150, 400, 1800]
    _write_tiff(path.with_suffix(".tif"), pixels.astype(np.uint16))
    ground = "dense green forest" if forest else "yellow farmland"
    return [f"a river runs through {ground}" if river else f"there is {ground} everywhere"]


def _write_tiff(path: Path, pixels: np.ndarray) -> None:
    """An uncompressed 16-bit RGB TIFF file, which PIL reads but does not write."""
    height, width, _ = pixels.shape
    tags = [(256, width), (257, height), (259, 1), (262, 2), (277, 3), (278, height), (279, pixels.nbytes)]
    entries = [(tag, struct.pack("<HHII", tag, 4, 1, value)) for tag, value in tags]
    after = 10 + 12 * (len(tags) + 2) + 4
    entries += [(258, struct.pack("<HHII", 258, 3, 3, after)), (273, struct.pack("<HHII", 273, 4, 1, after + 6))]
    directory = struct.pack("<H", len(entries)) + b"".join(entry for _, entry in sorted(entries)) + b"\0" * 4
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<3H", 16, 16, 16) + pixels.tobytes())


def half(words: dict[str, str], sentences: tuple[str, ...]) -> Callable[[int, Path], list[str]]:
    """An image with a colored half, and sentences with {color} and {side}."""

    def write(number: int, path: Path) -> list[str]:
        rng = np.random.default_rng(number)
        color, side = rng.choice(list(COLORS)), rng.choice(["left", "right"])
        pixels = rng.integers(90, 130, (SIZE, SIZE, 3)).astype(np.uint8)
        pixels[:, : SIZE // 2] = COLORS[color] if side == "left" else pixels[:, : SIZE // 2]
        pixels[:, SIZE // 2 :] = COLORS[color] if side == "right" else pixels[:, SIZE // 2 :]
        Image.fromarray(pixels).save(path.with_suffix(".png"))
        return [sentence.format(color=words[str(color)], side=words[str(side)]) for sentence in sentences]

    return write


SAMPLES: dict[str, Callable[[int, Path], list[str]]] = {
    "reports": report,
    "fields": field,
    "chinese": half(CHINESE, ("图片的{side}是{color}的", "{side}有一块{color}，很大")),
    "arabic": half(ARABIC, ("النصف على {side} لونه {color}", "هناك لون {color} على {side}")),
}


def main() -> None:
    """Write all samples into the folder that is given."""
    for name, write in SAMPLES.items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True)
        lines = []
        for number in range(IMAGES):
            captions = write(number, folder / f"{number:03}")
            split = "train" if number < 120 else "val" if number < 140 else "test"
            image = next(folder.glob(f"{number:03}.*")).name
            lines.append(json.dumps({"image": image, "captions": captions, "split": split}, ensure_ascii=False))
        (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
