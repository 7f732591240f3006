"""Files of torch.save and pickles: what is read equals what torch and pickle read, and nothing is ever run."""

from __future__ import annotations

import argparse
import io
import pickle
import random
import struct
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captioner.checkpoint.foreign.pickle_reader import Record
from captioner.checkpoint.foreign.torch_file import read_torch_file
from captioner.errors import CheckpointError
from tests.checkpoint.foreign.hostile import hostile_objects, hostile_programs

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def save(path: Path, value: Any, *, legacy: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


def tensors() -> dict[str, torch.Tensor]:
    whole = torch.randn(4, 6)
    return {
        "whole": whole,
        "a view of it": whole[1:3, ::2],
        "transposed": whole.t(),
        "half": torch.randn(3).half(),
        "bfloat16": torch.randn(3).bfloat16(),
        "double": torch.randn(2, 2, dtype=torch.float64),
        "count": torch.tensor(7),
        "truth": torch.tensor([True, False]),
        "empty": torch.empty(0, 5),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_those_that_were_saved(tmp_path: Path, legacy: bool) -> None:
    values = tensors()
    read = read_torch_file(save(tmp_path / "file.pth", OrderedDict(values), legacy=legacy))
    assert list(read) == list(values)
    for name, value in values.items():
        assert read[name].dtype == value.dtype
        torch.testing.assert_close(read[name], value.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("legacy", [False, True])
def test_modules_become_records_with_their_weights(tmp_path: Path, legacy: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Dropout(0.3))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(1, 2)).sum().backward()
    optimizer.step()
    content = {"module": module, "optimizer": optimizer}
    read = read_torch_file(save(tmp_path / "file.pth", content, legacy=legacy))
    assert isinstance(read["module"], Record)
    assert str(read["module"].kind) == "torch.nn.modules.container.Sequential"
    linear = read["module"].attributes["_modules"]["0"]
    torch.testing.assert_close(linear.attributes["_parameters"]["weight"], module[0].weight.detach())
    assert read["module"].attributes["_modules"]["1"].attributes["p"] == 0.3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_are_those_that_were_pickled(tmp_path: Path, protocol: int) -> None:
    value = {
        "numbers": [0, -1, 255, 2**16, 2**40, -(2**70), 0.5, float("inf"), True, None],
        "texts": ["", "a dog", "café", "犬", "line\nbreak", "'quoted\\"],
        "bytes": [b"", b"\x00\xff"],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        ("a", 1): "a pair as key",
        "ordered": OrderedDict([("b", 1), ("a", 2)]),
        "default": defaultdict(list, {"x": [1]}),
        "set": {"a"},
        "array": np.arange(6.0).reshape(2, 3),
        "column order": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "scalar": np.float64(0.25),
        "shared": [],
    }
    value["shared again"] = value["shared"]
    read = read_torch_file(write(tmp_path / "file.pkl", pickle.dumps(value, protocol)))
    for name in ("array", "column order"):
        np.testing.assert_array_equal(read.pop(name).values, value.pop(name))
    assert read.pop("default") == {"x": [1]}
    value.pop("default")
    assert read == value
    assert read["shared"] is read["shared again"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_namespace_becomes_a_record(tmp_path: Path, protocol: int) -> None:
    options = argparse.Namespace(caption_model="fc", rnn_size=24)
    read = read_torch_file(write(tmp_path / "infos.pkl", pickle.dumps({"opt": options}, protocol)))
    assert read["opt"].attributes == {"caption_model": "fc", "rnn_size": 24}


HOSTILE = sorted(hostile_objects(Path("marker")))
PROGRAMS = sorted(hostile_programs(Path("marker")))


def check_refused(path: Path, marker: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        read_torch_file(path)
    assert "was refused, and nothing in it was executed" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not marker.exists()


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_hostile_pickle_is_refused_and_nothing_is_run(tmp_path: Path, name: str, protocol: int) -> None:
    marker = tmp_path / "marker"
    content = pickle.dumps(hostile_objects(marker)[name], protocol)
    check_refused(write(tmp_path / "file.pkl", content), marker)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_torch_file_is_refused_and_nothing_is_run(tmp_path: Path, name: str, legacy: bool) -> None:
    marker = tmp_path / "marker"
    content = {"weight": torch.zeros(2), "hostile": hostile_objects(marker)[name]}
    check_refused(save(tmp_path / "file.pth", content, legacy=legacy), marker)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_is_refused_and_nothing_is_run(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    path = write(tmp_path / "file.pkl", hostile_programs(marker)[name])
    with pytest.raises(CheckpointError, match=r"[Nn]othing in it was executed"):
        read_torch_file(path)
    assert not marker.exists()


def test_the_payloads_of_these_tests_are_live(tmp_path: Path) -> None:
    """Python's own `pickle` runs them: otherwise the tests above would prove nothing."""
    for name in ("os.system", "builtins.eval", "pickle.loads", "inside a dictionary"):
        marker = tmp_path / name.replace(" ", "_")
        pickle.loads(pickle.dumps(hostile_objects(marker)[name]))
        assert marker.exists(), name
    for name in ("INST", "OBJ", "posix"):
        marker = tmp_path / name
        pickle.loads(hostile_programs(marker)[name])
        assert marker.exists(), name


class _TensorOf:
    """Pickled as a tensor with these arguments of `_rebuild_tensor_v2`."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return torch._utils._rebuild_tensor_v2, (*self.arguments, False, OrderedDict())


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (10**6, 10**6), (0, 0)),  # 4 TB in one element
        (0, (2**40,), (1,)),
        (5, (1,), (1,)),
        (-1, (1,), (1,)),
        (0, (2, 2), (4, 1)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (True,), (1,)),
        (0, 4, 1),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_tensor_outside_of_its_storage_is_refused(
    tmp_path: Path, offset: int, size: Any, stride: Any, legacy: bool
) -> None:
    tensor = _TensorOf(
        torch.storage.TypedStorage(wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32, _internal=True),
        offset,
        size,
        stride,
    )
    with pytest.raises(CheckpointError, match=r"damaged"):
        read_torch_file(save(tmp_path / "file.pth", {"weight": tensor}, legacy=legacy))


def test_a_storage_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    """No memory is taken for what the file says, only for what it has."""
    path = save(tmp_path / "file.pth", {"weight": torch.zeros(100)}, legacy=False)
    claimed = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(claimed, "w") as changed:
        for member in archive.infolist():
            data = archive.read(member)
            if member.filename.endswith("data.pkl"):
                assert data.count(b"K\x64t") == 1  # BININT1 100, the storage's elements
                data = data.replace(b"K\x64t", b"J" + struct.pack("<i", 2**31 - 1) + b"t")
            changed.writestr(member.filename, data)
    with pytest.raises(CheckpointError, match=r"storages of 8589934588 bytes in a file of"):
        read_torch_file(write(path, claimed.getvalue()))


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}." + bytes(10**7))
    with pytest.raises(CheckpointError, match=r"compressed archive"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or no pickle"),
        (b"hello", "damaged or no pickle"),
        (b"\x80\x02}", "damaged or no pickle"),
        (b"K\x01" + b"\x85" * 3 + b"}" + b"(h\x00h\x00u.", "damaged or no pickle"),
        (b"r\xff\xff\xff\x7f.", "damaged or no pickle"),
        (b"(" * 50_000 + b".", None),
        (b"]" + b"(" * 3 + b"t.", None),
        (b"\x80\x02}" + b"K\x01\x85\x85" + b"K\x01s.", "nested tuples"),  # its hash could take forever
    ],
)
def test_damaged_content_has_one_message(tmp_path: Path, content: bytes, message: str | None) -> None:
    path = write(tmp_path / "file.pkl", content)
    if message is None:
        read_torch_file(path)
        return
    with pytest.raises(CheckpointError, match=message) as error:
        read_torch_file(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_with_changed_bytes_is_read_or_refused(tmp_path: Path, legacy: bool) -> None:
    """No other exception, and no unbounded time or memory, for 300 random changes."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LSTMCell(2, 2))
    path = save(tmp_path / "file.pth", {"module": module, "epoch": 3}, legacy=legacy)
    content, generator = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(generator.randint(1, 3)):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        try:
            read_torch_file(write(path, bytes(changed[: generator.choice([len(changed), len(changed) // 2])])))
        except CheckpointError:
            refused += 1
    assert refused > 50


def test_half_of_an_archive_is_damaged(tmp_path: Path) -> None:
    path = save(tmp_path / "file.pth", tensors(), legacy=False)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"damaged \(an archive without its end\): copy it again"):
        read_torch_file(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"does not exist: expected a checkpoint"):
        read_torch_file(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match=r"is a folder"):
        read_torch_file(tmp_path)
