"""Captions in CSV files (with commas, semicolons or tabs) and in JSON lines files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from captioner.data.datasets.annotation_files import check_text, get_field, read_text
from captioner.data.datasets.faults import Faults
from captioner.data.datasets.splits import ALIASES, SPLITS, split_name
from captioner.errors import DataError

IMAGE_COLUMNS = ("image", "filename", "file_name")
DELIMITERS = (",", ";", "\t")


class Row(NamedTuple):
    """One caption of one image. `line` is its line in the file; `split` is train, val, test or None."""

    line: int
    image: str
    caption: str
    split: str | None


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a CSV file. Its header must have image (or filename) and caption, and may have split.

    Other columns are ignored. DataError, with the line numbers, for a file in another format; after the last row for
    rows that cannot be read.
    """
    faults = Faults()
    text = read_text(path)
    header = text.partition("\n")[0]
    delimiter = next((mark for mark in DELIMITERS if "caption" in _columns(header.split(mark))), ",")
    # strict: an unclosed quote is an error instead of a caption that holds the rest of the file
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = _columns(next(reader, []))
        image = next((columns.index(name) for name in IMAGE_COLUMNS if name in columns), None)
        if image is None or "caption" not in columns:
            raise DataError(
                f"{path}, line 1: the columns are {columns}. Expected a header with 'image' (or 'filename') and "
                "'caption'; 'split' is optional."
            )
        caption = columns.index("caption")
        split = columns.index("split") if "split" in columns else None
        line = reader.line_num + 1
        for values in reader:
            row = None
            with faults.collected():
                if values and len(values) != len(columns):
                    raise DataError(
                        f"{path}, line {line}: {len(values)} columns, but the header has {len(columns)}. "
                        f"Put captions that contain {delimiter!r} in double quotes."
                    )
                if values:
                    row = Row(
                        line,
                        _image(values[image], path, line),
                        check_text(values[caption], f"{path}, line {line}"),
                        None if split is None else _split(values[split], path, line),
                    )
            if row is not None:
                yield row
            line = reader.line_num + 1
    except csv.Error as error:
        faults.found.append(f"{path}, line {reader.line_num}: not CSV: {error}.")
    faults.check()


def read_json_lines(path: Path) -> Iterator[Row]:
    """The captions of a file with one JSON object per line: image, caption or captions (a list), optionally split.

    DataError, with the line numbers, after the last line for lines that cannot be read.
    """
    faults = Faults()
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        rows: list[Row] = []
        with faults.collected():
            rows = _json_rows(text, path, line) if text.strip() else []
        yield from rows
    faults.check()


def _json_rows(text: str, path: Path, line: int) -> list[Row]:
    """The captions of one line."""
    where = f"{path}, line {line}"
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}.") from error
    keys = record if type(record) is dict else {}
    key = next((name for name in IMAGE_COLUMNS if name in keys), IMAGE_COLUMNS[0])
    image = _image(get_field(record, key, str, where), path, line)
    split = _split(get_field(record, "split", str, where), path, line) if keys.get("split") is not None else None
    if "captions" in keys:
        captions = get_field(record, "captions", list, where)
        for caption in captions:
            if type(caption) is not str:
                raise DataError(f"{where}: 'captions' holds {caption!r}. Expected a list of strings.")
    else:
        captions = [get_field(record, "caption", str, where)]
    # images without a caption are kept
    return [Row(line, image, check_text(caption, where), split) for caption in captions or [""]]


def _columns(names: list[str]) -> list[str]:
    return [name.strip().strip('"').lower() for name in names]


def _image(name: str, path: Path, line: int) -> str:
    if not name.strip():
        raise DataError(f"{path}, line {line}: the image has no name.")
    return check_text(name.strip(), f"{path}, line {line}")


def _split(name: str, path: Path, line: int) -> str | None:
    if not name.strip():
        return None
    split = split_name(name)
    if split is None:
        valid = ", ".join((*SPLITS, *ALIASES))
        raise DataError(f"{path}, line {line}: there is no split {name.strip()!r}. Expected one of: {valid}.")
    return split
