"""The kernels that the machine's C compiler makes, and what happens without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from captioner.nn.layers import compiled_kernel
from captioner.nn.layers.compiled_kernel import compiled_kernels
from tests.nn.layers.compiled import assert_wrong_libraries_are_not_used, needs_compiler


@pytest.fixture(autouse=True)
def _loaded_again() -> Iterator[None]:
    """Each test loads the kernels as a new process does."""
    compiled_kernel._load_kernels.cache_clear()
    yield
    compiled_kernel._load_kernels.cache_clear()


@needs_compiler
def test_compiles_once_for_all_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "gcc")
    assert compiled_kernels() is not None
    (library,) = (tmp_path / "kernels").iterdir()
    written = library.stat().st_mtime_ns
    compiled_kernel._load_kernels.cache_clear()
    assert compiled_kernels() is not None
    assert library.stat().st_mtime_ns == written


@needs_compiler
def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = compiled_kernels()
    assert kernels is not None
    keys, score, query = torch.rand(3, 7, 100), torch.randn(100), torch.rand(8, 100)
    images, gradient = torch.randint(3, (8,)), torch.randn(8, 7)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        keys_sum = torch.zeros_like(keys)
        sums = kernels.add_gradients(keys, query, images, gradient, keys_sum)
        results.append([kernels.energies(keys, score, query, images), *sums, keys_sum])
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler", "echo"])
def test_a_compiler_that_does_not_work_is_done_without_in_silence(
    compiler: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert compiled_kernels() is None
    assert capfd.readouterr() == ("", "")


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiled_kernels() is None


@needs_compiler
def test_a_library_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mistakes = {"total - 2 * sum": "total - sum"}
    assert_wrong_libraries_are_not_used(compiled_kernel, compiled_kernels, mistakes, monkeypatch, tmp_path)


def test_an_environment_variable_turns_it_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path))
    monkeypatch.setenv("CAPTIONER_COMPILE", "0")
    assert compiled_kernels() is None
    assert not any(tmp_path.iterdir())
