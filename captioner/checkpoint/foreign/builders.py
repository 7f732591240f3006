"""The names that a checkpoint's pickle may call, and what is made of each: the table of `PickleReader`.

Every function here only makes a value from its arguments. Tensors are views of the storages of the file, and a size or
stride that leaves its storage is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captioner.checkpoint.foreign.pickle_reader import Builder, Global, Record

_NUMBERS = re.compile(r"[biuf][1248]|b1|\?")

STORAGE_TYPES: Mapping[str, torch.dtype] = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """The tensor of `torch._utils._rebuild_tensor_v2`; ValueError where it would leave its storage.

    A tensor with more elements than its storage, whose memory a copy would have to allocate, is refused too.
    """
    if not isinstance(storage, Tensor):
        raise ValueError("a tensor without a storage")
    numbers = [offset, *size, *stride]
    if len(size) != len(stride) or not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
        raise ValueError(f"a tensor of size {size} and stride {stride}")
    elements = 1
    for length in size:
        elements *= length
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if elements else 0
    if last >= max(len(storage), 1) or elements > len(storage):
        raise ValueError(f"a tensor of {elements} elements in a storage of {len(storage)}")
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a parameter without a tensor")
    return data


def _dictionary(items: Any = (), *_: Any) -> dict[Any, Any]:
    """An OrderedDict, which protocols 0 and 1 give as a list of pairs; dictionaries keep their order anyway."""
    return {str(key): value for key, value in items}


def _default_dictionary(*_: Any) -> dict[Any, Any]:
    return {}


def _set(items: Any = ()) -> set[Any]:
    if not all(isinstance(item, (str, int, float)) for item in items):
        raise ValueError("a set of more than plain values")
    return set(items)


def _list(items: Any = ()) -> list[Any]:
    if not isinstance(items, (list, tuple, set)):
        raise ValueError("a list of something else")
    return list(items)


def _no_bytes() -> bytes:
    """b"", which protocols 0 to 2 store as a call; bytes(n) is refused, for it would take n bytes."""
    return b""


def _size(sizes: Any = ()) -> tuple[int, ...]:
    return tuple(int(size) for size in sizes)


def _object_of(kind: Any, *_: Any) -> Record:
    """An object as protocols 0 and 1 make it, by `copy_reg._reconstructor`."""
    if not isinstance(kind, Global):
        raise ValueError("an object of something that is not a class")
    return Record(kind)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes, as protocol 2 stores them: text and the name of an encoding."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes in the encoding {encoding!r:.20}")
    return text.encode("latin1")


class NumberType:
    """A `numpy.dtype` of numbers."""

    def __init__(self, code: Any = "f8", *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise ValueError(f"an array of {code!r:.20}")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """The byte order."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """A `numpy.ndarray` of numbers, filled by `build`."""

    def __init__(self, *_: Any) -> None:
        self.values = np.empty(0)

    def build(self, state: Any) -> None:
        """(version, shape, dtype, Fortran order, bytes)."""
        _, shape, kind, is_fortran, data = state
        if not isinstance(kind, NumberType) or not isinstance(data, bytes):
            raise ValueError("an array of more than numbers")
        self.values = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if is_fortran else "C")


def _array_of_bytes(data: Any, kind: Any, shape: Any, order: Any = "C") -> Array:
    """An array as protocol 5 makes it."""
    array = Array()
    array.build((1, shape, kind, order == "F", bytes(data) if isinstance(data, bytearray) else data))
    return array


def _number(kind: Any, data: Any = b"") -> float | int:
    """A numpy scalar as a plain number."""
    if not isinstance(kind, NumberType) or not isinstance(data, bytes):
        raise ValueError("a number of an unknown type")
    number: float | int = np.frombuffer(data, kind.dtype)[0].item()
    return number


def _nothing(*_: Any) -> None:
    """Of what no checkpoint needs, such as the function behind a hook."""


def _table() -> dict[Global, Builder]:
    named: dict[str, Builder] = {
        "collections.OrderedDict": _dictionary,
        "collections.defaultdict": _default_dictionary,
        "collections.Counter": _default_dictionary,
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.nn.parameter.Parameter": _parameter,
        "torch.Size": _size,
        "torch.device": _nothing,
        "_codecs.encode": _encoded,
        "numpy.dtype": NumberType,
        "numpy.ndarray": Array,
    }
    for module in ("builtins", "__builtin__"):
        named |= {f"{module}.dict": _default_dictionary, f"{module}.set": _set, f"{module}.list": _list}
        named |= {f"{module}.bytes": _no_bytes}
        named |= {f"{module}.{name}": _nothing for name in ("bool", "float", "int", "object", "str", "tuple")}
    for module in ("copyreg", "copy_reg"):
        named[f"{module}._reconstructor"] = _object_of
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        named |= {f"{module}.scalar": _number, f"{module}._reconstruct": Array}
        named[f"{module.replace('multiarray', 'numeric')}._frombuffer"] = _array_of_bytes
    for name in STORAGE_TYPES:
        named[f"torch.{name}"] = _nothing  # only as part of a storage's id
    return {Global(*path.rsplit(".", 1)): builder for path, builder in named.items()}


BUILDERS: Mapping[Global, Builder] = _table()
CONSTANTS: Mapping[Global, Any] = {
    Global("torch", str(kind).removeprefix("torch.")): kind for kind in dict.fromkeys(STORAGE_TYPES.values())
}
