"""JSON objects with an image and its captions: one per line, in a list, or in the lists of an object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from captioner.data.datasets.faults import Faults
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Entry, Layout, ReadOptions
from captioner.data.datasets.layouts.columns import UnreadSplits, find_columns, record_entry
from captioner.data.datasets.splits import split_name
from captioner.errors import DataError


def has_columns(records: object, options: ReadOptions) -> bool:
    """Whether `records` is a list whose first item is an object with an image and captions."""
    first = records[0] if type(records) is list and records else None
    return type(first) is dict and find_columns(tuple(first), options) is not None


def by_split(data: object) -> dict[str, Any] | None:
    """The items of an object whose keys are all names of splits (train, val, …), else None."""
    if type(data) is not dict or not data:
        return None
    splits = {key: split_name(key) for key in data}
    return {split: data[key] for key, split in splits.items() if split} if all(splits.values()) else None


def read_records(
    file: AnnotationFile,
    records: list[Any],
    name: str,
    split: str | None,
    faults: Faults,
    unread: UnreadSplits | None = None,
) -> list[Entry]:
    """The entries of a list of objects. name: of the list in the file, for messages. split: of entries without one.

    unread: where keys that hold splits and are not read are looked for.
    """
    entries = []
    for number, record in enumerate(records):
        if unread is not None:
            _look_for_splits(record, file.options, unread)
        with faults.collected():
            entry = record_entry(record, file.options, str(file.path), f"{name}[{number}]")
            if split and entry.split not in (None, split):
                raise DataError(f"{file.path}, {name}[{number}]: the split is {entry.split!r} in the list of {split}.")
            entries.append(replace(entry, split=split) if split else entry)
    return entries


def _look_for_splits(record: object, options: ReadOptions, unread: UnreadSplits) -> None:
    if unread.wanted and type(record) is dict:
        unread.add(record, find_columns(tuple(record), options))


# ------------------------------------------------------------------------------------- JSON lines


def _read_lines(file: AnnotationFile) -> Content:
    faults, entries, unread = Faults(), [], UnreadSplits()
    for number, text in file.lines:
        where = f"{file.path}, line {number}"
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            faults.found.append(f"{where} is not JSON: {error}.")
            continue
        _look_for_splits(record, file.options, unread)
        with faults.collected():
            entry = record_entry(record, file.options, str(file.path), f"line {number}")
            # A line without a caption counts as a blank one, as in a table.
            entries.append(entry if entry.captions else replace(entry, captions=("",)))
    return Content(entries, (), tuple(faults.found), unread.found)


JSON_LINES = Layout(
    "JSON lines: ours, Hugging Face's `metadata.jsonl`",
    '{"image": "cat.jpg", "captions": ["a cat", "a tabby"], "split": "train"}',
    lambda file: file.kind == "json lines",
    _read_lines,
    has_columns=True,
)

# ------------------------------------------------------------------------------ a list of objects


def _read_list(file: AnnotationFile) -> Content:
    faults, unread = Faults(), UnreadSplits()
    entries = read_records(file, file.json, "", None, faults, unread)
    return Content(entries, (), tuple(faults.found), unread.found)


OBJECT_LIST = Layout(
    "a list of objects: LAVIS and BLIP, AI Challenger",
    '[{"image_id": "1.jpg", "caption": ["a boy runs", "a child"]}]',
    lambda file: file.kind == "json" and has_columns(file.json, file.options),
    _read_list,
    has_columns=True,
)

# ------------------------------------------------------------------------------- a list per split


def _recognizes_splits(file: AnnotationFile) -> bool:
    lists = by_split(file.json) if file.kind == "json" else None
    return lists is not None and any(has_columns(records, file.options) for records in lists.values())


def _read_splits(file: AnnotationFile) -> Content:
    faults, entries = Faults(), list[Entry]()
    for split, records in (by_split(file.json) or {}).items():
        if type(records) is not list:
            faults.found.append(f"{file.path}: {split!r} is not a list of objects like those of the other splits.")
            continue
        entries += read_records(file, records, split, split, faults)
    return Content(entries, (), tuple(faults.found))


SPLIT_LISTS = Layout(
    "a list of objects per split: R2Gen's `annotation.json` of chest X-rays, several images a report",
    '{"train": [{"id": "CXR1", "report": "no effusion .", "image_path": ["CXR1/0.png", "CXR1/1.png"]}]}',
    _recognizes_splits,
    _read_splits,
    has_columns=True,
)

# --------------------------------------------------------------------- a list inside of an object


def _inner_lists(file: AnnotationFile) -> Iterator[tuple[str, list[Any]]]:
    if file.kind == "json" and type(file.json) is dict:
        for key, records in file.json.items():
            if has_columns(records, file.options):
                yield key, records


def _read_inner(file: AnnotationFile) -> Content:
    faults, unread = Faults(), UnreadSplits()
    ((key, records),) = _inner_lists(file)
    entries = read_records(file, records, key, None, faults, unread)
    return Content(entries, (), tuple(faults.found), unread.found)


INNER_LIST = Layout(
    "an object that holds one list of objects",
    '{"data": [{"image": "cat.jpg", "caption": "a cat"}]}',
    lambda file: len(list(_inner_lists(file))) == 1,
    _read_inner,
    has_columns=True,
)
