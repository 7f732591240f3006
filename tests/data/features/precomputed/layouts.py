"""Writes features in every layout that `data.features` reads, for tests."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Image → features (N, D) and boxes (N, 4) in pixels of an image of 64 × 32."""


def npz(content: Mapping[str, NDArray[np.float32]]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **content)  # type: ignore[arg-type]
    return stream.getvalue()


def write_npz(folder: Path, arrays: Arrays) -> Path:
    """ruotianluo's cocobu_att (feat) and cocobu_box."""
    for name in ("cocobu_att", "cocobu_box"):
        (folder / name).mkdir(parents=True)
    for key, (features, boxes) in arrays.items():
        (folder / "cocobu_att" / f"{key}.npz").write_bytes(npz({"feat": features}))
        np.save(folder / "cocobu_box" / f"{key}.npy", boxes)
    return folder / "cocobu_att"


def write_padded_npz(folder: Path, arrays: Arrays) -> Path:
    """mmf's: all images padded to the same number of regions, with num_bbox."""
    folder = folder / "padded"
    folder.mkdir(parents=True)
    most = max(len(features) for features, _ in arrays.values())
    for key, (features, boxes) in arrays.items():
        missing = most - len(features)
        padded = {"x": np.pad(features, ((0, missing), (0, 0))), "bbox": np.pad(boxes, ((0, missing), (0, 0)))}
        (folder / f"{key}.npz").write_bytes(npz({**padded, "num_bbox": np.array(len(features))}))
    return folder


def write_hdf5(folder: Path, arrays: Arrays) -> Path:
    """A group per image."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "groups.h5", "w") as file:
        for key, (features, boxes) in arrays.items():
            file[f"{key}/features"], file[f"{key}/boxes"] = features, boxes
    return folder / "groups.h5"


def write_m2(folder: Path, arrays: Arrays) -> Path:
    """The Meshed-Memory Transformer's coco_detections.hdf5."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "coco_detections.hdf5", "w") as file:
        for key, (features, boxes) in arrays.items():
            file[f"{key}_features"], file[f"{key}_boxes"] = features, boxes
            file[f"{key}_cls_prob"] = np.zeros((len(features), 3), np.float32)
    return folder / "coco_detections.hdf5"


def write_lmdb(folder: Path, arrays: Arrays) -> Path:
    """ruotianluo's cocobu_att.lmdb: image id → the content of an .npz file."""
    import lmdb

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cocobu_att.lmdb"
    with lmdb.open(str(path), subdir=False, map_size=1 << 24) as environment, environment.begin(write=True) as writer:
        for key, (features, boxes) in arrays.items():
            writer.put(key.encode(), npz({"feat": features, "bbox": boxes}))
    return path


def write_tsv(folder: Path, arrays: Arrays) -> Path:
    """Bottom-up attention's table."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "trainval.tsv").open("w") as file:
        for key, (features, boxes) in arrays.items():
            encoded = (base64.b64encode(array.tobytes()).decode() for array in (boxes, features))
            file.write("\t".join([key, "64", "32", str(len(features)), *encoded]) + "\n")
    return folder / "trainval.tsv"


LAYOUTS: dict[str, Callable[[Path, Arrays], Path]] = {
    "npz": write_npz,
    "padded npz": write_padded_npz,
    "hdf5": write_hdf5,
    "m2": write_m2,
    "lmdb": write_lmdb,
    "tsv": write_tsv,
}
PACKAGES = {"hdf5": "h5py", "m2": "h5py", "lmdb": "lmdb"}
"""Layout → the optional package that it needs."""
