"""Checkpoints that were damaged, altered and made to attack, file by file, their sums made to fit or not."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import strategies as st

from captioner.checkpoint.checkpoint import load_checkpoint, load_trainer_state
from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.manifest import write_manifest
from captioner.config import CacheConfig
from captioner.inference import Captioner
from captioner.training.loop import train
from captioner.training.resume import restore
from captioner.training.run import Run
from captioner.training.setup import prepare
from captioner.training.step import train_step, training_batches
from tests.fuzz.harness import CANARY, fuzz, harmless, refusal_noted, replaced, shares
from tests.fuzz.mutations import mutated_bytes, mutated_json, mutated_value
from tests.tiny import tiny_config, with_trainer, write_tiny_data


class Made(NamedTuple):
    run: Run
    folder: Path  # of the run
    checkpoint: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run of two steps, and one that is prepared to resume from there."""
    folder = tmp_path_factory.mktemp("fuzzed")
    config = replace(tiny_config(write_tiny_data(folder / "data")), cache=CacheConfig(directory=str(folder / "cache")))
    (folder / "run").mkdir()
    train(prepare(with_trainer(config, max_steps=2), folder / "run"))
    run = prepare(config, folder / "run", resume=True)
    return Made(run, folder / "run", find_checkpoint(folder / "run"))


def use(made: Made, *, load: bool = True) -> None:
    """Whatever a checkpoint is used for; nothing of it may do harm. `load`: also to caption."""
    actions: list[Callable[[], Any]] = [lambda: load_trainer_state(made.checkpoint), lambda: resume_training(made.run)]
    if load:
        actions += [lambda: load_checkpoint(made.folder), lambda: load_checkpoint(made.checkpoint)]
    with harmless(made.folder):
        for action in actions:
            with refusal_noted():
                action()


def resume_training(run: Run) -> None:
    """From its checkpoint, one step."""
    restore(run)
    for step in training_batches(run):
        train_step(run, step)
        break


def check_with(made: Made, name: str) -> Callable[[tuple[bytes, bool]], None]:
    """A check of other content of a file: with the sums that fit, or with those that were written."""
    sums = (made.checkpoint / "SHA256SUMS").read_bytes()

    def check(case: tuple[bytes, bool]) -> None:
        content, signed = case
        with replaced(made.checkpoint / name, content), replaced(made.checkpoint / "SHA256SUMS", sums):
            if signed:
                write_manifest(made.checkpoint)
            use(made, load=name != "trainer.pt")

    return check


MOSTLY = st.sampled_from([True, True, True, False])


@shares(15, 150)
@pytest.mark.parametrize("name", ["config.json", "vocab.json"])
def test_json(made: Made, name: str, cases: int) -> None:
    contents = mutated_json((made.checkpoint / name).read_bytes())
    fuzz(cases, st.tuples(contents, MOSTLY), check_with(made, name))


@shares(8, 100)
def test_weights(made: Made, cases: int) -> None:
    content = (made.checkpoint / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    lengths = st.sampled_from([0, 1, length - 1, length + 8, 2**31, 2**63, 2**64 - 1])
    contents = st.one_of(
        mutated_json(header).map(lambda changed: struct.pack("<Q", len(changed)) + changed + data),
        lengths.map(lambda stated: struct.pack("<Q", stated) + content[8:]),
        mutated_bytes(content[: 8 + length]).map(lambda changed: changed + data),
        st.integers(0, len(content)).map(lambda end: content[:end]),
    )
    fuzz(cases, st.tuples(contents, MOSTLY), check_with(made, "model.safetensors"))


class Payload:
    """Unpickling it calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@shares(12, 150)
def test_trainer_state(made: Made, cases: int) -> None:
    content = (made.checkpoint / "trainer.pt").read_bytes()
    state = torch.load(made.checkpoint / "trainer.pt", weights_only=True)
    canary = str(made.folder / CANARY)
    payloads = [
        Payload(open, canary, "w"),
        Payload(os.system, f"touch {canary}"),
        Payload(eval, f"open({canary!r}, 'w')"),
        Payload(os.mkdir, canary),
    ]
    attacks = [pickle.dumps(payload) for payload in payloads]
    attacks += [saved(value) for payload in payloads for value in (payload, {**state, "more": payload})]
    contents = st.one_of(
        mutated_value(state).map(saved),
        mutated_value(state).map(saved),
        mutated_bytes(content),
        st.sampled_from(attacks),
    )
    fuzz(cases, st.tuples(contents, MOSTLY), check_with(made, "trainer.pt"))


@shares(10, 80)
def test_sums(made: Made, cases: int) -> None:
    path = made.checkpoint / "SHA256SUMS"

    def check(content: bytes) -> None:
        with replaced(path, content):
            use(made)

    fuzz(cases, mutated_bytes(path.read_bytes()), check)


@shares(8, 100)
def test_index(made: Made, cases: int) -> None:
    path = made.folder / "checkpoints" / "index.json"
    name = made.checkpoint.name
    tricks = [
        "..",
        f"../checkpoints/{name}",
        f"{name}/../{name}",
        "/etc",
        f"./{name}",
        f"{name}\n",
        "step-1e9",
        "step-٣",
    ]
    two = st.fixed_dictionaries({key: st.sampled_from(tricks) for key in ("latest", "best")})
    led = two.map(lambda index: json.dumps(index).encode())

    def check(content: bytes) -> None:
        with replaced(path, content):
            use(made)

    fuzz(cases, mutated_json(path.read_bytes()) | led, check)


def in_place_of(path: Path, kind: str) -> None:
    """Something at `path` that is no file."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "nothing":
        path.symlink_to({"itself": path.name, "endless": "/dev/zero", "other": "/etc/passwd", "gone": "nowhere"}[kind])


@pytest.mark.skipif(os.name != "posix", reason="pipes and links")
@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "itself", "endless", "other", "gone"])
@pytest.mark.parametrize(
    "name", ["config.json", "vocab.json", "model.safetensors", "trainer.pt", "SHA256SUMS", "../index.json"]
)
def test_what_is_no_file(made: Made, name: str, kind: str) -> None:
    path = made.checkpoint / name
    before = path.read_bytes()
    path.unlink()
    try:
        in_place_of(path, kind)
        use(made)
    finally:
        if kind == "folder":
            path.rmdir()
        elif kind != "nothing":
            path.unlink()
        path.write_bytes(before)


def test_it_still_works(made: Made, tmp_path: Path) -> None:
    """After all that, the checkpoint is what it was: the cases above were not refused for another reason."""
    moved = shutil.copytree(made.checkpoint, tmp_path / "moved")
    assert load_checkpoint(moved).vocabulary == made.run.vocabulary
    resume_training(made.run)
    assert made.run.progress.step == 3
    assert Captioner.from_checkpoint(moved, device="cpu").caption(torch.zeros(3, 64, 64)).tokens is not None
