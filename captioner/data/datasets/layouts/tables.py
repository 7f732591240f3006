"""Tables with a header (CSV, TSV, with ; or |), and tables of two columns without one."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from captioner.data.datasets.annotation_files import check_text, join_names
from captioner.data.datasets.faults import Faults
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Entry, Layout
from captioner.data.datasets.layouts.columns import (
    Columns,
    UnreadSplits,
    check_named_columns,
    check_not_repeated,
    find_columns,
    images_of,
    split_of,
)
from captioner.data.datasets.splits import split_name
from captioner.data.images.decode import IMAGE_SUFFIXES
from captioner.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
SAMPLE = 20  # lines by which a table without a header is recognized

FLICKR30K_HEADER = ["image_name", "comment_number", "comment"]
_FLICKR30K_ROW = re.compile(r"\s*(?P<number>\d+)\s+(?P<caption>\S.*)", re.DOTALL)


class _Header(NamedTuple):
    names: list[str]
    delimiter: str
    columns: Columns | None


def _header(file: AnnotationFile) -> _Header:
    """The names in the first line, split at the delimiter for which they are those of an image and a caption."""
    first = file.text.partition("\n")[0]
    found = [(split_header(first, mark), mark) for mark in DELIMITERS]
    for names, mark in found:
        columns = find_columns(tuple(names), file.options) if len(names) > 1 else None
        if columns is not None:
            return _Header(names, mark, columns)
    names, mark = max(found, key=lambda each: len(each[0]))
    return _Header(names if first.strip() else [], mark, None)


def split_header(line: str, delimiter: str) -> list[str]:
    """The names in a header, without quotes and spaces."""
    return [name.strip().strip('"').strip() for name in line.strip("\r\n").split(delimiter)]


def _recognizes(file: AnnotationFile) -> bool:
    return file.kind == "text" and _header(file).columns is not None


def _read(file: AnnotationFile) -> Content:
    header = _header(file)
    if header.columns is None:
        check_named_columns(header.names, file.options, f"{file.path}, line 1")
        raise DataError(no_columns(file.path, header.names))
    where = f"{file.path}, line 1"
    check_named_columns(header.names, file.options, where)
    notices, unread = list[str](), UnreadSplits()
    entries, faults = _rows(file, header.delimiter, header.columns, notices, unread)
    return Content(_split_lists(entries), tuple(notices), tuple(faults.found), unread.found)


def no_columns(path: Path, names: Sequence[str]) -> str:
    """The message for a table whose header names no image or no caption."""
    return (
        f"{path}, line 1: the columns are {[name.lower() for name in names]}. Expected a header with 'image' (or "
        "'filename') and 'caption'; 'split' is optional. data.image_column and data.caption_column name other columns."
    )


def _rows(
    file: AnnotationFile, delimiter: str, columns: Columns, notices: list[str], unread: UnreadSplits
) -> tuple[list[Entry], Faults]:
    """The entries of all rows, and the faults of the others."""
    faults, entries = Faults(), list[Entry]()
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    # strict: an unclosed quote is an error instead of a caption that holds the rest of the file
    reader = csv.reader(io.StringIO(file.text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    try:
        names = [name.strip().strip('"').strip() for name in next(reader, [])]
        image, split = names.index(columns.image), names.index(columns.split) if columns.split else None
        # Several columns with the name of the captions are all read, below.
        check_not_repeated([name for name in columns.repeated if name not in columns.captions], f"{file.path}, line 1")
        captions = [index for index, name in enumerate(names) if name.lower() in map(str.lower, columns.captions)]
        line = reader.line_num + 1
        for values in reader:
            place, line = f"line {line}", reader.line_num + 1
            if not values:
                continue
            if delimiter == "|":
                values = _repaired([value.strip() for value in values], names, f"{file.path}, {place}", notices)
            if unread.wanted and len(values) == len(names):
                unread.add(dict(zip(names, values, strict=True)), columns)
            with faults.collected():
                entries.append(_entry(values, len(names), image, captions, split, f"{file.path}", place, delimiter))
    except csv.Error as error:
        faults.found.append(f"{file.path}, line {reader.line_num}: not CSV: {error}.")
    return entries, faults


def _entry(
    values: list[str],
    width: int,
    image: int,
    captions: list[int],
    split: int | None,
    path: str,
    place: str,
    delimiter: str,
) -> Entry:
    where = f"{path}, {place}"
    if len(values) != width:
        raise DataError(
            f"{where}: {len(values)} columns, but the header has {width}. "
            f"Put captions that contain {delimiter!r} in double quotes."
        )
    return Entry(
        images_of(values[image], "image", where),
        tuple(check_text(values[index], where) for index in captions),
        None if split is None else split_of(values[split], where),
        None,
        place,
    )


def _repaired(values: list[str], names: list[str], where: str, notices: list[str]) -> list[str]:
    """Line 20,001 of Flickr30k's results.csv lacks the delimiter between number and caption; it is read with it."""
    broken = len(values) == len(names) - 1 and [name.lower() for name in names] == FLICKR30K_HEADER
    match = _FLICKR30K_ROW.fullmatch(values[-1]) if broken else None
    if match is None:
        return values
    notices.append(
        f"{where} has no '|' after the number {match['number']}: a known fault of Flickr30k's results.csv. "
        f"The caption is read as {match['caption'].strip()!r}."
    )
    return [*values[:-1], match["number"], match["caption"].strip()]


