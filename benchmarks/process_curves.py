"""Loss curves of training with 1, 2 and 4 processes: `python benchmarks/process_curves.py docs/processes.png`.

The same command three times with another `trainer.devices`: attention on synthetic scenes, without dropout. Prints one
JSON line and plots the losses, and below them the distance of several processes' losses from those of one process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import report

from captioner.training.logs import read_records

COUNTS = (1, 2, 4)
ROUNDING = 2**-23  # float32's spacing of values near 1
OPTIONS = ("model=attention", "model.dropout=0", "data.limit=480", "trainer.max_epochs=4", "trainer.log_every=1")


def train(folder: Path, count: int, options: list[str]) -> list[dict]:
    """Train with `count` processes; returns the log."""
    command = [sys.executable, "-m", "captioner", "train", *OPTIONS, *options]
    subprocess.run([*command, f"trainer.devices={count}", f"hydra.run.dir={folder}"], check=True, stdout=sys.stderr)
    return read_records(folder)


def values(records: list[dict], kind: str, name: str) -> list[float]:
    """One value of each record of a kind."""
    return [record[name] for record in records if record["kind"] == kind]


def draw(logs: dict[int, list[dict]], path: Path) -> None:
    """Plot the losses, and their distances from those of one process."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (upper, lower) = pyplot.subplots(2, sharex=True, figsize=(8, 6), height_ratios=(2, 1), layout="constrained")
    alone = values(logs[1], "train", "loss")
    steps = range(1, len(alone) + 1)
    for (count, log), width, style in zip(logs.items(), (6, 3, 1), ("-", "-", "--"), strict=True):
        losses = values(log, "train", "loss")
        name = "1 process" if count == 1 else f"{count} processes"
        color = {1: "#c9d6e8", 2: "#e8a33d", 4: "#1b1b1b"}[count]
        upper.plot(steps, losses, linewidth=width, linestyle=style, color=color, label=name)
        if count > 1:
            distances = [abs(a - b) / a / ROUNDING for a, b in zip(alone, losses, strict=True)]
            lower.plot(steps, distances, linewidth=1.2, color=color)
    upper.set_ylabel("loss (nats per word + λ · attention term)")
    upper.set_title("The same global batches with 1, 2 and 4 processes")
    lower.set_ylabel("relative distance from\n1 process, in units of\nfloat32's rounding (2⁻²³)")
    lower.set_ylim(0)
    lower.set_xlabel("step")
    upper.legend(frameon=False)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train with each number of processes, plot and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--keep", type=Path, help="a folder for the runs; finished runs in it are reused")
    parser.add_argument("options", nargs="*", help="settings of train.py")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = (arguments.keep or Path(temporary)).absolute()
        logs = {}
        for count in COUNTS:
            folder = root / f"processes_{count}"
            done = (folder / "metrics.json").exists()
            logs[count] = read_records(folder) if done else train(folder, count, arguments.options)
        scores = {count: json.loads((root / f"processes_{count}/metrics.json").read_text()) for count in COUNTS}
    draw(logs, arguments.image)
    alone = values(logs[1], "train", "loss")
    distances = {
        count: max(abs(a - b) / a for a, b in zip(alone, values(logs[count], "train", "loss"), strict=True))
        for count in COUNTS[1:]
    }
    report(
        "process_curves",
        {
            "steps": len(alone),
            "largest_relative_distance": distances,
            "validation_cider": {count: values(logs[count], "validation", "CIDEr") for count in COUNTS},
            "final_cider": {count: scores[count]["CIDEr"] for count in COUNTS},
        },
    )


if __name__ == "__main__":
    main()
