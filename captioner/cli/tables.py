"""Runs side by side, one row a run: Markdown for people and CSV for programs.

Everything is read from the run folders, so the table at a sweep's end and that of old runs are one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captioner.errors import DataError
from captioner.metrics.report import markdown_lines

FACTS = ("run", "split", "decoder parameters", "words/s", "tokens/s", "epochs")


def finished_runs(folder: Path, task: str | None = None) -> list[Path]:
    """The folders below `folder`, also those of sweeps, in which a training (of `task`) was finished, oldest first."""
    found = [
        metrics.parent
        for pattern in ("metrics.json", "*/metrics.json", "*/*/metrics.json")
        for metrics in folder.glob(pattern)
        if (metrics.parent / "checkpoints" / "index.json").is_file()
    ]
    if task is not None:
        found = [run for run in found if read_metrics(run).get("task", "captioning") == task]
    return sorted(found, key=lambda run: ((run / "metrics.json").stat().st_mtime, run))


def read_metrics(run: Path) -> dict[str, Any]:
    """A run's `metrics.json`; DataError where it cannot be read."""
    path = run / "metrics.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}).") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} should be a JSON object.")
    return record


def run_row(run: Path, within: Path) -> dict[str, str]:
    """Column → text: what the run is, how large and how fast, and its figures × 100, as papers print them.

    `within`: the folder that the run is named from.
    """
    record = read_metrics(run)
    facts = record.get("run", {})
    row = {
        "run": str(run.relative_to(within)),
        "split": str(record.get("signature", {}).get("split", "")),
        "decoder parameters": f"{facts['parameters'] / 1e6:.1f} M" if "parameters" in facts else "",
        "words/s": str(facts.get("words_per_second", "")),
        "epochs": str(facts.get("epochs", "")),
    }
    if record.get("task") == "language_model":
        return language_model_row(row, record)
    figures = {name: value for name, value in record.items() if isinstance(value, float)}
    return row | {name: f"{100 * value:.2f}" for name, value in figures.items()}


def language_model_row(row: dict[str, str], record: dict[str, Any]) -> dict[str, str]:
    """The row of a language model: bits a token on the text's end, and what its counts give there."""
    facts = {name: text for name, text in row.items() if name not in ("split", "words/s")}
    facts["tokens/s"] = str(record.get("run", {}).get("tokens_per_second", ""))
    figures = {
        f"{name.replace('_', ' ')}, {part}": f"{value:.3f}"
        for name in ("bits_per_character", "bits_per_word", "perplexity_per_word")
        for part, value in record.get(name, {}).items()
    }
    return facts | figures


def markdown_table(rows: Sequence[dict[str, str]]) -> str:
    """Rows as a Markdown table with aligned columns."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return "\n".join(markdown_lines(columns, [[row.get(column, "") for column in columns] for row in rows]))


def csv_table(rows: Sequence[dict[str, str]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
