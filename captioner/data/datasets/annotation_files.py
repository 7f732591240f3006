"""Annotation files as people have them: every mistake becomes one sentence that names the file and the place.

The readers (`coco`, `karpathy`, `flickr8k`, `folder`) share these few functions, so that a missing
folder or a field of the wrong type reads the same whatever the source.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import Any

from captioner.config import DataConfig
from captioner.errors import DataError

KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", (int, str): "a number or a text"}


def data_root(config: DataConfig, expected: str) -> Path:
    """The data set's folder, which is there. `expected` says what it should hold, for the message."""
    if not config.root:
        raise DataError(f"data.root is not set. Give data.root=DIR, the folder that holds {expected}.")
    root = Path(config.root).expanduser()
    if not path_exists(root):
        raise DataError(f"data.root={config.root} does not exist. Expected the folder that holds {expected}.")
    if not root.is_dir():
        raise DataError(f"data.root={config.root} is a file. Expected the folder that holds {expected}.")
    return root


def path_exists(path: Path) -> bool:
    """Whether the path leads to a file or folder; False, too, for what no file system can hold."""
    try:
        path.stat()
    except (OSError, ValueError):  # ValueError: a NUL character, or half of a surrogate pair
        return False
    return True


def first_existing(candidates: Iterable[Path]) -> Path | None:
    """The first of the paths that exists."""
    return next((path for path in candidates if path_exists(path)), None)


def read_text(path: Path) -> str:
    """The file as text: UTF-8, with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, without white space at either end."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def read_json(path: Path) -> Any:
    """The file as JSON."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}. "
            "Was the download or the copy cut short?"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON that can be read: {_reason(error)}.") from error


def get_field(record: object, key: str, kind: Any, where: str, number: int | None = None) -> Any:
    """`record[key]`, which is of type `kind` (a key of KINDS).

    `where` is the file, `number` the record's place in its list; both only for the message.
    """
    if type(record) is not dict or key not in record:
        problem = f"has no {key!r}" if type(record) is dict else f"is {_kind_of(record)}, not an object with {key!r}"
        raise DataError(f"{_place(where, number)} {problem}.")
    value = record[key]
    if type(value) is not kind and (type(kind) is not tuple or type(value) not in kind):  # True is no whole number
        raise DataError(f"{_place(where, number)}: {key!r} is {_kind_of(value)}. Expected {KINDS[kind]}.")
    if type(value) is str and not value.isascii():
        check_text(value, _place(where, number))
    return value


def check_text(text: str, where: str) -> str:
    """`text` itself, unless it holds half of a surrogate pair, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: a text holds half a character ({text[error.start]!a}).") from error
    return text


def check_image_name(name: str, root: Path, where: str) -> str:
    """The image's path relative to its folder `root`, with "/"; a DataError where it leads out of it.

    A backslash counts as "/": tables are written on Windows, too. Links are not followed: a person may
    well keep the images elsewhere and link to them.
    """
    if not name or "\0" in name:
        raise DataError(f"{where}: {name!r} is not the name of an image.")
    if re.fullmatch(r"[\w. -]*\w", name):  # the usual case, a hundred thousand times: a plain file name
        return name
    plain = name.replace("\\", "/")
    if Path(plain).is_absolute():
        absolute = Path(os.path.normpath(plain))
        base = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links
        relative = os.path.relpath(absolute, base) if absolute.is_relative_to(base) else ".."
    else:
        relative = os.path.normpath(plain)
    inside = Path(relative).as_posix()
    if inside == "." or inside.split("/")[0] == ".." or PureWindowsPath(name).drive:
        raise DataError(f"{where}: {name!r} leads out of {root}. Expected an image's path inside that folder.")
    return inside


def join_names(names: Iterable[object], most: int = 3) -> str:
    """'a, b, c and 4 more'"""
    every = [str(name) for name in names]
    more = len(every) - most
    return ", ".join(every[:most]) + (f" and {more:,} more" if more > 0 else "")


def _place(where: str, number: int | None) -> str:
    return where if number is None else f"{where}[{number}]"


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    return KINDS.get(type(value), f"a {type(value).__name__}")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
