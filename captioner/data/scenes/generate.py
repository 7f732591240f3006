"""The scenes as files: COCO's layout, drawn on first use, whole or not at all.

root/scenes.json                              what was drawn: settings and generator version
root/annotations/captions_{train,val,test}.json
root/annotations/instances_{train,val,test}.json
root/{train,val,test}/<image id>.png
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captioner.config import ScenesConfig
from captioner.data.dataset import Box, CaptionDataset, CaptionedImage
from captioner.data.locations import cache_directory
from captioner.data.scenes.drawing import draw_scene
from captioner.data.scenes.layout import PICTURE_SIZE, Scene, sample_scene
from captioner.data.scenes.sentences import SENTENCES_PER_SCENE, describe
from captioner.data.scenes.world import KINDS
from captioner.errors import DataError, choose

GENERATOR_VERSION = 1
"""Raised whenever the same seed would give other pictures or other sentences."""

SPLITS = ("train", "val", "test")

MARKER = "scenes.json"

_LARGEST_SPLIT = 1_000_000
_CATEGORY_IDS = {kind: number for number, kind in enumerate(KINDS, start=1)}


def load_scenes(config: ScenesConfig, split: str) -> CaptionDataset:
    """One split of the generated scenes, drawn on first use.

    All three splits are drawn at once into `config.root`, or into a folder of the cache that is named after
    the settings. DataError where `config.root` holds anything but these scenes; it is never written to.
    """
    choose("split", split, SPLITS)
    root = scenes_directory(config)
    if not _holds_scenes(root, config):
        _generate(root, config)
    return _read(root, split)


def scenes_directory(config: ScenesConfig) -> Path:
    """Where the scenes of this configuration are, or will be."""
    if config.root is not None:
        return Path(config.root).expanduser()
    sizes = "-".join(str(size) for size in _sizes(config).values())
    return cache_directory() / "scenes" / f"v{GENERATOR_VERSION}-seed{config.seed}-{sizes}"


def scene_of(seed: int, split: str, index: int) -> tuple[int, Scene, tuple[str, ...]]:
    """Image id, layout and sentences of one picture; other pictures and the splits' sizes have no influence."""
    number = (SPLITS.index(split) + 1) * _LARGEST_SPLIT + index
    scene = sample_scene(_stream(seed, split, index, "layout"), split)
    return number, scene, describe(scene, _stream(seed, split, index, "sentences"))


def _stream(seed: int, split: str, index: int, purpose: str) -> random.Random:
    """A stream of random numbers of its own (a string seeds through SHA-512: the same in every process)."""
    return random.Random(f"captioner scenes {seed} {split} {index} {purpose}")


def _sizes(config: ScenesConfig) -> dict[str, int]:
    sizes = {"train": config.train_size, "val": config.val_size, "test": config.test_size}
    for split, size in sizes.items():
        if size > _LARGEST_SPLIT:
            raise DataError(f"data.{split}_size={size} is too large: at most {_LARGEST_SPLIT} scenes can be numbered.")
    return sizes


def _identity(config: ScenesConfig) -> dict[str, Any]:
    return {"generator": "captioner scenes", "version": GENERATOR_VERSION, "seed": config.seed, "sizes": _sizes(config)}


