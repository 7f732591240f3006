"""python -m captioner consensus: what it prints and stores, and what stops it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from captioner.analysis import fit_consensus
from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.cli.caption import main as caption
from captioner.cli.consensus import main
from captioner.cli.train import main as train
from tests.cli.conftest import SMALL, Command, SmallRun


@pytest.fixture
def run(small_run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fit_consensus, "LEAST_IMAGES", 10)
    return small_run("runs/first")


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_it_stores_what_it_prints_and_a_search_uses_it(command: Command, run: Path) -> None:
    result = command(main, "--checkpoint", "runs/first", "--min-images", "3", "--json")
    assert result.code == 0, result.err
    assert "decode.consensus_weight=0.02" in result.err
    printed = json.loads(result.out)
    loaded = load_checkpoint(run)
    assert loaded.consensus is not None
    assert printed["images"] == loaded.consensus.record.images == 16
    assert printed["ngrams"] == len(loaded.consensus.ngrams) > 0
    assert loaded.settings.decode.consensus_weight == 0, "the model's own search stays"
    photo = "data/003.png"
    arguments = ("--checkpoint", "runs/first", "--beam-width", "4", "--alternatives", "3", photo)
    plain = command(caption, *arguments)
    weighed = command(caption, *arguments, "--consensus-weight", "2")
    assert weighed.code == 0, weighed.err

    def texts(out: str) -> list[str]:
        first, *others = out.splitlines()
        return sorted([first, *(line.split(maxsplit=1)[1] for line in others)])

    assert texts(weighed.out) == texts(plain.out), "the captions of one beam, in another order"


def test_a_weight_becomes_the_models_own_search(command: Command, run: Path) -> None:
    result = command(
        main, "--checkpoint", "runs/first", "--min-images", "3", "--bits", "8", "--weight", "0.5", "--beam-width", "4"
    )
    assert result.code == 0, result.err
    assert "folder train: 16 images" in result.out
    decode = load_checkpoint(run).settings.decode
    assert (decode.consensus_weight, decode.beam_width) == (0.5, 4)
    shutil.copytree("runs/first", "copy")  # files, checksums and settings belong together
    assert command(caption, "--checkpoint", "copy", "data/003.png").code == 0


def test_mistakes_are_one_message_and_change_nothing(command: Command, run: Path) -> None:
    before = contents(run)
    for arguments, message in (
        (("--min-images", "0"), "--min-images 0: expected 1 or more"),
        (("--dimensions", "0"), "--dimensions 0: expected 1 or more"),
        (("--beam-width", "4"), "--beam-width has no effect without --weight"),
        (("--weight", "-1"), "decode.consensus_weight=-1"),
        (("--bits", "5"), "--bits"),
        (("--weigth", "1"), "Did you mean --weight"),
        (("--split", "val", "--set", "data.limit=2"), "needs 10 images or more"),
        (("--min-images", "17"), "No n-gram is in the captions of 17 of the 16 images"),
    ):
        result = command(main, "--checkpoint", "runs/first", *arguments)
        assert result.code == 2, arguments
        assert message in result.err
        assert result.err.count("\n") == 1, result.err
    assert contents(run) == before


def test_a_training_cannot_use_it(command: Command, run: Path) -> None:
    result = command(train, *SMALL, "decode.consensus_weight=0.1", "hydra.run.dir=runs/second")
    assert result.code == 2
    assert "run python -m captioner consensus --checkpoint RUN after the training" in result.err
