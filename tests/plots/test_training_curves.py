"""Training curves, from any part of a run's log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner import plots
from captioner.errors import CaptionerError
from tests.plots.examples import read_png


def records(steps: int = 50) -> list[dict[str, Any]]:
    train = [{"kind": "train", "step": step, "epoch": 1, "loss": 5 / step} for step in range(1, steps)]
    scores = [{"kind": "validation", "step": step, "CIDEr": step / 100, "Bleu_4": 0.2} for step in range(10, steps, 10)]
    return [*train, *scores, {"kind": "epoch", "step": steps}]


@pytest.mark.parametrize("monitor", ["CIDEr", "Bleu_4"])
@pytest.mark.parametrize("kinds", [("train", "validation"), ("train",), ("validation",)])
def test_curves_of_any_part_of_a_log(kinds: tuple[str, ...], monitor: str, tmp_path: Path) -> None:
    plots.training_curves([record for record in records() if record["kind"] in kinds], tmp_path / "curves.png", monitor)
    assert read_png(tmp_path / "curves.png").shape == (700, 900, 3)


def test_the_curve_of_the_monitored_score_is_marked(tmp_path: Path) -> None:
    plots.training_curves(records(), tmp_path / "curves.png")
    page = read_png(tmp_path / "curves.png")
    accent = np.abs(page - (0xC2, 0x41, 0x0C)).max(2) < 3
    rows, columns = np.nonzero(accent[350:])
    assert columns[rows > 30].size > 100  # the line and its star, below the title


def test_the_validation_loss_is_drawn_beside_the_training_loss(tmp_path: Path) -> None:
    """Where the log has it; NaN and infinity are null in a log."""
    losses = [{"kind": "validation", "step": step, "loss": 4.0 if step else None} for step in range(0, 50, 10)]
    plots.training_curves([*records(), *losses], tmp_path / "with.png")
    plots.training_curves(records(), tmp_path / "without.png")
    with_loss, without = read_png(tmp_path / "with.png"), read_png(tmp_path / "without.png")
    accent = np.abs(with_loss[:300, :700] - (0xC2, 0x41, 0x0C)).max(2) < 3
    assert accent.sum() > 100
    assert (np.abs(without[:300, :700] - (0xC2, 0x41, 0x0C)).max(2) < 3).sum() == 0


def test_an_empty_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="nothing to draw yet"):
        plots.training_curves([], tmp_path / "curves.png")
