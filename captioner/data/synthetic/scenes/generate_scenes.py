"""The scenes as files in COCO's format, generated on first use, atomically.

root/scenes.json                                       the settings and the version of the generator
root/annotations/captions_{train,val,test}.json        "held_out": shows a combination that training images do not show
root/annotations/instances_{train,val,test}.json       boxes, and each object's color, texture and size
root/{train,val,test}/<image id>.png
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from captioner.config import ScenesConfig
from captioner.data.dataset import Box, CaptionDataset, CaptionedImage
from captioner.data.datasets.annotation_files import path_exists, read_json
from captioner.data.datasets.splits import SPLITS
from captioner.data.synthetic.scenes.drawing import draw_scene
from captioner.data.synthetic.scenes.layout import IMAGE_SIZE, Scene, sample_scene
from captioner.data.synthetic.scenes.sentences import CAPTIONS_PER_SCENE, describe
from captioner.data.synthetic.scenes.words import NOUNS
from captioner.data.synthetic.scenes.world import KINDS
from captioner.errors import DataError, choose
from captioner.files import cache_directory, temporary_beside
from captioner.helper_process import helpers
from captioner.progress_bar import Progress

GENERATOR_VERSION = 1
"""Must be increased when the same seed gives other images or captions."""

MARKER = "scenes.json"
MAX_SCENES = 1_000_000  # per split; the image ids of the splits begin at 1, 2 and 3 million
MAX_OBJECTS = 10  # per scene
MANY = 500  # scenes from which on several processes draw

_CATEGORY_IDS = {kind: number for number, kind in enumerate(KINDS, start=1)}
_LABEL_NAMES = {
    label: tuple(name for names in noun.names for name in (names.one, names.several)) for label, noun in NOUNS.items()
}


class GeneratedScene(NamedTuple):
    """A scene before it is drawn: image id, layout and captions."""

    image_id: int
    scene: Scene
    captions: tuple[str, ...]


def available_splits(config: ScenesConfig) -> list[str]:
    """train, val and test, whatever the settings."""
    return list(SPLITS)


def has_boxes(config: ScenesConfig, split: str) -> bool:
    """True: `read_split` returns every object's bounding box."""
    return True


def read_split(config: ScenesConfig, split: str) -> CaptionDataset:
    """`load_scenes`, under the name that the registry of data sets expects."""
    return load_scenes(config, split)


def read_references(config: ScenesConfig, split: str) -> CaptionDataset:
    """The captions of one split; scenes that are not on disk are not drawn for them."""
    choose("split", split, SPLITS)
    root = scenes_directory(config)
    if _holds_scenes(root, config):
        return _read(root, split)
    scenes = (generate_scene(config.seed, split, index) for index in range(_sizes(config)[split]))
    images = (
        CaptionedImage(image_id, root / split / f"{image_id}.png", texts, _boxes(image_id, scene))
        for image_id, scene, texts in scenes
    )
    return CaptionDataset("scenes", split, tuple(images), label_names=_LABEL_NAMES)


def load_scenes(config: ScenesConfig, split: str) -> CaptionDataset:
    """One split of the scenes, with bounding boxes. All three splits are generated on first use.

    They are written to `config.root`, or to a folder of the cache named after seed, sizes and version of the generator.
    DataError if `config.root` holds anything other than these scenes: nothing is overwritten.
    """
    choose("split", split, SPLITS)
    root = scenes_directory(config)
    if not _holds_scenes(root, config):
        _generate(root, config)
    return _read(root, split)


def scenes_directory(config: ScenesConfig) -> Path:
    """The folder of the scenes with these settings, whether or not it exists."""
    if config.root is not None:
        return Path(config.root).expanduser()
    sizes = "-".join(str(size) for size in _sizes(config).values())
    return cache_directory() / "scenes" / f"v{GENERATOR_VERSION}-seed{config.seed}-{sizes}"


