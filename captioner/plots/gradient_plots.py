"""Gradients against distance, and trainings that were watched: PNG files, drawn without a display.

matplotlib is imported when something is drawn, not with this module.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from captioner.files import write_atomically

DPI = 110
LOWEST = 1e-12  # a line ends where it falls below this: a gradient of exactly 0 has no logarithm


class WatchedStep(Protocol):
    """What `training_plot` needs of a step; `captioner.analysis.gradient_flow.Watched` is one."""

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
    """Gradient norms (B, T) by name, against the distance to the loss: the median, and half of the streams around it.

    `untrained`, by the same names: the networks before training, dashed. The vertical axis is logarithmic, so that what
    shrinks by a constant factor a step is a straight line.
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
    """(3, T): the three quartiles over streams; not a number where the median is too small to be drawn."""
    quartiles: NDArray[np.float64] = np.percentile(np.asarray(norms, dtype=np.float64), [25, 50, 75], axis=0)
    quartiles[:, quartiles[1] < LOWEST] = np.nan
    return np.maximum(quartiles, LOWEST)


def training_plot(trainings: Mapping[str, Sequence[WatchedStep]], path: Path) -> None:
    """Loss, gradient norm before clipping and spectral radius of the recurrent matrix, by step, for each training.

    A training whose loss was lost ends in a cross.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 7.5), dpi=DPI, layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    shown = (
        ("loss", "loss (nats a token)"),
        ("gradient_norm", "gradient norm"),
        ("spectral_radius", "spectral radius of Whh"),
    )
    for axes, (key, label) in zip(panels, shown, strict=True):
        for name, watched in trainings.items():
            points = [(one.step, getattr(one, key)) for one in watched if np.isfinite(getattr(one, key))]
            steps, values = zip(*points, strict=True) if points else ((), ())
            (line,) = axes.plot(steps, values, label=name, linewidth=1.2)
            if points and points[-1][0] != watched[-1].step:
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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    write_atomically(path, buffer.getvalue())
