"""Read a safetensors file without torch and without its library, where only NumPy is installed.

The format: the length of the header in 8 bytes, little-endian; the header, JSON; then the tensors' bytes, one after
another (github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "|i1"}
_TYPES |= {"U16": "<u2", "U8": "|u1", "BOOL": "|b1"}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is in the file: its type's name, its shape, and its first byte and the one after its last."""

    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class SafetensorsFile:
    """The whole content of a file. tensors: name → where it is; metadata: the header's own texts."""

    content: bytes
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> SafetensorsFile:
        """ValueError, KeyError or TypeError for a file of another form; OSError where it cannot be read."""
        content = path.read_bytes()
        first = 8 + int.from_bytes(content[:8], "little")
        if len(content) < 8 or first > len(content):
            raise ValueError("it is too short for its header")
        header = json.loads(content[8:first].decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
        metadata = header.pop("__metadata__", {})
        tensors = {}
        for name, entry in header.items():
            start, end = (first + int(offset) for offset in entry["data_offsets"])
            shape = tuple(map(int, entry["shape"]))
            if not first <= start <= end <= len(content) or min(shape, default=0) < 0:
                raise ValueError(f"{name} is outside of the file")
            tensors[name] = StoredTensor(str(entry["dtype"]), shape, start, end)
        return cls(content, tensors, metadata)

    def array(self, name: str) -> np.ndarray:
        """The tensor of this name, read-only. KeyError for a name or a type that is not known."""
        tensor = self.tensors[name]
        values = np.frombuffer(self.content[tensor.start : tensor.end], _TYPES[tensor.kind])
        return values.reshape(tensor.shape)
