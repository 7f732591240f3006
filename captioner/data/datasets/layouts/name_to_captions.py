"""A JSON object from the names of images to their captions, or one such object per split."""

from __future__ import annotations

from typing import Any

from captioner.data.datasets.faults import Faults
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Entry, Layout
from captioner.data.datasets.layouts.columns import captions_of, images_of
from captioner.data.datasets.layouts.objects import by_split

SAMPLE = 20  # items by which the layout is recognized


def _is_table(data: object) -> bool:
    if type(data) is not dict or not data:
        return False
    return all(_are_captions(value) for value in list(data.values())[:SAMPLE])


def _are_captions(value: object) -> bool:
    return type(value) is str or (type(value) is list and bool(value) and all(type(item) is str for item in value))


def _tables(file: AnnotationFile) -> dict[str | None, dict[str, Any]]:
    """Split → names and captions; None for a file without splits. {} for a file in another layout."""
    if file.kind != "json":
        return {}
    splits = by_split(file.json)
    if splits is not None and all(map(_is_table, splits.values())):
        return {split: table for split, table in splits.items()}  # noqa: C416 - dict is invariant in its keys
    return {None: file.json} if splits is None and _is_table(file.json) else {}


def _read(file: AnnotationFile) -> Content:
    faults, entries = Faults(), []
    for split, table in _tables(file).items():
        for name, value in table.items():
            where = f"{file.path}, {name!r}"
            with faults.collected():
                captions = tuple(captions_of(value, name, where))
                entries.append(Entry(images_of(name, "image", where), captions, split, place=f"{name!r}"))
    return Content(entries, (), tuple(faults.found))


NAME_TO_CAPTIONS = Layout(
    "an object from names to captions, also one per split",
    '{"cat.jpg": ["a cat", "a tabby"]}',
    lambda file: bool(_tables(file)),
    _read,
)
