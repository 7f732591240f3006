"""Reads what other projects wrote with `torch.save`, in both of its container formats, and plain pickles.

    since PyTorch 1.6     a zip archive: data.pkl, and data/KEY for each storage
    before                pickles one after the other (a magic number, the protocol, the machine, the object, the keys
                          of the storages), then each storage: its length in 8 bytes, and its data

The memory that is used never exceeds the size of the file by much: nothing is decompressed, and a storage that says it
is longer than the file is refused.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from captioner.checkpoint.foreign.builders import BUILDERS, CONSTANTS, STORAGE_TYPES
from captioner.checkpoint.foreign.pickle_reader import Global, PickleReader
from captioner.errors import CheckpointError

_MAGIC_NUMBER, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@dataclass
class _Storages:
    """The storages that a pickle refers to; their tensors exist before their data are read.

    limit: bytes that all of them may have together.
    """

    limit: int
    bytes: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def find(self, identifier: Any) -> Any:
        """What a persistent id stands for.

        ('storage', type, key, device, elements, …): the storage, as a vector. ('module', class, file, source): the
        class, of which a record is made; the older format adds the source of each pickled module.
        """
        if isinstance(identifier, tuple) and len(identifier) == 4 and identifier[0] == "module":
            return identifier[1]
        if not isinstance(identifier, tuple) or len(identifier) < 5:
            raise ValueError("an unknown kind of reference")
        kind, storage_type, key, _, elements = identifier[:5]
        if kind != "storage" or not isinstance(storage_type, Global) or storage_type.name not in STORAGE_TYPES:
            raise ValueError(f"a storage of {storage_type!s:.40}")
        if type(elements) is not int or elements < 0:
            raise ValueError(f"a storage of {elements} elements")
        if len(identifier) > 5 and identifier[5] is not None:
            raise ValueError("a view of a storage, which PyTorch before 0.4 wrote")
        if str(key) not in self.tensors:
            dtype = STORAGE_TYPES[storage_type.name]
            self.bytes += elements * dtype.itemsize
            if self.bytes > self.limit:
                raise ValueError(f"storages of {self.bytes} bytes in a file of {self.limit}")
            self.tensors[str(key)] = torch.empty(elements, dtype=dtype)
        return self.tensors[str(key)]


def read_torch_file(path: Path) -> Any:
    """The object in a file that `torch.save` wrote, or in a plain pickle; whole objects become `Record`s.

    CheckpointError where the file cannot be read, is damaged, or asks for more than data.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}: expected a checkpoint file of another project.")
    try:
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        with path.open("rb") as stream:
            if stream.read(4) == b"PK\x03\x04":
                raise ValueError("an archive without its end")
            stream.seek(0)
            return _read_pickles(path, stream)
    except (ValueError, KeyError, RuntimeError, zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(f"{path} is damaged ({error!s:.200}): copy it again.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}).") from error


def _reader(path: Path, storages: _Storages) -> PickleReader:
    return PickleReader(str(path), BUILDERS, storages.find, CONSTANTS)


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        size = path.stat().st_size
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise CheckpointError(f"{path} is a compressed archive, and torch.save writes none: unpack it first.")
        if sum(member.file_size for member in members.values()) > size:
            raise CheckpointError(f"{path} was refused: its parts are longer than the file.")
        pickles = [name for name in members if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(f"{path} is an archive, but not one of torch.save: it has no data.pkl.")
        prefix = pickles[0].removesuffix("data.pkl")
        if f"{prefix}constants.pkl" in members or f"{prefix}code/" in members:
            raise CheckpointError(f"{path} is a TorchScript program: expected a checkpoint.")
        if f"{prefix}byteorder" in members and archive.read(f"{prefix}byteorder") != b"little":
            raise CheckpointError(f"{path} was written on a big-endian machine, which is not supported.")
        storages = _Storages(size)
        with archive.open(pickles[0]) as stream:
            content = _reader(path, storages).load(stream)
        for key, tensor in storages.tensors.items():
            _fill(tensor, archive.read(f"{prefix}data/{key}"))
    return content


def _read_pickles(path: Path, stream: IO[bytes]) -> Any:
    """The older container, or a single pickle."""
    storages = _Storages(path.stat().st_size)
    reader = _reader(path, storages)
    content = reader.load(stream)
    if type(content) is not int or content != _MAGIC_NUMBER:
        return content
    if reader.load(stream) != _PROTOCOL:
        raise ValueError("an unknown version of torch.save")
    machine = reader.load(stream)
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise ValueError("it was written on a big-endian machine")
    content, keys = reader.load(stream), reader.load(stream)
    for key in keys:
        tensor = storages.tensors[str(key)]
        if int.from_bytes(stream.read(8), "little") != len(tensor):
            raise ValueError("the length of a storage differs")
        _fill(tensor, stream.read(len(tensor) * tensor.dtype.itemsize))
    return content


def _fill(tensor: Tensor, data: bytes) -> None:
    """Copy the bytes of a storage into its tensor; ValueError where there are too few or too many."""
    if len(data) != len(tensor) * tensor.dtype.itemsize:
        raise ValueError(f"a storage has {len(data)} bytes instead of {len(tensor) * tensor.dtype.itemsize}")
    if data:
        tensor.copy_(torch.frombuffer(bytearray(data), dtype=tensor.dtype))
