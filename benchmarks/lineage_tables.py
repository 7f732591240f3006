"""The tables of `lineage.py`: one row per captioner, the mean over its seeds."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

TITLES = {"parameters": "Equal numbers of parameters", "time": "Equal processor time"}
PHASES = {"xe": "cross-entropy (XE)", "rl": "then self-critical training (RL)"}
RESAMPLES = 1000


def write_tables(out: Path, cells: Sequence[Path], captioners: Sequence[str]) -> None:
    """Write tables.md and tables.csv into `out` from the finished cells."""
    rows = []
    for table in TITLES:
        for phase in PHASES:
            for captioner in captioners:
                runs = [c / phase for c in cells if c.parent.name == table and c.name.rpartition("-")[0] == captioner]
                finished = [run for run in runs if (run / "lineage.json").is_file()]
                if finished:
                    rows.append({"table": table, "phase": phase, "captioner": captioner, **row_of(finished)})
    lines = []
    for table, title in TITLES.items():
        for phase, name in PHASES.items():
            chosen = [row for row in rows if (row["table"], row["phase"]) == (table, phase)]
            if chosen:
                names = dict.fromkeys(key for row in chosen for key in row if key not in ("table", "phase"))
                columns = [name for name in names if any(row.get(name) for row in chosen)]
                lines += [f"**{title}: {name}**", "", line(columns), line(["---"] * len(columns))]
                lines += [*(line([str(row.get(key, "")) for key in columns]) for row in chosen), ""]
    (out / "tables.md").write_text("\n".join(lines))
    with (out / "tables.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def line(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |"


def row_of(runs: Sequence[Path]) -> dict[str, str]:
    """Columns of a captioner; `runs`: one per seed. Scores × 100; lower is better for Implausible and CHAIR."""
    cells = [json.loads((run.parent / "cell.json").read_text()) for run in runs]
    metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
    measured = [json.loads((run / "lineage.json").read_text()) for run in runs]
    cider = [100 * metric["CIDEr"] for metric in metrics]
    low, high = photo_interval(runs)
    row = {
        "seeds": str(len(runs)),
        "M parameters": f"{cells[0]['parameters'] / 1e6:.2f}",
        "epochs": f"{cells[0]['epochs']:.3g}",
        "RL steps": str(cells[0]["rl_steps"]),
        "CIDEr": f"{fmean(cider):.1f}",
        "± seeds": f"{stdev(cider):.1f}" if len(cider) > 1 else "",
        "95 % of photos": f"{100 * low:.1f} – {100 * high:.1f}",
    }
    for name in ("Bleu_4", "ROUGE_L", "Implausible", "CHAIR_s (references)", "CHAIR_i (references)"):
        values = [metric[name] for metric in metrics if name in metric]
        row[name] = f"{100 * fmean(values):.1f}" if values else ""
    for name in ("CHAIR_s", "CHAIR_i", "Grounding", "uniform"):
        values = [found[name] for found in measured if name in found]
        row[name] = f"{100 * fmean(values):.1f}" if values else ""
    grounded = [found for found in measured if "Grounding" in found]
    if len(grounded) > 1:
        row["Grounding ± seeds"] = f"{100 * stdev(found['Grounding'] for found in grounded):.1f}"
    if grounded and "Grounding_95" in grounded[0]:
        low, high = (100 * fmean(found["Grounding_95"][end] for found in grounded) for end in (0, 1))
        row["Grounding, 95 % of images"] = f"{low:.1f} – {high:.1f}"  # the mean of the seeds' intervals
    row["ms per caption"] = f"{1000 * fmean(found['seconds_per_caption'] for found in measured):.1f}"
    return row


def photo_interval(runs: Sequence[Path]) -> tuple[float, float]:
    """The bootstrap interval over photos of CIDEr, the mean over the seeds."""
    scores = np.mean([per_image(run) for run in runs], axis=0)
    picks = np.random.default_rng(0).integers(0, len(scores), (RESAMPLES, len(scores)))
    low, high = np.quantile(scores[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def per_image(run: Path) -> list[float]:
    """CIDEr of each photo, in the order of the file."""
    (path,) = run.glob("per_image_*.csv")
    with path.open(newline="", encoding="utf-8") as file:
        return [float(row["CIDEr"]) for row in csv.DictReader(file)]


def table_values(text: str) -> list[dict[str, Any]]:
    """The rows of a tables.csv."""
    return list(csv.DictReader(text.splitlines()))
