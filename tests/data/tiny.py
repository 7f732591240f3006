"""Data sets of a few pictures, written as the readers expect them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def jpeg(colour: str = "red", size: tuple[int, int] = (8, 6)) -> bytes:
    """A small photo."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "JPEG")
    return stream.getvalue()


def write_pictures(folder: Path, names: Sequence[str]) -> None:
    """A picture under every name; no two hold the same bytes."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6 + number), "red").save(path)


def coco_captions(captions: Mapping[int, Sequence[str]], name: Callable[[int], str]) -> dict[str, Any]:
    """A COCO captions file: image id → captions, and what each picture is called."""
    images = [{"id": image_id, "file_name": name(image_id)} for image_id in captions]
    pairs = [(image_id, caption) for image_id, every in captions.items() for caption in every]
    annotations = [
        {"id": number, "image_id": image_id, "caption": caption} for number, (image_id, caption) in enumerate(pairs)
    ]
    return {"info": {}, "images": images, "annotations": annotations}


def write_json(path: Path, content: object) -> Path:
    """The content as a JSON file, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_text(path: Path, content: str) -> Path:
    """The content as UTF-8, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
    return path


def write_coco(root: Path, year: int = 2017) -> None:
    """COCO's official layout: train 1, 2, 3 and val 4, 5, two captions each."""
    for part, ids in {"train": (1, 2, 3), "val": (4, 5)}.items():
        prefix = f"COCO_{part}2014_" if year == 2014 else ""
        names = {image_id: f"{prefix}{image_id:012d}.jpg" for image_id in ids}
        captions = {image_id: [f"a dog {image_id}", f"a cat {image_id}"] for image_id in ids}
        write_json(root / f"annotations/captions_{part}{year}.json", coco_captions(captions, names.__getitem__))
        write_pictures(root / f"{part}{year}", list(names.values()))
