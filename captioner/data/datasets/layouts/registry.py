"""The layouts that `data=folder` reads, in the order in which they are tried, and how a file is read by them."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from captioner.data.datasets.annotation_files import JSON_TYPES
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Layout, ReadOptions
from captioner.data.datasets.layouts.coco_json import COCO_JSON
from captioner.data.datasets.layouts.columns import CAPTION_KEYS, IMAGE_KEYS, check_named_columns, listed_names
from captioner.data.datasets.layouts.karpathy_json import KARPATHY_JSON
from captioner.data.datasets.layouts.localized_narratives import LOCALIZED_NARRATIVES
from captioner.data.datasets.layouts.name_to_captions import NAME_TO_CAPTIONS
from captioner.data.datasets.layouts.objects import INNER_LIST, JSON_LINES, OBJECT_LIST, SPLIT_LISTS
from captioner.data.datasets.layouts.parquet import PARQUET
from captioner.data.datasets.layouts.tables import DELIMITERS, PAIRS, TABLE, no_columns, split_header
from captioner.data.datasets.layouts.text_beside_image import TEXT_BESIDE_IMAGE
from captioner.data.datasets.layouts.textcaps import TEXTCAPS
from captioner.data.datasets.layouts.token_file import TOKEN_FILE
from captioner.errors import DataError
from captioner.registry import Registry

LAYOUTS: Registry[Layout] = Registry(
    "data.layout",
    "captioner.layouts",
    {
        "table": TABLE,
        "token_file": TOKEN_FILE,
        "pairs": PAIRS,
        "localized_narratives": LOCALIZED_NARRATIVES,
        "json_lines": JSON_LINES,
        "karpathy": KARPATHY_JSON,
        "coco": COCO_JSON,
        "textcaps": TEXTCAPS,
        "object_list": OBJECT_LIST,
        "split_lists": SPLIT_LISTS,
        "inner_list": INNER_LIST,
        "name_to_captions": NAME_TO_CAPTIONS,
        "parquet": PARQUET,
        "text_beside_image": TEXT_BESIDE_IMAGE,
    },
)
"""Name → layout. The first one that recognizes a file reads it, so a more special one comes first."""

REMEMBERED = 64 * 2**20  # bytes; larger files would take too much memory, and are read each time

CONVERSION = (
    "Any file becomes one that is read with three lines of Python:\n"
    "    import json, pathlib\n"
    '    rows = [{"image": name, "captions": [caption]} for name, caption in PAIRS]  # PAIRS: from your file\n'
    '    pathlib.Path("captions.jsonl").write_text("\\n".join(map(json.dumps, rows)))'
)


def recognize(file: AnnotationFile) -> Layout:
    """The layout of a file; DataError with what the file holds, what was expected, and how to convert it."""
    layouts = LAYOUTS.loadable().values()
    layout = next((layout for layout in layouts if _fits(layout, file.options) and layout.recognizes(file)), None)
    if layout is None:
        other = next((layout for layout in layouts if layout.recognizes(file)), None)
        raise DataError(_unknown(file) if other is None else _fixed(file, other))
    return layout


def _fits(layout: Layout, options: ReadOptions) -> bool:
    return layout.has_columns or not options.names_columns


def _fixed(file: AnnotationFile, layout: Layout) -> str:
    """The message for names of columns where there are none to choose."""
    settings = [key for key in ("image_column", "caption_column", "split_column") if getattr(file.options, key)]
    return (
        f"data.{' and data.'.join(settings)} cannot be used for {file.path}, which is {layout.description}: the names "
        "of its columns or keys are fixed. Leave the setting out."
    )


def read_captions_file(path: Path, options: ReadOptions | None = None) -> Content:
    """The entries of a file of captions (or of a folder of images and text files) in any known layout.

    Images are not looked for. DataError if the layout is unknown or the file cannot be read; what is wrong with single
    entries is in `faults`.
    """
    options = options or ReadOptions()
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return _read(path, options)  # raises the message for the file
    if path.is_dir() or stat.st_size > REMEMBERED:
        return _read(path, options)
    return _read_once(path, options, os.path.abspath(path), stat.st_mtime_ns, stat.st_size, stat.st_ino)  # noqa: PTH100


@lru_cache(maxsize=2)
def _read_once(path: Path, options: ReadOptions, *identity: object) -> Content:
    """`_read`, remembered: each command asks for the splits of a file, and then for one after the other."""
    return _read(path, options)


def _read(path: Path, options: ReadOptions) -> Content:
    file = AnnotationFile(path, options)
    return recognize(file).read(file)


def layouts_table() -> str:
    """The table of docs/data.md: every layout with an example."""
    rows = ["| layout | example |", "|---|---|"]
    for layout in LAYOUTS.loadable().values():
        example = "<br>".join(f"`{line}`" for line in layout.example.replace("\t", "⇥").replace("|", "\\|").split("\n"))
        rows.append(f"| {layout.description} | {example} |")
    return "\n".join(rows)


def _unknown(file: AnnotationFile) -> str:
    """The message for a file in no known layout."""
    if file.kind == "folder":
        return (
            f"{file.path} is a folder without images. Expected images, with their captions in cat.txt beside cat.jpg."
        )
    if file.kind == "text":
        first = file.text.partition("\n")[0]
        names = max((split_header(first, mark) for mark in DELIMITERS), key=len) if first.strip() else []
        if first.strip():
            check_named_columns(names, file.options, f"{file.path}, line 1")
        return f"{no_columns(file.path, names)} {CONVERSION}"
    data = file.json
    place, record = _first_record(data)
    if record is not None:
        check_named_columns(record, file.options, f"{file.path}, {place}[0]")
    if type(data) is dict:
        found = f"an object with the keys {listed_names(data)}"
    else:
        found = JSON_TYPES.get(type(data), "a value") + ("" if type(data) is not list or record else " of no objects")
    if record is not None:
        found += f"{f', whose {place} is a list' if place else ''} of objects with the keys {listed_names(record)}"
    return (
        f"{file.path} is JSON in no layout that data=folder reads: it is {found}. Expected, for example,\n"
        f"    {OBJECT_LIST_EXAMPLE}\n"
        f"The image may be called {', '.join(IMAGE_KEYS[:5])} …, the captions {', '.join(CAPTION_KEYS[:4])} …; "
        f"data.image_column and data.caption_column name other keys. {CONVERSION}"
    )


def _first_record(data: object) -> tuple[str, dict[str, object] | None]:
    """(the key of the list, "" for the whole file; its first object) of the first list of objects; None without one."""
    lists = {"": data} if type(data) is list else data if type(data) is dict else {}
    for key, records in lists.items():
        if type(records) is list and records and type(records[0]) is dict:
            return str(key), records[0]
    return "", None


OBJECT_LIST_EXAMPLE = '[{"image": "cat.jpg", "captions": ["a cat", "a tabby"], "split": "train"}]'
