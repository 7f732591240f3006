"""Curves of one run: training loss and validation scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError
from captioner.metrics.registry import monitored_scores
from captioner.plots.canvas import ACCENT, DARK, DPI, save_figure


def training_curves(log_records: Sequence[Mapping[str, Any]], path: str | Path, monitor: str = "CIDEr") -> None:
    """Write a PNG file: training and validation loss, and the scores of generated captions, by optimizer step.

    log_records: the lines of a run's `log.jsonl`: {"kind": "train" | "validation", "step": …, …}. monitor: the metric
    that chose the best checkpoint; it is drawn on top, and its best value is marked.
    Raises CaptionerError for a log without any step, OSError where `path` cannot be written.
    """
    from matplotlib.figure import Figure

    train = [record for record in log_records if record.get("kind") == "train" and "loss" in record]
    validation = [record for record in log_records if record.get("kind") == "validation"]
    if not train and not validation:
        raise CaptionerError("There is nothing to draw yet: the log has no training step and no validation.")
    figure = Figure(figsize=(9, 7), dpi=DPI, layout="constrained")
    loss_axes, score_axes = figure.subplots(2, 1, sharex=True)
    loss_axes.plot(
        [record["step"] for record in train],
        [record["loss"] for record in train],
        color=DARK,
        linewidth=1,
        label="training",
    )
    losses = [(record["step"], record["loss"]) for record in validation if record.get("loss") is not None]
    if losses:  # older logs have none
        loss_axes.plot(*zip(*losses, strict=True), color=ACCENT, marker="o", markersize=3, label="validation")
        loss_axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    loss_axes.set_ylabel("loss, in nats per word" if losses else "training loss")
    scores = [name for name in (monitor, *monitored_scores()) if any(name in record for record in validation)]
    for name in dict.fromkeys(scores):
        points = [(record["step"], record[name]) for record in validation if name in record]
        style = {"color": ACCENT, "linewidth": 2, "zorder": 3} if name == monitor else {"linewidth": 1}
        score_axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name, **style)
        if name == monitor:
            step, best = max(points, key=lambda point: point[1])
            score_axes.plot(step, best, "*", color=ACCENT, markersize=13, zorder=3)
            score_axes.set_title(f"best {name} {best:.3f} at step {step}", fontsize=10, color=ACCENT)
    if scores:
        score_axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    score_axes.set_ylabel("validation score")
    score_axes.set_xlabel("optimizer step")
    for axes in (loss_axes, score_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    save_figure(figure, path)
