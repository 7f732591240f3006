"""Functions with which the readers of data sets read annotation files.

Every mistake in a file becomes a DataError that names the file and the place in it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PureWindowsPath
from typing import Any

from captioner.config import DataConfig
from captioner.errors import DataError

JSON_TYPES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "an integer",
    (int, str): "an integer or a string",
}


def data_root(config: DataConfig, expected: str) -> Path:
    """The data set's folder; DataError if it is not set or does not exist. expected: its content, for the message."""
    if not config.root:
        raise DataError(f"data.root is not set. Give data.root=DIR, the folder that holds {expected}.")
    root = Path(config.root).expanduser()
    if not path_exists(root):
        raise DataError(f"data.root={config.root} does not exist. Expected the folder that holds {expected}.")
    if not root.is_dir():
        raise DataError(f"data.root={config.root} is a file. Expected the folder that holds {expected}.")
    return root


def path_exists(path: Path) -> bool:
    """Whether there is a file or folder at `path`. False for names that no file system allows."""
    try:
        path.stat()
    except (OSError, ValueError):  # ValueError: a NUL character or a lone surrogate
        return False
    return True


def first_existing(candidates: Iterable[Path]) -> Path | None:
    """The first of the paths that exists, or None."""
    return next((path for path in candidates if path_exists(path)), None)


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, without a byte order mark; DataError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def read_json(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The content of a JSON file; DataError if it cannot be read. object_hook: that of `json.loads`."""
    text = read_text(path)
    try:
        return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}. "
            "Is the download or the copy incomplete?"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be parsed as JSON: {_reason(error)}.") from error


def get_field(record: object, key: str, kind: Any, where: str, index: int | None = None) -> Any:
    """`record[key]`; DataError if it is missing or not of type `kind` (a key of JSON_TYPES).

    where: the file, and index: the record's index in its list, both for the message.
    """
    if type(record) is not dict or key not in record:
        problem = f"has no {key!r}" if type(record) is dict else f"is {_type_name(record)}, not an object with {key!r}"
        raise DataError(f"{_location(where, index)} {problem}.")
    value = record[key]
    if type(value) is not kind and (type(kind) is not tuple or type(value) not in kind):  # bool is not an integer here
        raise DataError(f"{_location(where, index)}: {key!r} is {_type_name(value)}. Expected {JSON_TYPES[kind]}.")
    if type(value) is str and not value.isascii():
        check_text(value, _location(where, index))
    return value


def check_text(text: str, where: str) -> str:
    """`text` itself; DataError if it holds a lone surrogate, which cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: a string holds an incomplete character ({text[error.start]!a}).") from error
    return text


def check_image_name(name: str, root: Path, where: str) -> str:
    """The path of an image relative to its folder `root`, with "/"; DataError if it is outside of that folder.

    A backslash counts as "/", as in tables written on Windows. Links are not followed, so images may be links to files
    elsewhere.
    """
    if not name or "\0" in name:
        raise DataError(f"{where}: {name!r} is not the name of an image.")
    if re.fullmatch(r"[\w. -]*\w", name):  # a plain file name, checked fast because it is the usual case
        return name
    plain = name.replace("\\", "/")
    if Path(plain).is_absolute():
        absolute = Path(os.path.normpath(plain))
        base = Path(os.path.abspath(root))  # noqa: PTH100 - Path.resolve would follow links
        relative = os.path.relpath(absolute, base) if absolute.is_relative_to(base) else ".."
    else:
        relative = os.path.normpath(plain)
    inside = Path(relative).as_posix()
    if inside == "." or inside.split("/")[0] == ".." or PureWindowsPath(name).drive:
        raise DataError(f"{where}: {name!r} is outside of {root}. Expected the path of an image in that folder.")
    return inside


def join_names(names: Iterable[object], most: int = 3) -> str:
    """The first `most` names as a list for messages: 'a, b, c and 4 more'."""
    all_names = [str(name) for name in names]
    more = len(all_names) - most
    return ", ".join(all_names[:most]) + (f" and {more:,} more" if more > 0 else "")


def _location(where: str, index: int | None) -> str:
    return where if index is None else f"{where}[{index}]"


def _type_name(value: object) -> str:
    if value is None:
        return "null"
    return JSON_TYPES.get(type(value), f"a {type(value).__name__}")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
