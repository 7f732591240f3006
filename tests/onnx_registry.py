"""torch reads all its translations to ONNX anew for each graph, half of the time of an export: tests read them once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pytest

from captioner.checkpoint.onnx import graphs


def keep_onnx_registry(patch: pytest.MonkeyPatch) -> None:
    """Let torch read its translations once from the first export on, until `patch` is undone.

    Versions of torch that keep them elsewhere read them as they do.
    """
    import_onnx = graphs.import_onnx

    def import_onnx_and_keep() -> Any:
        onnx = import_onnx()  # an error where it is not installed
        _keep_translations(patch)
        return onnx

    patch.setattr(graphs, "import_onnx", import_onnx_and_keep)


def _keep_translations(patch: pytest.MonkeyPatch) -> None:
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:
        return
    original = getattr(ONNXRegistry, "from_torchlib", None)
    if original is not None and not hasattr(original, "keeps"):
        patch.setattr(ONNXRegistry, "from_torchlib", _kept(original))


def _kept(original: Callable[..., Any]) -> Any:
    """The class method that makes a registry, which nothing changes where a caller adds no translation of its own."""
    registries: dict[Hashable, Any] = {}

    def from_torchlib(cls: type, *args: Hashable, **options: Hashable) -> Any:
        key = (args, *sorted(options.items()))
        if key not in registries:
            registries[key] = original(*args, **options)
        return registries[key]

    from_torchlib.keeps = True  # type: ignore[attr-defined]
    return classmethod(from_torchlib)
