"""Which columns of a table, or keys of a JSON object, hold the image, the captions and the split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from captioner.data.dataset import ImageId
from captioner.data.datasets.annotation_files import JSON_TYPES, check_text, join_names
from captioner.data.datasets.layouts.caption_layout import Entry, ReadOptions
from captioner.data.datasets.splits import ALIASES, SPLITS, split_name
from captioner.errors import DataError, near_misses

# fmt: off
IMAGE_KEYS = (
    "image", "images", "file_name", "filename", "file", "filepath", "file_path", "image_path", "img_path",
    "image_file", "image_name", "img_name", "img", "path", "name", "image_id", "img_id", "id",
)
CAPTION_KEYS = (
    "captions", "caption", "caption_str", "sentences", "sentence", "sentences_raw", "texts", "text", "raw",
    "comments", "comment", "descriptions", "description", "reports", "report",
)
# fmt: on
SPLIT_KEYS = ("split",)
ID_KEYS = ("image_id", "img_id", "id")  # they name an image if no other column does, and samples of several images
TEXT_KEYS = ("raw", "caption", "text")  # of an object in a list of captions
PATH_KEYS = ("path", "file_name", "filename")  # of an object that stands for an image
RESTVAL = {"restval": "train"}  # Karpathy's name for the images of COCO's val on which one also trains


class Columns(NamedTuple):
    """The names of the columns, as the file spells them. Several columns of captions: an image has all of them.

    repeated: those of these names that other columns have too, whatever the case.
    """

    image: str
    captions: tuple[str, ...]
    split: str | None
    image_id: str | None
    repeated: tuple[str, ...] = ()


@lru_cache(maxsize=64)
def find_columns(names: tuple[str, ...], options: ReadOptions) -> Columns | None:
    """The columns that the settings name, else those with a usual name; None if the image or the captions are missing.

    The case of names does not matter. Of several columns with the name of the captions, or with this name and a number
    (caption_0, caption_1, …), all are used.
    """
    spelled: dict[str, str] = {}
    for name in names:
        spelled.setdefault(_plain(name), name)
    image = _find(spelled, options.image_column, IMAGE_KEYS)
    caption = _find_captions(spelled, options.caption_column)
    if image is None or caption is None:
        return None
    split = _find(spelled, options.split_column, SPLIT_KEYS)
    counts = Counter(map(_plain, names))
    repeated = tuple(name for name in (image, *caption, split) if name is not None and counts[_plain(name)] > 1)
    return Columns(image, caption, split, next((spelled[key] for key in ID_KEYS if key in spelled), None), repeated)


def check_not_repeated(names: Sequence[str], where: str) -> None:
    """DataError for the first of the `repeated` columns, of which one would be dropped silently."""
    if names:
        raise DataError(f"{where}: the column {names[0]!r} is there twice. Rename one of the two.")


def check_named_columns(names: Iterable[str], options: ReadOptions, where: str) -> None:
    """DataError if a column that the settings name does not exist; it lists those that do, with near misses."""
    existing = list(names)
    plain = {_plain(name) for name in existing}
    for setting in ("image_column", "caption_column", "split_column"):
        wanted = getattr(options, setting)
        if wanted is not None and _plain(wanted) not in plain:
            raise DataError(
                f"data.{setting}={wanted}: {where} has no such column or key.{near_misses(wanted, existing)} "
                f"It has: {listed_names(existing, 20)}."
            )


def listed_names(names: Iterable[object], most: int = 12) -> str:
    """The names of columns or keys for a message; an incomplete character, which cannot be written, is escaped."""
    shown = (str(name).encode("utf-8", "backslashreplace").decode() for name in names)
    return join_names(shown, most) or "none"


def captions_of(value: object, key: str, where: str) -> list[str]:
    """The captions in the value of a column or key: a string, or a list of strings or of objects with "raw"."""
    if type(value) is str:
        return [check_text(value, where)]
    if value is None:
        return []
    if type(value) is dict:
        text = next((value[name] for name in TEXT_KEYS if type(value.get(name)) in (str, list)), None)
        if text is not None:
            return captions_of(text, key, where)
    if type(value) is not list:
        raise DataError(f"{where}: {key!r} is {_type_name(value)}. Expected a string or a list of strings.")
    captions = []
    for item in value:
        if type(item) is dict:
            item = next((item[name] for name in TEXT_KEYS if type(item.get(name)) is str), item)
        if type(item) is not str:
            raise DataError(f"{where}: {key!r} holds {item!r}. Expected a list of strings.")
        captions.append(check_text(item, where))
    return captions


def images_of(value: object, key: str, where: str) -> tuple[str, ...]:
    """The names of the images in the value of a column or key: a string, or a list of strings for several views."""
    if type(value) is dict:
        value = next((value[name] for name in PATH_KEYS if type(value.get(name)) is str), value)
    if type(value) is int and key.lower() in ID_KEYS:
        value = str(value)
    names: list[Any] = value if type(value) is list and value else [value]
    for name in names:
        if type(name) is not str:
            expected = "a string" if name is value else "a list of strings"
            raise DataError(f"{where}: {key!r} is {_type_name(value)}. Expected {expected}.")
        if not name.strip():
            raise DataError(f"{where}: the image has no name.")
    return tuple(check_text(name.strip(), where) for name in names)


def split_of(name: str, where: str) -> str | None:
    """train, val or test; None for a blank name. DataError for other names."""
    if not name.strip():
        return None
    split = _any_split(name)
    if split is None:
        valid = ", ".join((*SPLITS, *ALIASES))
        raise DataError(f"{where}: there is no split {name.strip()!r}. Expected one of: {valid}.")
    return split


class UnreadSplits:
    """Finds columns that hold names of splits and are not read, because they are not called 'split'."""

    def __init__(self) -> None:
        self._splits: dict[str, set[str]] | None = None

    @property
    def wanted(self) -> bool:
        """Whether rows still matter: no row was added yet, or a column has held nothing but names of splits so far."""
        return self._splits is None or bool(self._splits)

    def add(self, row: Mapping[str, object], columns: Columns | None) -> None:
        """Take a row into account. columns: those that are read; the first row's other columns are the candidates."""
        if columns is None:
            return
        if self._splits is None:
            read = {columns.image, *columns.captions, columns.split}
            self._splits = {name: set() for name in row if name not in read}
        for name, found in list(self._splits.items()):
            value = row.get(name)
            split = _any_split(value) if isinstance(value, str) else None
            if split is not None:
                found.add(split)
            elif value is not None and value != "":
                del self._splits[name]

    @property
    def found(self) -> tuple[str, ...]:
        """The columns that name two splits or more, and nothing else. One name alone may be said of all rows."""
        return tuple(name for name, splits in (self._splits or {}).items() if len(splits) > 1)