def generate_scene(seed: int, split: str, index: int) -> GeneratedScene:
    """Scene `index` of a split: a function of the arguments, independent of other scenes and of the splits' sizes."""
    image_id = (SPLITS.index(split) + 1) * MAX_SCENES + index
    scene = sample_scene(_stream(seed, split, index, "layout"), split)
    return GeneratedScene(image_id, scene, describe(scene, _stream(seed, split, index, "sentences")))


def _stream(seed: int, split: str, index: int, purpose: str) -> random.Random:
    """An independent random stream for each purpose. Strings are hashed with SHA-512, so it is the same everywhere."""
    return random.Random(f"captioner scenes {seed} {split} {index} {purpose}")


def _sizes(config: ScenesConfig) -> dict[str, int]:
    sizes = {"train": config.train_size, "val": config.val_size, "test": config.test_size}
    for split, size in sizes.items():
        if size > MAX_SCENES:
            raise DataError(f"data.{split}_size={size} is too large: expected at most {MAX_SCENES:,}.")
    return sizes


def _identity(config: ScenesConfig) -> dict[str, Any]:
    return {"generator": "captioner scenes", "version": GENERATOR_VERSION, "seed": config.seed, "sizes": _sizes(config)}


def _holds_scenes(root: Path, config: ScenesConfig) -> bool:
    """True if `root` holds these scenes, False if it is empty or does not exist, DataError for other content."""
    if not path_exists(root) or _is_empty_folder(root):
        return False
    if not path_exists(root / MARKER):
        raise DataError(
            f"{root} holds something other than scenes (it has no {MARKER}). Nothing was written. "
            "Set data.root to a new or an empty folder, or to null for the cache."
        )
    found, wanted = read_json(root / MARKER), _identity(config)
    if found != wanted:
        raise DataError(
            f"{root} holds scenes of other settings: {json.dumps(found)} instead of "
            f"{json.dumps(wanted)}. Nothing was written. Set data.root to another folder, or to null for the cache."
        )
    return True


def _is_empty_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not any(path.iterdir())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Set data.root to another folder.") from error


def _generate(root: Path, config: ScenesConfig) -> None:
    sizes = _sizes(config)
    total = sum(sizes.values())
    shares = max(1, min(config.num_workers, os.cpu_count() or 1)) if total >= MANY else 1
    try:
        with _atomic_folder(root) as folder, Progress(total, "generating scenes", keep=True) as progress:
            for name in ("annotations", *sizes):
                (folder / name).mkdir()
            with _others_draw(folder, config.seed, sizes, shares):
                for split, size in sizes.items():
                    _generate_split(folder, config.seed, split, size, shares, progress)
            _write_json(folder / MARKER, _identity(config))
    except OSError as error:
        raise DataError(
            f"The scenes cannot be written to {root}: {error.strerror or error}. Set data.root to a writable folder "
            "with enough space (about 12 KB per image), or CAPTIONER_CACHE to a cache folder."
        ) from error
    if not _holds_scenes(root, config):
        raise DataError(f"{root} was removed while the scenes were being generated. Run this again.")


@contextmanager
def _atomic_folder(root: Path) -> Iterator[Path]:
    """A new folder beside `root` that is renamed to `root` when the block succeeds, and removed when it fails.

    If another process has finished `root` in the meantime, its folder is kept. A killed process leaves its hidden
    folder, which is never read, and is removed when scenes are generated there again.
    """
    partial = temporary_beside(root)
    partial.mkdir(parents=True)
    try:
        yield partial
        try:
            if _is_empty_folder(root):
                root.rmdir()
            partial.rename(root)
        except OSError:
            if not path_exists(root / MARKER):
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def draw_share(folder: Path, seed: int, sizes: Mapping[str, int], share: int, shares: int) -> None:
    """Draw every image whose index is `share` modulo `shares`, into the folders of the splits."""
    for split, size in sizes.items():
        for index in range(share, size, shares):
            _draw(folder, seed, split, index, generate_scene(seed, split, index))


def _draw(folder: Path, seed: int, split: str, index: int, generated: GeneratedScene) -> None:
    image = draw_scene(generated.scene, _stream(seed, split, index, "picture"))
    image.save(folder / split / f"{generated.image_id}.png", compress_level=2)


