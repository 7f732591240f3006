"""Plot of validation scores by epoch for a frozen and a fine-tuned encoder, from the logs of finished runs.

    python benchmarks/fine_tuning_curves.py docs/fine_tuning.png --epochs 9 \
        --runs "frozen=runs/a,runs/b" --runs "fine-tuned=runs/c,runs/d" --begins 3

Thin lines are runs (seeds), thick lines their means. Prints one JSON line: the best score of each run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from measure import report

from captioner.training.logs import read_records

COLORS = ("#1b1b1b", "#c2571a", "#3b6ea5", "#5b8c3e")


def scores(folder: Path, epochs: int, monitor: str) -> list[float]:
    """A run's validation score × 100 after each of the first `epochs` epochs."""
    found = {
        record["epoch"]: 100 * record[monitor] for record in read_records(folder) if record["kind"] == "validation"
    }
    return [found[epoch] for epoch in range(1, epochs + 1)]


def draw(arms: dict[str, list[list[float]]], path: Path, monitor: str, begins: int | None) -> None:
    """Plot the runs of each arm as thin lines and their mean as a thick line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
    for (name, runs), color in zip(arms.items(), COLORS, strict=False):
        epochs = range(1, len(runs[0]) + 1)
        for run in runs:
            axes.plot(epochs, run, color=color, linewidth=0.8, alpha=0.5)
        mean = [fmean(values) for values in zip(*runs, strict=True)]
        count = "1 seed" if len(runs) == 1 else f"mean of {len(runs)} seeds"
        axes.plot(epochs, mean, color=color, linewidth=2.5, label=f"{name} ({count})")
    if begins is not None:
        axes.axvline(begins, color="#999999", linewidth=1, linestyle=":")
        axes.annotate("the encoder is unfrozen", (begins, axes.get_ylim()[0]), (4, 4), textcoords="offset points",
                      fontsize=9, color="#666666")  # fmt: skip
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{monitor} × 100, greedy, Flickr8k val")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Read the logs, plot and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--runs", action="append", required=True, metavar="NAME=RUN,RUN", help="an arm and its runs")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--begins", type=int, help="mark this epoch, after which the encoder is unfrozen")
    parser.add_argument("--monitor", default="CIDEr")
    given = parser.parse_args()
    arms = {
        name: [scores(Path(folder), given.epochs, given.monitor) for folder in folders.split(",")]
        for name, _, folders in (arm.partition("=") for arm in given.runs)
    }
    draw(arms, given.image, given.monitor, given.begins)
    report("fine_tuning_curves", {"best": {name: [round(max(run), 2) for run in runs] for name, runs in arms.items()}})


if __name__ == "__main__":
    main()
