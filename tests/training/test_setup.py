"""What a training checks before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.errors import ConfigError
from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor import resources
from captioner.training.logs import read_records
from captioner.training.loop import train
from captioner.training.setup import check_settings, prepare
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
