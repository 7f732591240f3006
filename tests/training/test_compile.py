"""Compiled steps train the same model, and a missing compiler is an error."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from captioner.config import DECODERS, RecurrentConfig
from captioner.errors import ConfigError
from captioner.nn.cells import Cell, Hidden, cells_of
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.training import compile as compiling
from captioner.training.compile import compile_steps
from captioner.training.setup import prepare
from captioner.training.step import train_step, training_batches
from tests.tiny import tiny_config, with_trainer, write_tiny_data


def test_a_missing_compiler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    decoder = build_decoder(RecurrentConfig(embedding_dim=4, hidden_dim=4), 9, 5)
    for device in ("cpu", "cuda"):
        with pytest.raises(ConfigError, match=r"neither g\+\+ nor clang\+\+"):
            compile_steps(decoder, torch.device(device))
    assert compile_steps(decoder, torch.device("mps")) == 1  # Metal needs no C++ compiler


def test_missing_triton_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: name)
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    decoder = build_decoder(RecurrentConfig(embedding_dim=4, hidden_dim=4), 9, 5)
    with pytest.raises(ConfigError, match="pip install triton"):
        compile_steps(decoder, torch.device("cuda"))
    assert compile_steps(decoder, torch.device("cpu")) == 1


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_what_is_compiled_is_used_and_where_nothing_is_it_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: name)
    calls: list[Cell] = []

    def counted(step: Callable[..., Hidden], dynamic: bool) -> Callable[..., Hidden]:
        def call(*arguments: Tensor) -> Hidden:
            calls.append(step.__self__)
            return step(*arguments)

        return call

    monkeypatch.setattr(torch, "compile", counted)
    run = build_decoder(DECODERS[name](), 9, 5)
    cells = cells_of(run)
    if not cells:
        with pytest.raises(ConfigError, match=r"trainer\.compile=true has no effect"):
            compile_steps(run, torch.device("cpu"))
        return
    assert compile_steps(run, torch.device("cpu")) == len(cells)
    grid = torch.rand(2, 4, 5)
    run(ImageFeatures(grid.mean(1), grid), pack_captions([[[4, 5]], [[6]]]))
    assert {id(cell) for cell in calls} == {id(cell) for cell in cells}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_steps_equal_eager_steps(tmp_path: Path) -> None:
    config = with_trainer(tiny_config(write_tiny_data(tmp_path / "data")), batch_size=8)
    config = replace(config, model=replace(config.model, dropout=0.0))
    losses = []
    for compiled in (False, True):
        run = prepare(with_trainer(config, compile=compiled), tmp_path / f"{compiled}")
        run.model.train()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler
            losses.append([train_step(run, step)["loss"] for step in training_batches(run)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
