"""Read and write files of generated captions: the COCO results format and similar ones."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.errors import DataError
from captioner.files import write_json
from captioner.metrics.caption_table import read_caption_table

ImageId = int | str

NAMED_IN_ERRORS = 5  # image ids that a message lists


def read_results(
    path: str | os.PathLike[str], image_ids: Collection[ImageId] | None = None, *, subset: bool = False
) -> dict[ImageId, str]:
    """Image id → caption, from one of

    - COCO's results format, a JSON list: `[{"image_id": 139, "caption": "a dog"}, …]`;
    - JSONL (`.jsonl` or `.ndjson`): one such object a line;
    - CSV (`.csv`) with the columns image_id and caption (`captioner.metrics.caption_table`);
    - a JSON object: `{"139": "a dog", …}`;
    - pycocoevalcap's objects: `{"139": ["a dog"], …}` and `{"139": [{"caption": "a dog"}], …}`, one caption an image.

    Other keys of the objects are ignored. `image_ids`, if given, are exactly the ids that the file must have (with
    `subset`, the file may have some of them only); ids are then compared as text, since the keys of a JSON object are
    text, and names of image files also without their suffix.

    Raises DataError for a file that cannot be read, a malformed line, and an id that is duplicate, missing or
    unknown; the message names it.
    """
    path = Path(path)
    rows = read_caption_lists(path)
    if image_ids is not None:
        known = _KnownIds(image_ids)
        rows = [(known.find(image_id), captions) for image_id, captions in rows]
    captions: dict[ImageId, str] = {}
    several: dict[ImageId, None] = {}
    for image_id, of_image in rows:
        if not of_image:
            raise DataError(f"{path}: the list of captions of image {image_id!r} is empty. Expected one caption in it.")
        if image_id in captions or len(of_image) > 1:
            several[image_id] = None
        captions[image_id] = of_image[0]
    if several:
        hint = " Are these the references? Give them as references=FILE." if len(several) == len(captions) > 1 else ""
        raise DataError(f"{path}: {len(several)} image ids have more than one caption: {listed(several)}.{hint}")
    if not captions and subset:
        raise DataError(f"{path} has no captions.")
    if image_ids is not None:
        _check_images_of_file(path, captions, image_ids, subset)
    return captions


class _KnownIds:
    """Image ids, found by their text; "cat.jpg" and "cat" find each other, if only one of them is known."""

    def __init__(self, image_ids: Collection[ImageId]) -> None:
        self.by_text = {str(image_id): image_id for image_id in image_ids}
        stems = Counter(map(_stem, self.by_text))
        self.by_stem = {_stem(text): known for text, known in self.by_text.items() if stems[_stem(text)] == 1}

    def find(self, image_id: ImageId) -> ImageId:
        """The known id that is meant, or `image_id` itself."""
        text = str(image_id)
        return self.by_text[text] if text in self.by_text else self.by_stem.get(_stem(text), image_id)


def _stem(name: str) -> str:
    return re.sub(r"\.(jpe?g|png|gif|bmp|tiff?|webp)$", "", name, flags=re.IGNORECASE)


def read_caption_lists(path: Path) -> list[tuple[ImageId, list[str]]]:
    """The entries of a file in one of the formats of `read_results`: each an image id and its captions.

    An id may occur several times, and with any number of captions.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read the captions in {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    if path.suffix.lower() == ".csv":
        return [(image_id, captions) for image_id, captions in read_caption_table(path, text)]
    return list(_lines(path, text) if path.suffix in (".jsonl", ".ndjson") else _document(path, text))


def _check_images_of_file(
    path: Path, captions: Mapping[ImageId, str], image_ids: Collection[ImageId], subset: bool
) -> None:
    """DataError if the file has captions of other images, or, without `subset`, lacks some."""
    known = set(image_ids)
    if captions and known.isdisjoint(captions):
        raise DataError(
            f"{path}: none of its {len(captions):,} image ids ({listed(captions)}) is among the {len(known):,} images "
            f"with references ({listed(image_ids)}). Are these captions of another data set or split?"
        )
    missing = [] if subset else [image_id for image_id in image_ids if image_id not in captions]
    if missing and captions.keys() <= known:
        raise DataError(
            f"{path}: {len(missing)} of {len(known)} image ids have no caption ({listed(missing)}). To score only the "
            "images that have one, set subset=results (in Python: read_results(…, subset=True))."
        )
    check_same_images(captions, [image_id for image_id in image_ids if image_id in captions or not subset], str(path))


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


def _lines(path: Path, text: str) -> Iterable[tuple[ImageId, list[str]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _row(_parse(path, line, first_line=number), f"{path}, line {number}")


def _document(path: Path, text: str) -> Iterable[tuple[ImageId, list[str]]]:
    document = _parse(path, text, first_line=1)
    if isinstance(document, list):
        for index, row in enumerate(document):
            yield _row(row, f"{path}, entry {index}")
    elif isinstance(document, _Object):
        if "images" in dict(document.pairs):
            raise DataError(
                f"{path} has 'images', as a file of references has. Expected captions: "
                '[{"image_id": 139, "caption": "a dog"}, …]. References are given as references=FILE.'
            )
        for image_id, value in document.pairs:
            where = f"{path}, image {image_id!r}"
            yield _checked(image_id, where), _captions_of(value, where)
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
        if not text.lstrip().startswith(("[", "{")):
            hint = (
                ' Expected COCO\'s results format, [{"image_id": 139, "caption": "a dog"}, …], one such object a line '
                "(.jsonl), or columns of these names (.csv)."
            )
        raise DataError(f"{path} is not valid JSON: {error.msg} at {where}.{hint}") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # integers with thousands of digits, or lists nested thousands of times
        raise DataError(f"{path} is not JSON that can be read: {error}.") from error


def _row(row: Any, where: str) -> tuple[ImageId, list[str]]:
    """An entry of COCO's results format."""
    fields = dict(row.pairs) if isinstance(row, _Object) else {}
    image_id, caption = fields.get("image_id"), fields.get("caption")
    if not isinstance(image_id, int | str) or isinstance(image_id, bool) or not isinstance(caption, str):
        raise DataError(
            f'{where}: expected {{"image_id": number or text, "caption": text}}, found {_plain(row)!r:.100}.'
        )
    return _checked(image_id, where) if isinstance(image_id, str) else image_id, [_checked(caption, where)]


def _captions_of(value: Any, where: str) -> list[str]:
    """The captions of one image in an object of captions: text, or a list of texts or of objects with a caption."""
    captions = []
    for item in value if isinstance(value, list) else [value]:
        caption = dict(item.pairs).get("caption") if isinstance(item, _Object) else item
        if not isinstance(caption, str):
            raise DataError(
                f'{where}: expected a caption, ["caption"] or [{{"caption": "…"}}], found {_plain(value)!r:.100}.'
            )
        captions.append(_checked(caption, where))
    return captions


def _checked(text: str, where: str) -> str:
    """`text` itself; DataError if it holds a lone surrogate, which cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: the text holds an incomplete character ({text[error.start]!a}).") from error
    return text


def _plain(value: Any) -> Any:
    """A parsed value with plain dictionaries, for messages."""
    if isinstance(value, _Object):
        return {key: _plain(item) for key, item in value.pairs}
    return [_plain(item) for item in value] if isinstance(value, list) else value
