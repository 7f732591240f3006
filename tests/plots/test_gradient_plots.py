"""Plots of gradients draw a curve for each name, with zeros and with NaN losses too."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.analysis.gradient_flow import TrainingPoint
from captioner.plots.gradient_plots import flow_plot, training_plot


def colors(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        return {tuple(pixel) for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3)}


def test_a_curve_for_each_name(tmp_path: Path) -> None:
    path = tmp_path / "flow.png"
    curves = {"rnn": 0.5 ** np.ones((3, 20)).cumsum(1), "lstm": np.ones((3, 20)), "gone": np.zeros((1, 20))}
    flow_plot(curves, path, untrained={"rnn": np.ones((3, 20)) / 2})
    assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= colors(path)  # matplotlib's first three


def test_trainings_that_end_with_nan(tmp_path: Path) -> None:
    path = tmp_path / "training.png"
    good = [TrainingPoint(step, 3.0 - step / 10, 1.0, 1.1) for step in range(1, 11)]
    diverged = [*good[:4], TrainingPoint(5, math.nan, math.inf, math.nan)]
    training_plot({"clipped": good, "not clipped": diverged, "diverged at once": diverged[-1:]}, path)
    assert {(31, 119, 180), (255, 127, 14)} <= colors(path)
