"""Files of captions as test servers want them, and the check of such a file.

COCO's captioning server takes one zip with `captions_val2014_NAME_results.json` and
`captions_test2014_NAME_results.json`, NAME being the system's; each is a list with one
`{"image_id": 391895, "caption": "…"}` for every image of the split, with integer ids. The servers of nocaps and VizWiz
take one such list under any name.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from captioner.data.dataset import ImageId
from captioner.data.datasets.annotation_files import get_field, read_json
from captioner.errors import ConfigError
from captioner.files import write_atomically
from captioner.metrics.coco_results import listed

SYSTEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
EXPECTED = '{"image_id": 391895, "caption": "…"}'
FILE_NAME = re.compile(r"captions_([A-Za-z0-9-]+)_(.+)_results\.json")


def submission_file_name(data: str, split: str, system: str) -> str:
    """The name of the file for a server: `captions_test2014_NAME_results.json`.

    data: the name of the data set, such as "coco2014"; the year is part of the file's name. system: letters, digits,
    dots and hyphens, else ConfigError.
    """
    if not SYSTEM_NAME.fullmatch(system):
        raise ConfigError(
            f"submission={system!r}: expected a name of letters, digits, dots and hyphens, such as soft-3."
        )
    year = re.fullmatch(r"coco(\d{4})", data)
    return f"captions_{split}{year[1] if year else ''}_{system}_results.json"


def system_name(run: str) -> str:
    """The name of a run as the name of a system, with hyphens for what a file for a server may not have in it."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", run).strip("-.") or "captioner"


def check_submission(path: Path, image_ids: Collection[ImageId] | None = None) -> list[str]:
    """What a test server would not accept in a file; [] if nothing.

    image_ids: those of the split, each of which must have a caption. DataError where the file cannot be read as JSON.
    """
    rows = read_json(path)
    if path.read_bytes().startswith(b"\xef\xbb\xbf"):
        return ["It begins with a byte order mark: save it as UTF-8 without one."]
    if not isinstance(rows, list):
        return [f"It is not a list. Expected [{EXPECTED}, …]."]
    wrong = [(number, row) for number, row in enumerate(rows) if not _is_entry(row)]
    if wrong:
        number, row = wrong[0]
        return [
            f"{len(wrong):,} of {len(rows):,} entries are not {EXPECTED} with an integer id; the first is entry "
            f"{number}: {json.dumps(row)[:100]}."
        ]
    given = [row["image_id"] for row in rows]
    given_once = set(given)
    problems = [] if rows else ["It has no captions."]
    if repeated := [image_id for image_id, count in Counter(given).items() if count > 1]:
        problems.append(f"{len(repeated):,} image ids have more than one caption: {listed(repeated)}.")
    if blank := [row["image_id"] for row in rows if not row["caption"].strip()]:
        problems.append(f"{len(blank):,} captions are empty, those of the images {listed(blank)}.")
    if image_ids is not None:
        known = set(image_ids)
        if missing := [image_id for image_id in image_ids if image_id not in given_once]:
            problems.append(f"{len(missing):,} of {len(known):,} images have no caption: {listed(missing)}.")
        if unknown := [image_id for image_id in dict.fromkeys(given) if image_id not in known]:
            problems.append(f"{len(unknown):,} image ids are not of this split: {listed(unknown)}.")
    return problems


def _is_entry(row: Any) -> bool:
    """Whether it has an integer id and a caption, which can be written as UTF-8: no half of a surrogate pair."""
    caption = row.get("caption") if isinstance(row, dict) else None
    return type(caption) is str and type(row.get("image_id")) is int and not re.search(r"[\ud800-\udfff]", caption)


def image_ids_of(path: Path) -> list[ImageId]:
    """The ids of the images that a file such as `image_info_test2014.json` lists."""
    images = get_field(read_json(path), "images", list, f"{path}")
    return [get_field(image, "id", (int, str), f"{path}: images", number) for number, image in enumerate(images)]


def pack_submission(files: Sequence[Path], archive: Path) -> None:
    """Write the files into one zip, without folders; equal files give equal bytes. An existing one is replaced."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in files:
            packed.writestr(zipfile.ZipInfo(file.name), file.read_bytes(), zipfile.ZIP_DEFLATED)
    write_atomically(archive, content.getvalue())
