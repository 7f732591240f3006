"""TextCaps (Sidorov et al., ECCV 2020): a list of captions, each with the image's id and, again, all its references."""

from __future__ import annotations

from typing import Any

from captioner.data.datasets.annotation_files import get_field
from captioner.data.datasets.faults import Faults
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Entry, Layout


def _records(file: AnnotationFile) -> list[Any]:
    data = file.json if file.kind == "json" else None
    records = data.get("data") if type(data) is dict else None
    return records if type(records) is list else []


def _recognizes(file: AnnotationFile) -> bool:
    first = next(iter(_records(file)), None)
    if type(first) is not dict or "image_id" not in first:
        return False
    keys = set(first)
    return not keys & {"image", "caption", "captions"} and bool(keys & {"caption_str", "image_classes"})


def _read(file: AnnotationFile) -> Content:
    """The images are found by their id, because the file names other folders than those that one downloads.

    The test split has no captions.
    """
    faults, entries, where = Faults(), [], f"{file.path}: data"
    for number, record in enumerate(_records(file)):
        with faults.collected():
            image = get_field(record, "image_id", str, where, number)
            captions = (get_field(record, "caption_str", str, where, number),) if "caption_str" in record else ()
            entries.append(Entry((image,), captions, place=f"data[{number}]"))
    return Content(entries, (), tuple(faults.found))


TEXTCAPS = Layout(
    "TextCaps", '{"data": [{"image_id": "003a8ae2ef43b901", "caption_str": "a book"}]}', _recognizes, _read
)