def _holds_scenes(root: Path, config: ScenesConfig) -> bool:
    """True for exactly these scenes, False for nothing (absent, or an empty folder), DataError for anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    wanted = _identity(config)
    try:
        found = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(
            f"{root} exists and holds something else than generated scenes (no readable {MARKER}). "
            "Nothing was written; set data.root to a new or an empty folder, or to null for the cache."
        ) from None
    if found != wanted:
        raise DataError(
            f"{root} holds other scenes than asked for: it says {found}, expected {wanted}. "
            "Nothing was written; set data.root to another folder or to null, or give the settings it was drawn with."
        )
    return True


@contextmanager
def _completed(root: Path) -> Iterator[Path]:
    """A new folder beside `root` that becomes `root` when the block ends well and is removed when it does not.

    Where another process has put `root` there in the meantime, that one stays: it is the same.
    """
    partial = root.with_name(f".{root.name}.partial-{secrets.token_hex(8)}")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise DataError(
            f"The scenes cannot be drawn into {root}: {error.strerror}. Set data.root to a folder that can be written."
        ) from error
    try:
        yield partial
        if root.is_dir() and not any(root.iterdir()):
            root.rmdir()
        try:
            partial.rename(root)
        except OSError:
            if not root.exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _generate(root: Path, config: ScenesConfig) -> None:
    sizes = _sizes(config)
    with (
        _completed(root) as folder,
        tqdm(
            total=sum(sizes.values()), desc="drawing scenes", unit="picture", disable=not sys.stderr.isatty()
        ) as progress,
    ):
        (folder / "annotations").mkdir()
        for split, size in sizes.items():
            _generate_split(folder, config.seed, split, size, progress)
        _write_json(folder / MARKER, _identity(config))
    _holds_scenes(root, config)


def _generate_split(folder: Path, seed: int, split: str, size: int, progress: tqdm[Any]) -> None:
    images: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    (folder / split).mkdir()
    for index in range(size):
        number, scene, sentences = scene_of(seed, split, index)
        picture = draw_scene(scene, _stream(seed, split, index, "picture"))
        name = f"{number}.png"
        picture.save(folder / split / name, compress_level=2)
        images.append(
            {"id": number, "file_name": name, "width": PICTURE_SIZE, "height": PICTURE_SIZE, "held_out": scene.held_out}
        )
        captions += [
            {"id": SENTENCES_PER_SCENE * number + turn, "image_id": number, "caption": sentence}
            for turn, sentence in enumerate(sentences)
        ]
        for place, (look, spot) in enumerate(scene.things()):
            box = [round(value, 2) for value in (spot.left, spot.top, spot.width, spot.height)]
            instances.append(
                {
                    "id": 10 * number + place,
                    "image_id": number,
                    "category_id": _CATEGORY_IDS[look.kind],
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    "attributes": {"colour": look.colour, "texture": look.texture, "size": look.size},
                }
            )
        progress.update()
    info = {"description": f"generated scenes, seed {seed}, {split}", "version": str(GENERATOR_VERSION)}
    categories = [{"id": number, "name": kind, "supercategory": "object"} for kind, number in _CATEGORY_IDS.items()]
    _write_json(
        folder / "annotations" / f"captions_{split}.json", {"info": info, "images": images, "annotations": captions}
    )
    _write_json(
        folder / "annotations" / f"instances_{split}.json",
        {"info": info, "images": images, "annotations": instances, "categories": categories},
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _read(root: Path, split: str) -> CaptionDataset:
    captions, instances = (
        _read_json(root / "annotations" / f"{kind}_{split}.json") for kind in ("captions", "instances")
    )
    present = {entry.name for entry in os.scandir(root / split)}
    said: dict[int, list[str]] = {}
    for annotation in captions["annotations"]:
        said.setdefault(annotation["image_id"], []).append(annotation["caption"])
    names = {category["id"]: category["name"] for category in instances["categories"]}
    boxes: dict[int, list[Box]] = {}
    for annotation in instances["annotations"]:
        boxes.setdefault(annotation["image_id"], []).append(Box(names[annotation["category_id"]], *annotation["bbox"]))
    images = []
    for image in captions["images"]:
        if image["file_name"] not in present:
            raise DataError(
                f"{root / split / image['file_name']} is missing. Remove {root}: it is drawn again on the next use."
            )
        number = image["id"]
        images.append(
            CaptionedImage(number, root / split / image["file_name"], tuple(said[number]), tuple(boxes[number]))
        )
    return CaptionDataset("scenes", split, tuple(images))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}). Remove its data set's folder: it is drawn again.") from error
    return content