def _split_lists(entries: list[Entry]) -> list[Entry]:
    """The entries, with several captions each where every cell holds a JSON list of strings."""

    def as_list(caption: str) -> list[str] | None:
        if not (caption.startswith("[") and caption.endswith("]")):
            return None
        try:
            values = json.loads(caption)
        except (ValueError, RecursionError):
            return None
        return values if type(values) is list and values and all(type(value) is str for value in values) else None

    lists = []
    for entry in entries:
        found = [as_list(caption) for caption in entry.captions]
        if None in found or not found:
            return entries
        lists.append(tuple(caption for captions in found if captions for caption in captions))
    return [
        Entry(entry.images, captions, entry.split, entry.image_id, entry.place)
        for entry, captions in zip(entries, lists, strict=True)
    ]


# --------------------------------------------------------------------------------- without a header


def _recognizes_pairs(file: AnnotationFile) -> bool:
    """Lines `name<TAB>caption`, or `name.jpg,caption` and the like: the name has no space, or a suffix of images."""
    return file.kind == "text" and _pair_delimiter(file) is not None


def _pair_delimiter(file: AnnotationFile) -> str | None:
    first = file.lines[:SAMPLE]
    for mark in ("\t", "|", ";", ","):
        names = [line.partition(mark)[0].strip() for _, line in first if mark in line]
        if len(names) != len(first) or not names:
            continue
        are_images = all(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)
        if are_images or (mark == "\t" and all(len(name.split()) == 1 for name in names)):
            return mark
    return None


def _check_two_columns(file: AnnotationFile, mark: str) -> None:
    """DataError if the lines have more columns than a name and a caption, which would become part of the caption.

    A comma may as well belong to a caption. So columns are those whose number is the same in all of several lines, or
    of which the last holds nothing but splits, or the second nothing but numbers.
    """
    rows = list[list[str]]()
    for _, line in file.lines:
        try:
            quoting: Literal[0, 3] = csv.QUOTE_NONE if mark == "|" else csv.QUOTE_MINIMAL
            rows += csv.reader([line], delimiter=mark, strict=True, quoting=quoting)
        except csv.Error:  # a quote that is part of a caption
            continue
    if not rows or min(map(len, rows)) < 3:
        return
    as_wide = len(rows) > 1 and len({len(row) for row in rows}) == 1
    if as_wide or all(split_name(row[-1]) for row in rows) or all(row[1].strip().isdigit() for row in rows):
        columns = ", ".join(repr(value.strip()[:40]) for value in rows[0][:4])
        raise DataError(
            f"{file.path} has no header, but more columns than a name and a caption ({columns}): add a first line that "
            f"names them, such as {mark.join(('image', 'caption', 'split'))}. Put captions that contain {mark!r} in "
            "double quotes."
        )


def _read_pairs(file: AnnotationFile) -> Content:
    mark = _pair_delimiter(file) or "\t"
    if mark != "\t":  # more tabs than one are a fault of their line, below
        _check_two_columns(file, mark)
    faults, entries = Faults(), []
    for number, line in file.lines:
        where = f"{file.path}, line {number}"
        name, found, caption = line.partition(mark)
        with faults.collected():
            if not found:
                raise DataError(f"{where}: expected a name, {mark!r} and a caption, found {line[:60]!r}.")
            if mark == "\t" and "\t" in caption:
                raise DataError(
                    f"{where}: {caption.count(mark) + 2} columns in a table without a header. Expected a name and a "
                    "caption; add a header such as image<TAB>caption<TAB>split for more columns."
                )
            caption = caption.strip()
            if mark in ",;" and len(caption) > 1 and caption[0] == caption[-1] == '"':
                caption = caption[1:-1].replace('""', '"')
            entries.append(
                Entry(images_of(name, "image", where), (check_text(caption, where),), place=f"line {number}")
            )
    names = join_names(str(entry.images[0]) for entry in entries)
    notice = f"{file.path} has no header: it is read as names ({names}) and captions."
    return Content(entries, (notice,), tuple(faults.found))


TABLE = Layout(
    "a table with a header (CSV, TSV, with `;` or `|`): ours, Flickr30k's `results.csv`, Hugging Face's "
    "`metadata.csv`, ImageCLEF",
    'image,caption,split\ncat.jpg,"a cat, asleep",train',
    _recognizes,
    _read,
    has_columns=True,
)

PAIRS = Layout(
    "names and captions without a header: ROCO's `captions.txt`",
    "ROCO_00002\ta chest film",
    _recognizes_pairs,
    _read_pairs,
)
