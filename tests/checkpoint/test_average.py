"""The mean weights of a run's best checkpoints, against means made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captioner import Captioner
from captioner.checkpoint.average import average_checkpoints, load_average, mean_weights
from captioner.checkpoint.best import best_count, find_best
from captioner.checkpoint.checkpoint import CheckpointSettings, load_checkpoint, save_checkpoint
from captioner.checkpoint.index import Index, Score, read_index
from captioner.checkpoint.load_ensemble import load_ensemble
from captioner.errors import CheckpointError, ConfigError
from tests.checkpoint.members import save_member

SCORES = (0.2, 0.9, 0.5, 0.9, 0.7)  # of steps 1 to 5: best first 2, 4, 5, 3, 1


def write_run(folder: Path, scores: tuple[float, ...] = SCORES, keep_best: int = 4) -> Path:
    """A run with one random checkpoint per score, all with one encoder."""
    loaded = load_checkpoint(save_member(folder.with_name(f"{folder.name} weights"), 1))
    folder.mkdir()
    best = -1.0
    for step, score in enumerate(scores, 1):
        for weights in loaded.model.decoder.parameters():
            nn.init.normal_(weights, std=0.7)
        is_best, best = score > best, max(score, best)
        save_checkpoint(
            folder,
            step,
            loaded.model,
            loaded.vocabulary,
            loaded.settings,
            {},
            is_best=is_best,
            keep_best=keep_best,
            score=Score("CIDEr", score, best),
        )
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("average") / "run")


def test_the_index_keeps_the_best_by_score_and_the_latest(run: Path) -> None:
    names = [f"step-0000000{step}" for step in (2, 3, 4, 5)]
    assert read_index(run) == Index(names[3], names[0], [names[3]], dict(zip(names, SCORES[1:], strict=True)), "CIDEr")
    assert sorted(path.name for path in (run / "checkpoints").glob("step-*")) == names
    assert [path.name[-1] for path in find_best(run, "best4")] == ["2", "4", "5", "3"], "of equals the earlier first"


def test_the_average_is_the_mean_by_hand(run: Path) -> None:
    expected = [load_checkpoint(folder).model.state_dict() for folder in find_best(run, "best3")]
    loaded = load_average(run, "best3")
    assert [path.name[-1] for path in loaded.averaged] == ["2", "4", "5"]
    differs = 0
    for name, tensor in loaded.model.state_dict().items():
        parts = [of_one[name].numpy() for of_one in expected]
        by_hand = np.mean([part.astype(np.float64) for part in parts], axis=0).astype(parts[0].dtype)
        np.testing.assert_array_equal(tensor.numpy(), by_hand, err_msg=name)
        differs += not np.array_equal(by_hand, parts[0])
    assert differs > 5


def test_equal_weights_stay_bit_by_bit(run: Path) -> None:
    encoder, expected = load_average(run, "best3").model.encoder, load_checkpoint(run).model.encoder
    assert all(torch.equal(encoder.state_dict()[name], tensor) for name, tensor in expected.state_dict().items())


def test_best1_is_the_best_and_no_average_is_what_it_was(run: Path) -> None:
    for loaded in (load_average(run, "best1"), load_average(run, None)):
        assert (loaded.path.name, loaded.averaged) == ("step-00000002", ())
    assert load_average(run, None, which="latest").path.name == "step-00000005"


class Odd(nn.Module):
    """Tied weights, a buffer of floats, one of integers, one of flags."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.full((2,), value))
        self.tied = self.one
        self.register_buffer("mean", torch.tensor([value * 2]))
        self.register_buffer("count", torch.tensor(int(value)))
        self.register_buffer("seen", torch.tensor([value > 1]))
        self.narrow = nn.Parameter(torch.tensor([value], dtype=torch.float16))


def test_tied_weights_buffers_and_integers() -> None:
    models = [Odd(1.0), Odd(2.0), Odd(6.0)]
    mean_weights(models)
    first = models[0]
    assert first.tied is first.one
    assert first.one.tolist() == [3.0, 3.0]
    assert (first.mean.item(), first.count.item(), first.seen.item(), first.narrow.item()) == (6.0, 1, False, 3.0)
    assert first.narrow.dtype == torch.float16
    assert models[1].one.tolist() == [2.0, 2.0]
    weighted = [Odd(1.0), Odd(2.0)]
    mean_weights(weighted, [0.25, 0.75])
    assert weighted[0].one.tolist() == [1.75, 1.75]


