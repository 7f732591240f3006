"""The table at a sweep's end: one row a run, as Markdown for people and CSV for programs."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from captioner.engine.training import TrainingResult
from captioner.files import write_atomically


def sweep_rows(results: Sequence[TrainingResult]) -> list[dict[str, str]]:
    """Column → text, a row a run: its folder, size, speed and figures (× 100, as papers print them)."""
    rows = []
    for result in results:
        row = {
            "run": result.folder.name,
            "decoder parameters": f"{result.parameters / 1e6:.1f} M",
            "words/s": f"{result.words_per_second:.0f}",
        }
        for split, evaluation in result.evaluations.items():
            for name, value in evaluation.scores.corpus.items():
                row[f"{split} {name}"] = f"{100 * value:.2f}"
        rows.append(row)
    return rows


def sweep_table(results: Sequence[TrainingResult]) -> str:
    """The rows as a Markdown table with aligned columns."""
    rows = sweep_rows(results)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    widths = {column: max(len(column), *(len(row.get(column, "")) for row in rows)) for column in columns}
    header = "| " + " | ".join(f"{column:<{widths[column]}}" for column in columns) + " |"
    rule = "|" + "|".join("-" * (widths[column] + 2) for column in columns) + "|"
    body = ["| " + " | ".join(f"{row.get(column, ''):<{widths[column]}}" for column in columns) + " |" for row in rows]
    return "\n".join([header, rule, *body])


def write_sweep_table(results: Sequence[TrainingResult], table: str) -> Path:
    """`sweep.md` and `sweep.csv` in the folder that holds the runs; returns that folder."""
    folder = Path(os.path.commonpath([result.folder.parent for result in results]))
    rows = sweep_rows(results)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "sweep.md", (table + "\n").encode())
    write_atomically(folder / "sweep.csv", text.getvalue().encode())
    return folder
