"""Localized Narratives (Pont-Tuset et al., ECCV 2020): JSON lines with a spoken caption and its mouse trace.

The files name images by their id in COCO, Flickr30k, ADE20K or Open Images, without a suffix.
"""

from __future__ import annotations

import json
import re

from captioner.data.datasets.faults import Faults
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Entry, Layout
from captioner.data.datasets.layouts.columns import record_entry
from captioner.data.datasets.splits import split_name

KEYS = {"dataset_id", "image_id", "annotator_id", "caption"}
_SPLIT = re.compile(r".*_(?P<split>train|val|validation|test)\d*")


def _recognizes(file: AnnotationFile) -> bool:
    if file.kind != "json lines" or not file.lines:
        return False
    try:
        first = json.loads(file.lines[0][1])
    except (ValueError, RecursionError):
        return False
    return type(first) is dict and first.keys() >= KEYS


def _read(file: AnnotationFile) -> Content:
    faults, entries = Faults(), []
    for number, text in file.lines:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            faults.found.append(f"{file.path}, line {number} is not JSON: {error}.")
            continue
        with faults.collected():
            entry = record_entry(record, file.options, str(file.path), f"line {number}")
            entries.append(_with_file_name(entry, str(record.get("dataset_id"))))
    return Content(entries, (), tuple(faults.found))


def _with_file_name(entry: Entry, dataset: str) -> Entry:
    """COCO's ids become names of its files, 12 digits; the split is part of the data set's name (mscoco_val2017)."""
    match = _SPLIT.fullmatch(dataset)
    names = [str(image) for image in entry.images]
    if dataset.startswith("mscoco"):
        names = [f"{int(name):012d}" if name.isdecimal() else name for name in names]
    return Entry(tuple(names), entry.captions, match and split_name(match["split"]), None, entry.place)


LOCALIZED_NARRATIVES = Layout(
    "Localized Narratives of COCO, Flickr30k, ADE20K and Open Images",
    '{"dataset_id": "mscoco_val2017", "image_id": "137576", "annotator_id": 93, "caption": "In this image …"}',
    _recognizes,
    _read,
)
