"""Parquet tables (Hugging Face's data sets), with the names of images or with the images themselves in a column.

Needs pyarrow: pip install 'captioner[parquet]'.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from captioner.data.dataset import ImageId
from captioner.data.datasets.faults import Faults
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Entry, Layout
from captioner.data.datasets.layouts.columns import (
    Columns,
    UnreadSplits,
    captions_of,
    check_named_columns,
    check_not_repeated,
    find_columns,
    images_of,
    split_of,
)
from captioner.data.stored_image import StoredImage
from captioner.errors import ConfigError, DataError

BYTES = "bytes"  # Hugging Face's columns of images are structs of `bytes` and `path`
PATH = "path"
LONGEST_SPLIT = 12  # characters of the name of a split, spaces around it included


@dataclass(frozen=True)
class ImageInParquet(StoredImage):
    """The image in row `row` of the row group `row_group` of a Parquet file.

    column: of bytes, or of structs with "bytes". name: the file name that the table gives, else the row's number.
    The row group that was read last is kept in memory, so that images are fast to read in the order of the file.
    """

    table: Path
    column: str
    row_group: int
    row: int
    name: str

    def __str__(self) -> str:
        return f"{self.table}:{self.name}"

    def read_bytes(self) -> bytes:
        """The content of the image file; OSError if it cannot be read."""
        try:
            images = _row_group_images(self.table, self.table.stat().st_mtime_ns, self.column, self.row_group)
            content = images[self.row].as_py()
        except (ValueError, LookupError, ConfigError) as error:
            raise OSError(errno.EIO, f"the Parquet file cannot be read: {error}") from error
        if content is None:
            raise OSError(errno.ENODATA, "the table holds no image in this row")
        return bytes(content)


@lru_cache(maxsize=1)
def _row_group_images(table: Path, modified: int, column: str, row_group: int) -> Any:
    """The bytes of all images of a row group, as an Arrow array. modified: of the file, so that a change is noticed."""
    file = _open(table)
    values = file.read_row_group(row_group, columns=[column]).column(0).combine_chunks()
    return values.field(BYTES) if _is_struct(values.type) else values


def _open(path: Path) -> Any:
    """pyarrow's ParquetFile; ConfigError without pyarrow, DataError for a file that is none."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ConfigError(f"{path} is read with pyarrow: pip install 'captioner[parquet]'.") from error
    try:
        return parquet.ParquetFile(path)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} is no Parquet file, or is incomplete: {str(error).splitlines()[0]}.") from error


def _is_struct(kind: Any) -> bool:
    import pyarrow as arrow

    return bool(arrow.types.is_struct(kind))


def _holds_images(kind: Any) -> bool:
    """Whether a column's values are images: bytes, or structs with bytes."""
    import pyarrow as arrow

    if _is_struct(kind):
        return int(kind.get_field_index(BYTES)) >= 0
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _is_json(kind: Any) -> bool:
    """Whether a column holds JSON texts, or lists of them: what `datasets` writes for values of several types."""
    inner = getattr(kind, "value_type", kind)
    return bool(getattr(inner, "extension_name", None) == "arrow.json")


def _from_json(value: Any) -> Any:
    """What was put into a column of JSON: '"a dog"' is a dog.

    `datasets` (5.2) stores a string that is JSON by itself as it is: the caption "007" looks like a number there, and
    "true" like a truth value. Such texts are kept as they stand.
    """
    if type(value) is list:
        return [_from_json(item) for item in value]
    if type(value) is not str:
        return value
    try:
        content = json.loads(value)
    except ValueError:
        return value
    return value if type(content) in (int, float, bool) else content


