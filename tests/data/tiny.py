"""Small data sets in the formats of the readers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def jpeg(color: str = "red", size: tuple[int, int] = (8, 6)) -> bytes:
    """A small photo."""
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, "JPEG")
    return stream.getvalue()


def write_images(folder: Path, names: Sequence[str]) -> None:
    """An image with each name; all have different content."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6 + number), "red").save(path)


def coco_captions(captions: Mapping[int, Sequence[str]], name: Callable[[int], str]) -> dict[str, Any]:
    """A COCO captions file from image id → captions and a function from id to file name."""
    images = [{"id": image_id, "file_name": name(image_id)} for image_id in captions]
    pairs = [(image_id, caption) for image_id, every in captions.items() for caption in every]
    annotations = [
        {"id": number, "image_id": image_id, "caption": caption} for number, (image_id, caption) in enumerate(pairs)
    ]
    return {"info": {}, "images": images, "annotations": annotations}


def write_json(path: Path, content: object) -> Path:
    """Write a JSON file; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_text(path: Path, content: str) -> Path:
    """Write a UTF-8 file; creates its folder."""
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
        write_images(root / f"{part}{year}", list(names.values()))


FLICKR8K = [f"{number}_ab{number:02d}.jpg" for number in range(40)]


def flickr8k_tokens(names: Sequence[str], captions: int = 2) -> str:
    """Flickr8k.token.txt of these images, with an entry for a nonexistent image, as in the official file."""
    lines = [f"{name}#{index}\tA dog {index} , said of {name} .\n" for name in names for index in range(captions)]
    bad = "2258277193_586949ec62.jpg.1#0\tPeople waiting .\n"
    return "".join(lines) + bad


def write_flickr8k(root: Path, text_folder: str = "", image_folder: str = "Images") -> None:
    """Flickr8k's official layout: train 0 to 2, dev 3 and 4, test 5, two captions each."""
    names = FLICKR8K
    write_images(root / image_folder, names[:6])
    write_text(root / text_folder / "Flickr8k.token.txt", flickr8k_tokens(names[:6]))
    for part, own in {"train": names[:3], "dev": names[3:5], "test": names[5:6]}.items():
        write_text(root / text_folder / f"Flickr_8k.{part}Images.txt", "".join(f"{name}\r\n" for name in own) + "\n")


def write_flickr30k(path: Path) -> None:
    """Karpathy's file of Flickr30k and its images: two of train, one each of val and test."""
    parts = {"1000092795.jpg": "train", "10002456.jpg": "val", "1000268201.jpg": "test", "1000344755.jpg": "train"}
    images = [
        {"filename": name, "split": part, "imgid": number, "sentences": [{"raw": f"Caption {i} ."} for i in range(5)]}
        for number, (name, part) in enumerate(parts.items())
    ]
    write_json(path, {"images": images, "dataset": "flickr30k"})
    write_images(path.parent / "flickr30k-images", list(parts))