def _any_split(name: str) -> str | None:
    return split_name(name) or RESTVAL.get(name.strip().lower())


def record_entry(record: object, options: ReadOptions, path: str, place: str) -> Entry:
    """The entry of a JSON object; DataError if its keys or values are not those of a caption."""
    where = f"{path}, {place}"
    if type(record) is not dict:
        raise DataError(f"{where} is {_type_name(record)}, not an object with 'image' and 'caption'.")
    columns = find_columns(tuple(record), options)
    if columns is None or (options.split_column is not None and columns.split is None):
        check_named_columns(record, options, where)
        missing = "image" if _find({_plain(key): key for key in record}, None, IMAGE_KEYS) is None else "caption"
        raise DataError(
            f"{where} has no {missing!r}. Its keys: {listed_names(record)}. data.{missing}_column names the right one."
        )
    check_not_repeated(columns.repeated, where)
    images = images_of(record[columns.image], columns.image, where)
    captions: list[str] = []
    for key in columns.captions:
        captions += captions_of(record[key], key, where)
    split = record[columns.split] if columns.split else None
    if split is not None and type(split) is not str:
        raise DataError(f"{where}: {columns.split!r} is {_type_name(split)}. Expected a string.")
    return Entry(images, tuple(captions), split and split_of(split, where), _sample_id(record, columns, where), place)


def _sample_id(record: dict[str, Any], columns: Columns, where: str) -> ImageId | None:
    """The id of a sample with a list of images: its own, because no image's name is that of all. None for one image."""
    value = record.get(columns.image_id) if columns.image_id else None
    if type(record[columns.image]) is not list or value is None or columns.image_id == columns.image:
        return None
    if type(value) not in (int, str):
        raise DataError(f"{where}: {columns.image_id!r} is {_type_name(value)}. Expected an integer or a string.")
    return check_text(value, where) if isinstance(value, str) else int(value)


def _find(spelled: dict[str, str], wanted: str | None, usual: Sequence[str]) -> str | None:
    if wanted is not None:
        return spelled.get(_plain(wanted))
    return next((spelled[key] for key in usual if key in spelled), None)


def _find_captions(spelled: dict[str, str], wanted: str | None) -> tuple[str, ...] | None:
    """The first usual name with its numbered companions, or numbered ones alone."""
    if wanted is not None:
        return (spelled[_plain(wanted)],) if _plain(wanted) in spelled else None
    for key in CAPTION_KEYS:
        numbered = re.compile(rf"{re.escape(key.removesuffix('s'))}s?[ _-]?\d+")
        found = [name for plain, name in spelled.items() if plain == key or numbered.fullmatch(plain)]
        if found:
            return tuple(found)
    return None


def _plain(name: str) -> str:
    return name.strip().lower()


def _type_name(value: object) -> str:
    return "null" if value is None else JSON_TYPES.get(type(value), f"a {type(value).__name__}")
