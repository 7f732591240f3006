"""Our reader of safetensors files beside the library's writer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from captioner.checkpoint.safetensors_file import SafetensorsFile

TENSORS = {
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "float": np.linspace(-1, 1, 5, dtype=np.float32),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float32),
    "bytes": np.arange(256, dtype=np.uint8),
}


def test_it_reads_what_the_library_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path, metadata={"about": "text"})
    file = SafetensorsFile.read(path)
    assert file.metadata == {"about": "text"}
    assert set(file.tensors) == set(TENSORS)
    for name, values in TENSORS.items():
        np.testing.assert_array_equal(file.array(name), values)
        assert file.array(name).dtype == values.dtype


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"123",
        (1 << 60).to_bytes(8, "little") + b"{}",
        with_header(b"[1]"),
        with_header(b"\xff"),
        with_header(json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()),
        with_header(json.dumps({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}).encode()),
        with_header(json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}).encode(), b"1234"),
        with_header(json.dumps({"a": 3}).encode()),
        with_header(json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": None}}).encode()),
    ],
    ids=["empty", "short", "long", "list", "bytes", "outside", "negative", "before", "number", "none"],
)
def test_a_damaged_file_is_an_error_that_callers_expect(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises((ValueError, KeyError, TypeError)):
        SafetensorsFile.read(path)


def test_a_shape_that_does_not_fit_the_bytes_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(
        with_header(json.dumps({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}).encode(), b"1234")
    )
    with pytest.raises(ValueError, match="reshape"):
        SafetensorsFile.read(path).array("a")
