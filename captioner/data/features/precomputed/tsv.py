"""A table of bottom-up attention (Anderson et al. 2018): one line per image, with boxes and features in base64.

    image_id  image_w  image_h  num_boxes  boxes  features                                        (bottom-up attention)
    img_id  img_h  img_w  objects_id  objects_conf  attrs_id  attrs_conf  num_boxes  boxes  features     (LXMERT)

Such tables have tens of gigabytes. The positions of the lines are determined once and stored in the cache folder.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import sys
from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from captioner.data.features.precomputed.region_features import RegionFeatures, from_array
from captioner.errors import DataError
from captioner.files import cache_directory, write_atomically

_COLUMNS = {
    6: ("image_id", "width", "height", "num_boxes", "boxes", "features"),
    10: (
        "image_id", "height", "width", "objects", "objects_conf", "attributes", "attributes_conf", "num_boxes", "boxes",
        "features",
    ),
}  # fmt: skip
FORMAT_VERSION = 1


class FeatureTsv:
    """The lines of a table, found by their positions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def _lines(self) -> dict[str, tuple[int, int]]:
        """Key → (offset, size) of its line."""
        digest = hashlib.blake2b(os.path.abspath(self.path).encode(errors="surrogateescape"), digest_size=8)  # noqa: PTH100
        index = cache_directory() / "feature_indexes" / f"{self.path.stem}-{digest.hexdigest()}.json"
        identity = [FORMAT_VERSION, self.state("")]
        try:
            stored = json.loads(index.read_bytes())
            if stored["of"] == identity:
                return {key: (offset, size) for key, (offset, size) in stored["lines"].items()}
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            pass  # no index, or a damaged one
        lines = self._read_positions()
        try:
            index.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(index, json.dumps({"of": identity, "lines": lines}).encode())
        except OSError as error:
            raise DataError(
                f"The index of {self.path} cannot be written to {index.parent} ({error.strerror}): set the environment "
                "variable CAPTIONER_CACHE to another folder."
            ) from error
        return lines

    def _read_positions(self) -> dict[str, tuple[int, int]]:
        lines: dict[str, tuple[int, int]] = {}
        offset = 0
        no_terminal = not sys.stderr.isatty()
        with (
            self.path.open("rb") as file,
            tqdm(
                total=self.path.stat().st_size,
                desc=f"indexing {self.path.name}, once",
                unit="B",
                unit_scale=True,
                disable=no_terminal,
            ) as bar,
        ):
            for number, line in enumerate(file, start=1):
                cells = line.count(b"\t") + 1
                if cells not in _COLUMNS:
                    raise DataError(
                        f"{self.path}, line {number} has {cells} columns. Expected image_id, image_w, image_h, "
                        "num_boxes, boxes, features (bottom-up attention), or LXMERT's ten."
                    )
                key = line[: line.index(b"\t")].decode(errors="backslashreplace").strip()
                if key in lines:
                    raise DataError(f"{self.path}, line {number}: {key} is in the table twice.")
                lines[key] = (offset, len(line))
                offset += len(line)
                bar.update(len(line))
        return lines

    def keys(self) -> Collection[str]:
        """See FeatureStore."""
        return self._lines.keys()

    def close(self) -> None:
        """Nothing stays open."""

    def state(self, key: str) -> str:
        """See FeatureStore."""
        status = self.path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def read(self, key: str) -> RegionFeatures:
        """See FeatureStore."""
        offset, size = self._lines[key]
        with self.path.open("rb") as file:
            file.seek(offset)
            cells = file.read(size).rstrip(b"\r\n").split(b"\t")
        where = f"{self.path}:{key}"
        values = dict(zip(_COLUMNS[len(cells)], cells, strict=True))
        try:
            count = int(values["num_boxes"])
            features, boxes = (
                np.frombuffer(base64.b64decode(values[name], validate=True), np.float32).reshape(count, -1)
                for name in ("features", "boxes")
            )
            image_size = float(values["width"]), float(values["height"])
        except (ValueError, binascii.Error) as error:
            raise DataError(f"{where} cannot be read ({error}). Is the file complete?") from error
        return replace(from_array(features, where, boxes), size=image_size)
