"""The features of one image as other programs store them: arrays, and the names that they give them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from captioner.errors import DataError

FEATURE_NAMES = ("features", "feat", "x", "feature", "att", "att_feats", "image_features", "arr_0")
BOX_NAMES = ("boxes", "bbox", "box", "bboxes", "image_bb")
COUNT_NAMES = ("num_bbox", "num_boxes")  # of the regions that are no padding


@dataclass(frozen=True)
class RegionFeatures:
    """features: (N, D) float32, N ≥ 1 regions; boxes: (N, 4) their left, top, right and bottom, or None.

    boxes: in pixels of an image of `size` (width, height); None for those of the image file, and (1, 1) for fractions.
    grid: (rows, columns), N = rows · columns, if the regions are a grid over the whole image in reading order.
    """

    features: NDArray[np.float32]
    boxes: NDArray[np.float32] | None = None
    size: tuple[float, float] | None = None
    grid: tuple[int, int] | None = None


class FeatureStore(Protocol):
    """A folder or file of features. `str` of it is for messages."""

    def keys(self) -> Collection[str]:
        """The names of all images that have features."""
        ...

    def read(self, key: str) -> RegionFeatures:
        """The features of one image; DataError, which names the file and the key, for content that is no features."""
        ...

    def close(self) -> None:
        """Close the file, which the next call opens again: worker processes must not inherit an open one."""
        ...

    def state(self, key: str) -> str:
        """A value that changes if the features of `key` are written again."""
        ...


def from_arrays(arrays: Mapping[str, Any], where: str) -> RegionFeatures:
    """The features in named arrays, such as those of an .npz file; other names are ignored."""
    name = next((name for name in FEATURE_NAMES if name in arrays), None)
    if name is None:
        others = [name for name in arrays if name not in (*BOX_NAMES, *COUNT_NAMES)]
        if len(others) != 1:
            raise DataError(
                f"{where} holds {', '.join(arrays) or 'nothing'}: expected an array named "
                f"{', '.join(FEATURE_NAMES[:3])}, or one array."
            )
        name = others[0]
    box_name = next((name for name in BOX_NAMES if name in arrays), None)
    count_name = next((name for name in COUNT_NAMES if name in arrays), None)
    count = None if count_name is None else int(_loaded(arrays, count_name, where).reshape(-1)[0])
    boxes = None if box_name is None else _loaded(arrays, box_name, where)
    return from_array(_loaded(arrays, name, where), where, boxes, count)


def from_array(
    features: NDArray[Any], where: str, boxes: NDArray[Any] | None = None, count: int | None = None
) -> RegionFeatures:
    """The features in one array: (N, D), a grid (rows, columns, D), or one vector (D,).

    count: how many of the regions are no padding; None: all. DataError for other shapes and types, and for numbers that
    are not finite.
    """
    if features.ndim > 1 and features.shape[0] == 1:
        features = features[0] if features.ndim > 2 else features
    grid = (features.shape[0], features.shape[1]) if features.ndim == 3 else None
    if features.ndim == 1:
        features = features[None]
    elif features.ndim == 3:
        features = features.reshape(-1, features.shape[2])
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(
            f"{where} has an array of the shape {features.shape}: expected (N, D) for N regions, (rows, columns, D) or "
            "(D,)."
        )
    if features.dtype.kind != "f":
        raise DataError(f"{where} has numbers of the type {features.dtype}: expected float16, float32 or float64.")
    if count is not None and 0 < count <= len(features):
        features, boxes = features[:count], None if boxes is None else boxes[:count]
    converted = np.array(features, np.float32, order="C")  # a copy, because files give read-only arrays
    if not np.isfinite(converted).all():
        kind = "NaN" if np.isnan(converted).any() else "infinite numbers"
        raise DataError(
            f"{where} holds {kind} ({int((~np.isfinite(converted)).sum()):,} of {converted.size:,} numbers)."
        )
    return RegionFeatures(
        converted, None if boxes is None else _checked_boxes(boxes, len(converted), where), None, grid
    )


def from_bytes(content: bytes, where: str) -> RegionFeatures:
    """The features in the content of an .npz or .npy file. Reading it executes no code."""
    if content[:2] == b"PK":
        return _read(lambda: _from_npz(io.BytesIO(content), where), where)
    if content[:6] == b"\x93NUMPY":
        return _read(lambda: from_array(np.load(io.BytesIO(content), allow_pickle=False), where), where)
    if content[:1] == b"\x80":
        raise DataError(f"{where} is pickled, which would execute code when it is read. Store it as .npz.")
    raise DataError(f"{where} is neither an .npz nor an .npy file.")


def _from_npz(file: io.BytesIO, where: str) -> RegionFeatures:
    with np.load(file, allow_pickle=False) as arrays:
        return from_arrays(arrays, where)


def _read(read: Callable[[], RegionFeatures], where: str) -> RegionFeatures:
    try:
        return read()
    except DataError:
        raise
    except ValueError as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise DataError(
                f"{where} holds Python objects, which would execute code when they are read. Store arrays of numbers."
            ) from error
        raise DataError(f"{where} cannot be read: {error}.") from error
    except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{where} cannot be read: {error or type(error).__name__}. Is it complete?") from error


def _loaded(arrays: Mapping[str, Any], name: str, where: str) -> NDArray[Any]:
    try:
        return np.asarray(arrays[name])
    except ValueError as error:
        raise DataError(
            f"{where}: {name} holds Python objects, which would execute code when they are read. Store numbers."
        ) from error


def _checked_boxes(boxes: NDArray[Any], regions: int, where: str) -> NDArray[np.float32]:
    if boxes.ndim == 3 and len(boxes) == 1:
        boxes = boxes[0]
    if boxes.shape != (regions, 4) or boxes.dtype.kind not in "fiu":
        raise DataError(f"{where} has boxes of the shape {boxes.shape}: expected ({regions}, 4), one per region.")
    converted = np.ascontiguousarray(boxes, np.float32)
    if not np.isfinite(converted).all() or (converted[:, 2:] < converted[:, :2]).any():
        raise DataError(f"{where} has boxes that are not left, top, right, bottom.")
    return converted
