"""Read and write files of generated captions: the COCO results format and two similar ones."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.errors import DataError
from captioner.files import write_json

ImageId = int | str

NAMED_IN_ERRORS = 5  # image ids that a message lists


def read_results(path: str | os.PathLike[str], image_ids: Collection[ImageId] | None = None) -> dict[ImageId, str]:
    """Image id → caption, from one of

    - COCO's results format, a JSON list: `[{"image_id": 139, "caption": "a dog"}, …]`;
    - JSONL (`.jsonl` or `.ndjson`): one such object a line;
    - a JSON object: `{"139": "a dog", …}`.

    Other keys of the objects are ignored. `image_ids`, if given, are exactly the ids that the file must have;
    ids are then compared as text, since the keys of a JSON object are text.

    Raises DataError for a file that cannot be read, a malformed line, and an id that is duplicate, missing or
    unknown; the message names it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read the captions in {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    pairs = list(_lines(path, text) if path.suffix in (".jsonl", ".ndjson") else _document(path, text))
    if image_ids is not None:
        by_text = {str(image_id): image_id for image_id in image_ids}
        pairs = [(by_text.get(str(image_id), image_id), caption) for image_id, caption in pairs]
    captions: dict[ImageId, str] = {}
    twice: dict[ImageId, None] = {}
    for image_id, caption in pairs:
        if image_id in captions:
            twice[image_id] = None
        captions[image_id] = caption
    if twice:
        raise DataError(f"{path}: {len(twice)} image ids have more than one caption: {listed(twice)}.")
    if image_ids is not None:
        check_same_images(captions, image_ids, str(path))
    return captions


def write_results(path: str | os.PathLike[str], captions: Mapping[ImageId, str]) -> None:
    """Write the COCO results format, in the mapping's order; an existing file is replaced atomically."""
    write_json(Path(path), [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()])


def check_same_images(captions: Collection[ImageId], image_ids: Collection[ImageId], where: str) -> None:
    """DataError if the captions and the image ids differ; it names the ids. `where`: the captions in the message."""
    known, given = set(image_ids), set(captions)
    missing = [image_id for image_id in image_ids if image_id not in given]
    unknown = [image_id for image_id in captions if image_id not in known]
    if not missing and not unknown:
        return
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(known)} image ids have no caption ({listed(missing)})")
    if unknown:
        problems.append(f"{len(unknown)} image ids are unknown ({listed(unknown)})")
    hint = ""
    if {str(image_id) for image_id in missing} & {str(image_id) for image_id in unknown}:
        hint = " Some are text on one side and integers on the other: make them the same."
    raise DataError(f"{where}: {' and '.join(problems)}. Every image that has references needs one caption.{hint}")


def listed(image_ids: Iterable[ImageId]) -> str:
    """The first few of `image_ids`, as text for a message."""
    shown = [repr(image_id) for image_id in image_ids]
    return ", ".join(shown[:NAMED_IN_ERRORS]) + (", …" if len(shown) > NAMED_IN_ERRORS else "")


def _lines(path: Path, text: str) -> Iterable[tuple[ImageId, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _row(_parse(path, line, first_line=number), f"{path}, line {number}")


def _document(path: Path, text: str) -> Iterable[tuple[ImageId, str]]:
    document = _parse(path, text, first_line=1)
    if isinstance(document, list):
        for index, row in enumerate(document):
            yield _row(row, f"{path}, entry {index}")
    elif isinstance(document, _Object):
        for image_id, caption in document.pairs:
            yield _row(_Object([("image_id", image_id), ("caption", caption)]), f"{path}, image {image_id!r}")
    else:
        raise DataError(f"{path} contains {document!r:.40}: expected a list of captions or an object of them.")


@dataclass(frozen=True)
class _Object:
    """A JSON object as pairs, so that duplicate keys are not lost."""

    pairs: list[tuple[str, Any]]


def _parse(path: Path, text: str, first_line: int) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        where = f"line {first_line + error.lineno - 1}, column {error.colno}"
        hint = " For one object a line, name the file .jsonl." if error.msg == "Extra data" else ""
        raise DataError(f"{path} is not valid JSON: {error.msg} at {where}.{hint}") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # integers with thousands of digits, or lists nested thousands of times
        raise DataError(f"{path} is not JSON that can be read: {error}.") from error


def _row(row: Any, where: str) -> tuple[ImageId, str]:
    fields = dict(row.pairs) if isinstance(row, _Object) else {}
    image_id, caption = fields.get("image_id"), fields.get("caption")
    if not isinstance(image_id, int | str) or isinstance(image_id, bool) or not isinstance(caption, str):
        shown = fields if isinstance(row, _Object) else row
        raise DataError(f'{where}: expected {{"image_id": number or text, "caption": text}}, found {shown!r:.100}.')
    return image_id, caption