def test_captions_are_those_of_the_mean_and_its_calibration_is_gone(run: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8))
    averaged = Captioner.from_checkpoint(run, device="cpu", average="best3")
    by_hand = Captioner.from_checkpoint(run, device="cpu")
    states = [load_checkpoint(folder).model.state_dict() for folder in find_best(run, "best3")]
    by_hand.model.load_state_dict({name: sum(state[name] for state in states) / 3 for name in states[0]})
    found, expected = averaged.caption(photo), by_hand.caption(photo)
    assert found.tokens == expected.tokens
    assert found.log_prob == pytest.approx(expected.log_prob, abs=1e-4)
    assert "(mean of step-00000002, step-00000004, step-00000005)" in repr(averaged)


def test_each_member_of_an_ensemble_is_the_average_of_its_run(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other")
    members = load_ensemble([run, other], average="best2").members
    assert [len(member.averaged) for member in members] == [2, 2]
    assert members[1].averaged[0].parent.parent == other


@pytest.mark.parametrize("average", ["best", "best0", "3", "last3", "best03", "best-1", "Best3", ""])
def test_what_it_may_be(average: str) -> None:
    with pytest.raises(ConfigError, match=r"expected bestN, such as best3"):
        best_count(average)


def test_too_few_checkpoints(run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has kept 4 checkpoints with a score: give average=best4, or train"):
        find_best(run, "best5")


def test_what_is_no_run(run: Path, tmp_path: Path) -> None:
    for folder in (run / "checkpoints/step-00000002", tmp_path / "nothing", Path("flickr8k")):
        with pytest.raises(CheckpointError, match=r"takes the checkpoints of a run, and .* is not a run folder"):
            find_best(folder, "best3")


def test_an_index_of_an_earlier_captioner_has_no_scores(tmp_path: Path) -> None:
    folder = save_member(tmp_path / "run", 1)
    index = folder / "checkpoints/index.json"
    name = "step-00000001"
    index.write_text(json.dumps({"latest": name, "best": name, "last": [name]}))
    assert read_index(folder) == Index(name, name, [name])
    with pytest.raises(CheckpointError, match=r"index\.json has no scores .* train with trainer\.keep_best=3"):
        find_best(folder, "best3")


def test_an_earlier_run_that_goes_on_knows_the_score_of_its_best(tmp_path: Path) -> None:
    folder = save_member(tmp_path / "run", 1)
    loaded = load_checkpoint(folder)
    rest: dict[str, Any] = {"keep_best": 2, "score": Score("CIDEr", 0.3, 0.8)}
    save_checkpoint(folder, 2, loaded.model, loaded.vocabulary, loaded.settings, {}, is_best=False, **rest)
    index = read_index(folder)
    assert index is not None
    assert index.scores == {"step-00000001": 0.8, "step-00000002": 0.3}
    rest["score"] = Score("METEOR", 0.1, 0.8)  # another trainer.monitor: not comparable
    save_checkpoint(folder, 3, loaded.model, loaded.vocabulary, loaded.settings, {}, is_best=False, **rest)
    index = read_index(folder)
    assert index is not None
    assert (index.scores, index.monitor) == ({"step-00000003": 0.1}, "METEOR")


@pytest.mark.parametrize("scores", [[1], {"step-1": "high"}, {"../x": 1.0}, {"step-1": True}, {"step-1": None}])
def test_altered_scores(tmp_path: Path, scores: object) -> None:
    folder = save_member(tmp_path / "run", 1)
    path = folder / "checkpoints/index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "scores": scores}))
    with pytest.raises(CheckpointError, match=r"index\.json was altered: its scores should be"):
        read_index(folder)


def _other_decoder(settings: CheckpointSettings) -> CheckpointSettings:
    return replace(settings, model=replace(settings.model, dropout=0.25))


def test_checkpoints_of_different_runs_are_refused(run: Path, tmp_path: Path) -> None:
    first = load_checkpoint(run)
    words = load_checkpoint(save_member(tmp_path / "words", 1, words=("a", "cat")))
    with pytest.raises(CheckpointError, match=r"cannot be averaged: their vocabularies differ, so they are not of one"):
        average_checkpoints([first, words])
    model = load_checkpoint(save_member(tmp_path / "model", 1, model="recurrent"))
    with pytest.raises(CheckpointError, match=r"their models differ"):
        average_checkpoints([first, model])
    with pytest.raises(CheckpointError, match=r"their models differ"):
        average_checkpoints([first, replace(first, settings=_other_decoder(first.settings))])
    larger = load_checkpoint(save_member(tmp_path / "larger", 1, image_size=96))
    with pytest.raises(CheckpointError, match=r"their encoders differ.*An ensemble|their encoders differ"):
        average_checkpoints([first, larger])
