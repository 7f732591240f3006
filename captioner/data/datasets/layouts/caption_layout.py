"""What a layout is: how a file of captions is recognized, and what reading it gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from captioner.data.dataset import ImageId
from captioner.data.datasets.annotation_files import read_json, read_text
from captioner.data.datasets.faults import TableError
from captioner.data.stored_image import StoredImage

Kind: TypeAlias = Literal["folder", "json", "json lines", "parquet", "text"]

JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, slots=True)
class Entry:
    """Captions of one image as a file lists them. An image may have several entries.

    images: the image's name as the file writes it, or the image itself if the file holds it; several for the views of
        one sample, such as the frontal and the lateral image of a chest X-ray.
    captions: raw text; there may be none.
    split: train, val or test; None if the file does not say.
    image_id: the id that the file gives; None: the image's name without its suffix.
    place: where in the file the entry is, such as "line 3", for messages.
    """

    images: tuple[str | StoredImage, ...]
    captions: tuple[str, ...]
    split: str | None = None
    image_id: ImageId | None = None
    place: str = ""


class Content(NamedTuple):
    """The entries of a file, messages to read before trusting a score, and what is wrong with the other entries.

    unread_splits: columns that are not read, but hold nothing but names of splits.
    """

    entries: list[Entry]
    notices: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    unread_splits: tuple[str, ...] = ()

    def checked(self) -> Content:
        """The content itself; TableError with all faults, if there are any."""
        if self.faults:
            raise TableError(list(dict.fromkeys(self.faults)))
        return self


@dataclass(frozen=True)
class ReadOptions:
    """The settings of `data=folder` that concern the content of a file; see `captioner.config.FolderConfig`."""

    image_column: str | None = None
    caption_column: str | None = None
    split_column: str | None = None
    keep_rejected: bool = False
    keep_precanned: bool = False

    @property
    def names_columns(self) -> bool:
        """Whether the user names a column."""
        return any(name is not None for name in (self.image_column, self.caption_column, self.split_column))


class AnnotationFile:
    """A file of captions (or a folder), of which layouts look at one part after the other; each is read once."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path, self.options = path, options

    @cached_property
    def kind(self) -> Kind:
        """How the content is stored, by the suffix and the first characters."""
        suffix = self.path.suffix.lower()
        if self.path.is_dir():
            return "folder"
        if suffix in PARQUET:
            return "parquet"
        if suffix in JSON_LINES or (suffix == ".json" and self._holds_json_lines()):
            return "json lines"
        return "json" if suffix == ".json" else "text"

    @cached_property
    def text(self) -> str:
        """The content of a text file."""
        return read_text(self.path)

    @cached_property
    def json(self) -> Any:
        """The content of a JSON file; DataError if it is none."""
        return read_json(self.path)

    @cached_property
    def lines(self) -> list[tuple[int, str]]:
        """(number, content) of each line of a text file that is not blank; the number of the first line is 1."""
        numbered = enumerate(self.text.split("\n"), start=1)
        return [(number, line.removesuffix("\r")) for number, line in numbered if line.strip()]

    def _holds_json_lines(self) -> bool:
        """Whether a file called .json holds one JSON object per line, as some tools write it."""
        if len(self.lines) < 2:
            return False
        try:
            return all(type(json.loads(line)) is dict for _, line in self.lines[:2])
        except (ValueError, RecursionError):
            return False


@dataclass(frozen=True)
class Layout:
    """A layout of caption files.

    description: what it is and who writes it, for docs/data.md.
    example: a line or two of it, for docs/data.md and for messages.
    recognizes: whether a file has this layout. Looks at a few lines or keys, and raises nothing but DataError.
    read: the file's entries. Each fault names the file and the place. DataError for a file that cannot be read.
    has_columns: whether the columns or keys may have other names, which `data.image_column` and the like give.
    """

    description: str
    example: str
    recognizes: Callable[[AnnotationFile], bool]
    read: Callable[[AnnotationFile], Content]
    has_columns: bool = False
