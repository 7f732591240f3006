"""COCO's JSON layout: COCO, STAIR captions, nocaps, VizWiz and whatever was converted to it."""

from __future__ import annotations

from typing import Any

from captioner.data.datasets.coco_captions import captioned_images
from captioner.data.datasets.faults import Faults
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Entry, Layout
from captioner.data.datasets.layouts.objects import has_columns
from captioner.data.datasets.splits import SPLITS, split_name

FLAGS = {"is_rejected": "keep_rejected", "is_precanned": "keep_precanned"}
"""VizWiz's marks of captions that are spam, or one of its ready sentences → the setting that keeps them."""


def _recognizes(file: AnnotationFile) -> bool:
    if file.kind != "json" or type(file.json) is not dict or type(file.json.get("images")) is not list:
        return False
    if "annotations" in file.json:
        return True
    first: object = next(iter(file.json["images"]), None)
    return type(first) is dict and first.keys() >= {"id", "file_name"} and not has_columns([first], file.options)


def _read(file: AnnotationFile) -> Content:
    data, notices = file.json, list[str]()
    if "annotations" not in data:  # the test splits of COCO and nocaps have no public captions
        data = {**data, "annotations": []}
        notices.append(f"{file.path} has images, but no captions.")
    for flag, setting in FLAGS.items():
        data, omitted = (data, 0) if getattr(file.options, setting) else _without(data, flag)
        if omitted:
            notices.append(
                f"{omitted:,} captions of {file.path} with {flag} are left out (data.{setting}=true keeps them)."
            )
    faults, entries = Faults(), list[Entry]()
    for number, image in enumerate(captioned_images(data, file.path)):
        split = None if image.split is None else split_name(image.split)
        if image.split is not None and split is None:
            faults.found.append(
                f"{file.path}: {image.file_name} has the split {image.split!r}. Expected {', '.join(SPLITS)}."
            )
            continue
        entries.append(Entry((image.file_name,), image.captions, split, image.image_id, f"images[{number}]"))
    return Content(entries, tuple(notices), tuple(faults.found))


def _without(data: dict[str, Any], flag: str) -> tuple[dict[str, Any], int]:
    """(the data without the captions that have `flag`, their number)."""
    annotations = data["annotations"]
    if type(annotations) is not list:
        return data, 0
    kept = [annotation for annotation in annotations if type(annotation) is not dict or not annotation.get(flag)]
    return {**data, "annotations": kept}, len(annotations) - len(kept)


COCO_JSON = Layout(
    "COCO's JSON: COCO, STAIR, nocaps, VizWiz",
    '{"images": [{"id": 9, "file_name": "9.jpg"}], "annotations": [{"image_id": 9, "caption": "a cat"}]}',
    _recognizes,
    _read,
)
