"""What a training checks before it starts."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from captioner.errors import ConfigError
from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor import resources
from captioner.text.phrases import PhraseStatistics
from captioner.training.logs import read_records
from captioner.training.loop import train
from captioner.training.setup import check_settings, prepare
from captioner.training.step import train_step, training_batches
from tests.tiny import tiny_config, with_trainer, write_tiny_data


def test_a_monitored_score_that_this_machine_cannot_compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before the first step, where the first validation would have failed."""

    def missing(metric: str, name: str) -> Path:
        raise MetricUnavailable(f"{metric} needs pycocoevalcap: pip install pycocoevalcap.")

    config = tiny_config(write_tiny_data(tmp_path / "data"))
    monkeypatch.setattr(resources, "find_in_pycocoevalcap", missing)
    check_settings(config)
    with pytest.raises(ConfigError, match=r"trainer\.monitor=METEOR cannot be computed: .*pip install"):
        check_settings(with_trainer(config, monitor="METEOR"))


@pytest.mark.slow
def test_meteor_chooses_the_best_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    config = with_trainer(tiny_config(write_tiny_data(tmp_path / "data")), monitor="METEOR")
    folder = tmp_path / "run"
    folder.mkdir()
    run = prepare(config, folder)
    train(run)
    scores = [record["METEOR"] for record in read_records(folder) if record["kind"] == "validation"]
    assert scores
    assert run.progress.best_score == max(scores)


@pytest.mark.parametrize("output_bias", ["frequencies", "zeros"])
def test_the_first_step_knows_how_frequent_words_are(tmp_path: Path, output_bias: str) -> None:
    """Its loss is the entropy of the words of all training captions; with zeros, log V."""
    config = tiny_config(write_tiny_data(tmp_path / "data"))
    run = prepare(with_trainer(config, output_bias=output_bias, label_smoothing=0.0, batch_size=16), tmp_path)
    words = [*["a", "red", "half", "on", "the", "left"], "<END>", *["the", "left", "is", "red"], "<END>"]
    alike = {"red": "color", "left": "side"}  # four colors and two sides are equally frequent
    counts = Counter(alike.get(word, word) for word in words)
    entropy = -sum(
        count / 12 * math.log(count / 12 / {"color": 4, "side": 2}.get(word, 1)) for word, count in counts.items()
    )
    expected = entropy if output_bias == "frequencies" else math.log(len(run.vocabulary))
    (batch,) = islice(training_batches(run), 1)
    assert train_step(run, batch)["words"] == pytest.approx(expected, abs=0.15)


def test_phrases_are_counted_once_and_when_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For COCO that takes seconds, which the first step need not wait for."""
    calls: list[int] = []
    count = PhraseStatistics.from_flat

    def counted(tokens: np.ndarray, offsets: np.ndarray, end: int) -> PhraseStatistics:
        calls.append(len(tokens))
        return count(tokens, offsets, end)

    monkeypatch.setattr(PhraseStatistics, "from_flat", counted)
    run = prepare(tiny_config(write_tiny_data(tmp_path / "data")), tmp_path)
    (batch,) = islice(training_batches(run), 1)
    train_step(run, batch)
    assert not calls
    captions = [caption for of_image in run.captions for caption in of_image]
    assert run.vocabulary.phrases == PhraseStatistics.from_captions(captions, run.vocabulary.special.end)
    assert run.vocabulary.phrases is run.vocabulary.phrases
    assert calls == [len(run.captions.token_ids)]


def test_two_runs_start_alike(tmp_path: Path) -> None:
    config = tiny_config(write_tiny_data(tmp_path / "data"))
    first, second = (prepare(config, tmp_path / name).model.decoder.state_dict() for name in ("a", "b"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=0)