@contextmanager
def _others_draw(folder: Path, seed: int, sizes: Mapping[str, int], shares: int) -> Iterator[None]:
    """A context in which a process each draws the shares after the first; at its end all are drawn.

    What such a process could not draw is drawn here, where an error has its message.
    """
    command = ["-m", f"{__package__}.draw_share", str(folder), str(seed), json.dumps(dict(sizes))]
    with helpers([[*command, str(share), str(shares)] for share in range(1, shares)]) as others:
        yield
        for share, other in enumerate(others, 1):
            if not other.succeeded():
                draw_share(folder, seed, sizes, share, shares)


def _generate_split(folder: Path, seed: int, split: str, size: int, shares: int, progress: Progress) -> None:
    """Write the annotations of a split, and draw the first of its `shares`."""
    images: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for index in range(size):
        image_id, scene, texts = generated = generate_scene(seed, split, index)
        if index % shares == 0:
            _draw(folder, seed, split, index, generated)
        images.append(
            {
                "id": image_id,
                "file_name": f"{image_id}.png",
                "width": IMAGE_SIZE,
                "height": IMAGE_SIZE,
                "held_out": scene.held_out,
            }
        )
        captions += [
            {"id": CAPTIONS_PER_SCENE * image_id + number, "image_id": image_id, "caption": text}
            for number, text in enumerate(texts)
        ]
        objects += _annotated_objects(image_id, scene)
        progress.update()
    shared = {"info": {"description": f"generated scenes, seed {seed}, {split}"}, "images": images}
    categories = [{"id": number, "name": kind} for kind, number in _CATEGORY_IDS.items()]
    annotations = folder / "annotations"
    _write_json(annotations / f"captions_{split}.json", {**shared, "annotations": captions})
    _write_json(annotations / f"instances_{split}.json", {**shared, "annotations": objects, "categories": categories})


def _annotated_objects(image_id: int, scene: Scene) -> Iterator[dict[str, Any]]:
    for number, (appearance, placement) in enumerate(scene.objects()):
        yield {
            "id": MAX_OBJECTS * image_id + number,
            "image_id": image_id,
            "category_id": _CATEGORY_IDS[appearance.kind],
            "bbox": [round(value, 2) for value in (placement.left, placement.top, placement.width, placement.height)],
            "area": round(placement.width * placement.height, 2),
            "iscrowd": 0,
            "attributes": {"colour": appearance.color, "texture": appearance.texture, "size": appearance.size},
        }


def _boxes(image_id: int, scene: Scene) -> tuple[Box, ...]:
    """The boxes that `_read` returns of a scene that is on disk."""
    kinds = {number: kind for kind, number in _CATEGORY_IDS.items()}
    return tuple(Box(kinds[each["category_id"]], *each["bbox"]) for each in _annotated_objects(image_id, scene))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8", newline="\n")


def _read(root: Path, split: str) -> CaptionDataset:
    annotated, instances = (
        read_json(root / "annotations" / f"{kind}_{split}.json") for kind in ("captions", "instances")
    )
    try:
        captions: dict[int, list[str]] = {image["id"]: [] for image in annotated["images"]}
        boxes: dict[int, list[Box]] = {image["id"]: [] for image in annotated["images"]}
        for annotation in annotated["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"])
        labels = {category["id"]: category["name"] for category in instances["categories"]}
        for annotation in instances["annotations"]:
            boxes[annotation["image_id"]].append(Box(labels[annotation["category_id"]], *annotation["bbox"]))
        images = tuple(
            CaptionedImage(
                image["id"], root / split / image["file_name"], tuple(captions[image["id"]]), tuple(boxes[image["id"]])
            )
            for image in annotated["images"]
        )
    except (KeyError, TypeError) as error:
        raise DataError(
            f"The annotations of {split} in {root} were changed after they were generated ({error!r}). "
            "Remove the folder to generate the scenes again."
        ) from error
    return CaptionDataset("scenes", split, images, label_names=_LABEL_NAMES)