def _read(file: AnnotationFile) -> Content:
    table = _open(file.path)
    names = table.schema_arrow.names
    columns = find_columns(tuple(names), file.options)
    check_named_columns(names, file.options, f"{file.path}")
    if columns is None:
        raise DataError(
            f"{file.path}: the columns are {names}. Expected a column of images ('image' or 'file_name') and one of "
            "captions ('caption', 'captions' or 'text'): data.image_column and data.caption_column name others."
        )
    check_not_repeated(columns.repeated, f"{file.path}")
    faults, unread = Faults(), UnreadSplits()
    entries = list(_rows(table, file.path, columns, faults, unread))
    return Content(entries, (), tuple(faults.found), unread.found)


def _texts_besides(table: Any, columns: Columns) -> list[str]:
    """The columns of strings that are not read and whose first value is short: one of them may hold splits."""
    import pyarrow as arrow

    others = {columns.image, *columns.captions, columns.split, columns.image_id}
    names = [
        field.name for field in table.schema_arrow if field.name not in others and arrow.types.is_string(field.type)
    ]
    first = next(table.iter_batches(batch_size=1, columns=names), None) if names else None
    rows = first.to_pylist() if first is not None else []
    return [name for name in names if rows and len(rows[0][name] or "") <= LONGEST_SPLIT]


def _rows(table: Any, path: Path, columns: Columns, faults: Faults, unread: UnreadSplits) -> Iterator[Entry]:
    """The entries of all rows. Of images in the table, only their names are read."""
    import pyarrow as arrow

    kind = table.schema_arrow.field(columns.image).type
    stored = _holds_images(kind)
    has_path = stored and _is_struct(kind) and kind.get_field_index(PATH) >= 0
    image = [] if stored and not has_path else [f"{columns.image}.{PATH}" if has_path else columns.image]
    others = {columns.split, columns.image_id} - {None, columns.image}
    texts = _texts_besides(table, columns)
    read = [*image, *columns.captions, *sorted(str(name) for name in others), *texts]
    of_json = [field.name for field in table.schema_arrow if field.name in read and _is_json(field.type)]
    number = 0
    for group in range(table.num_row_groups):
        try:
            records = table.read_row_group(group, columns=read).to_pylist()
        except (OSError, arrow.ArrowException) as error:
            raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}.") from error
        for row, record in enumerate(records):
            number += 1
            place = f"row {number}"
            record |= {name: _from_json(record[name]) for name in of_json}
            if unread.wanted:
                unread.add({name: record[name] for name in texts}, columns)
            with faults.collected():
                yield _entry(record, columns, stored, path, group, row, place)


def _entry(
    record: dict[str, Any], columns: Columns, stored: bool, path: Path, group: int, row: int, place: str
) -> Entry:
    where = f"{path}, {place}"
    captions = [caption for key in columns.captions for caption in captions_of(record[key], key, where)]
    split = record[columns.split] if columns.split else None
    of_split = None if split is None else split_of(str(split), where)
    image_id = record.get(columns.image_id) if columns.image_id else None
    if not stored:
        images = images_of(record[columns.image], columns.image, where)
        several = len(images) > 1 and type(image_id) in (int, str)
        return Entry(images, tuple(captions), of_split, image_id if several else None, place)
    held = record.get(columns.image)
    given = held.get(PATH) if isinstance(held, dict) else None
    name = Path(given).name if isinstance(given, str) and given else None
    image = ImageInParquet(path, columns.image, group, row, name or place)
    return Entry((image,), tuple(captions), of_split, _id(name, image_id, path, place), place)


def _id(name: str | None, given: object, path: Path, place: str) -> ImageId:
    """The name of the image without suffix, as in other tables; else the table's id; else the row in the file."""
    if name is not None:
        return Path(name).stem
    if isinstance(given, int | str) and not isinstance(given, bool) and given != "":
        return given
    return f"{path.stem}/{place.removeprefix('row ')}"


PARQUET = Layout(
    "Parquet, also with the images in the table: Hugging Face's data sets",
    "image: struct<bytes, path> or string; caption: string or list<string>",
    lambda file: file.kind == "parquet",
    _read,
    has_columns=True,
)
