"""What torch reads for an export to ONNX is read once for each version of the operators."""

from __future__ import annotations

import pytest

from tests.onnx_registry import _kept


def test_a_registry_is_read_once_for_each_opset(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Registry:
        @classmethod
        def from_torchlib(cls, opset_version: int) -> dict[str, int]:
            read.append(opset_version)
            return {"opset": opset_version}

    monkeypatch.setattr(Registry, "from_torchlib", _kept(Registry.from_torchlib))
    for _ in range(2):
        for version in (18, 20):
            assert Registry().from_torchlib(opset_version=version) == {"opset": version}
    assert read == [18, 20]
