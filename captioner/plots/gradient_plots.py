"""Plots of gradient norms: against the distance to the loss, and step by step while training. PNG files.

matplotlib is imported when something is drawn, not with this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from captioner.files import write_atomically
from captioner.plots.canvas import figure_to_png

DPI = 110
LOWEST = 1e-12  # curves end where they fall below this: a gradient of exactly 0 has no logarithm


class MonitoredStep(Protocol):
    """The attributes of an optimizer step that `training_plot` needs."""

    @property
    def step(self) -> int: ...

    @property
    def loss(self) -> float: ...

    @property
    def gradient_norm(self) -> float: ...

    @property
    def spectral_radius(self) -> float: ...


def flow_plot(
    curves: Mapping[str, ArrayLike], path: Path, title: str = "", untrained: Mapping[str, ArrayLike] | None = None
) -> None:
    """Plot gradient norms against the distance to the loss: the median over streams, and the quartiles as a band.

    curves: name → gradient norms (B, T) of B streams at distances 0 … T − 1. untrained: the same before training, drawn
    dashed. The vertical axis is logarithmic: a gradient that shrinks by a constant factor per step is a straight line.
    Raises OSError where `path` cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for name, norms in curves.items():
        low, middle, high = _quartiles(norms)
        (line,) = axes.plot(middle, label=name, linewidth=1.8)
        axes.fill_between(np.arange(len(middle)), low, high, color=line.get_color(), alpha=0.18, linewidth=0)
        if untrained is not None and name in untrained:
            _, before, _ = _quartiles(untrained[name])
            axes.plot(before, color=line.get_color(), linewidth=1.2, linestyle="--", label=f"{name}, untrained")
    axes.set_yscale("log")
    axes.set_xlabel("distance to the loss (steps back in time)")
    axes.set_ylabel("norm of ∂loss/∂state")
    axes.set_title(title, fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    _tidy(axes)
    _save(figure, path)


def _quartiles(norms: ArrayLike) -> NDArray[np.float64]:
    """The three quartiles over streams (3, T); NaN where the median is too small to be drawn."""
    quartiles: NDArray[np.float64] = np.percentile(np.asarray(norms, dtype=np.float64), [25, 50, 75], axis=0)
    quartiles[:, quartiles[1] < LOWEST] = np.nan
    return np.maximum(quartiles, LOWEST)


def training_plot(trainings: Mapping[str, Sequence[MonitoredStep]], path: Path) -> None:
    """Plot loss, gradient norm before clipping and spectral radius of the recurrent matrix by optimizer step.

    trainings: name → the steps of one training. One that ends with a NaN or infinite loss ends in a cross.
    Raises OSError where `path` cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 7.5), dpi=DPI, layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    shown = (
        ("loss", "loss (nats per token)"),
        ("gradient_norm", "gradient norm"),
        ("spectral_radius", "spectral radius of Whh"),
    )
    for axes, (key, label) in zip(panels, shown, strict=True):
        for name, monitored in trainings.items():
            points = [(at.step, getattr(at, key)) for at in monitored if np.isfinite(getattr(at, key))]
            steps, values = zip(*points, strict=True) if points else ((), ())
            (line,) = axes.plot(steps, values, label=name, linewidth=1.2)
            if points and points[-1][0] != monitored[-1].step:
                axes.plot(steps[-1], values[-1], "x", color=line.get_color(), markersize=9, markeredgewidth=2)
        axes.set_ylabel(label, fontsize=9)
        axes.set_yscale("log")
        _tidy(axes)
    panels[2].axhline(1.0, color="#999999", linewidth=0.8, linestyle="--")
    panels[0].legend(frameon=False, fontsize=9)
    panels[-1].set_xlabel("optimizer step")
    _save(figure, path)


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _save(figure: Any, path: Path) -> None:
    write_atomically(path, figure_to_png(figure, DPI))
