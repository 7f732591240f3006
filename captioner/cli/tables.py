"""Runs side by side, one row a run: Markdown for people and CSV for programs.

Everything is read from the run folders, so the table at a sweep's end and that of old runs are one.
"""

from __future__ import annotations

import csv
import io
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captioner.cli.run_config import read_settings
from captioner.cli.runs_folder import CONFIG_FILE, METRICS_FILE, read_metrics, shown
from captioner.errors import DataError
from captioner.files import write_atomically
from captioner.metrics.format import markdown_lines

LESS_IS_BETTER = ("loss", "bits per", "perplexity per")
FACTS = ("run", "split", "decoder parameters", "words/s", "tokens/s", "epochs", "loss")


def run_row(run: Path, within: Path) -> dict[str, str]:
    """Column → text: what the run is, how large and how fast, and its figures × 100, as papers print them.

    `within`: the folder that the run is named from.
    """
    record = read_metrics(run)
    try:
        return _row(record) | {"run": str(run.relative_to(within))}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{run / METRICS_FILE} was altered: it holds other things than a run writes.") from error


def _row(record: dict[str, Any]) -> dict[str, str]:
    facts = record.get("run", {})
    row = {
        "run": "",
        "split": str(record.get("signature", {}).get("split", "")),
        "decoder parameters": f"{facts['parameters'] / 1e6:.1f} M" if "parameters" in facts else "",
        "words/s": str(facts.get("words_per_second", "")),
        "epochs": str(facts.get("epochs", "")),
    }
    if "loss" in facts:
        row["loss"] = f"{facts['loss']:.3f}"
    if record.get("task") == "language_model":
        return language_model_row(row, record)
    figures = {name: value for name, value in record.items() if isinstance(value, float)}
    row |= {name: f"{100 * value:.2f}" for name, value in figures.items()}
    if "CIDEr" in record.get("intervals", {}):
        low, high = record["intervals"]["CIDEr"]
        row["CIDEr 95 %"] = f"{100 * low:.1f} – {100 * high:.1f}"
    return row


def run_rows(runs: Sequence[Path], within: Path) -> list[dict[str, str]]:
    """A row each, with the settings in which the runs differ behind their names."""
    rows = [run_row(run, within) for run in runs]
    differing = differing_settings(runs)
    for row, settings in zip(rows, differing, strict=True):
        figures = dict(row)
        row.clear()
        row["run"] = figures.pop("run")
        row |= settings | figures
    return rows


def differing_settings(runs: Sequence[Path]) -> list[dict[str, str]]:
    """For each run, the settings that all have and that are not the same in all; none where a run keeps none."""
    if len(runs) < 2 or not all((run / CONFIG_FILE).is_file() for run in runs):
        return [{} for _ in runs]
    flat = [_flat(read_settings(run)) for run in runs]
    shared = [key for key in flat[0] if all(key in settings for settings in flat) and key != "resume"]
    differing = [key for key in shared if len({settings[key] for settings in flat}) > 1]
    return [{key: settings[key] for key in differing} for settings in flat]


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys and text."""
    if not isinstance(value, dict):
        return {prefix: str(value)}
    inner = [_flat(own, f"{prefix}.{key}" if prefix else str(key)) for key, own in value.items()]
    return {key: text for own in inner for key, text in own.items()}


def averaged_over_seeds(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Rows that differ in their seed alone as one: means of the figures, and CIDEr's standard deviation over seeds.

    `rows` are those of `run_rows`; without a column "seed" there is nothing to average, and the answer is empty.
    """
    if not rows or any("seed" not in row for row in rows):
        return []
    settings = [key for key in rows[0] if "." in key]
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key, "") for key in settings), []).append(row)
    averaged = []
    for key, own in groups.items():
        figures = [name for name in own[0] if name[0].isupper() and all(_is_number(row.get(name)) for row in own)]
        mean = {name: f"{statistics.fmean(float(row[name]) for row in own):.2f}" for name in figures}
        row = dict(zip(settings, key, strict=True)) | {"seeds": str(len(own))}
        row |= {name: own[0][name] for name in ("decoder parameters",) if name in own[0]} | mean
        if "CIDEr" in mean and len(own) > 1:
            row["CIDEr ±"] = f"{statistics.stdev(float(one['CIDEr']) for one in own):.2f}"
        averaged.append(row)
    return averaged


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


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


def sorted_rows(rows: Sequence[dict[str, str]], column: str) -> list[dict[str, str]]:
    """By any column, the best last; rows without it come first, and texts before numbers."""
    worse_if_more = column.startswith(LESS_IS_BETTER)

    def key(row: dict[str, str]) -> tuple[bool, float, str]:
        text = row.get(column, "")
        if not _is_number(text.removesuffix(" M")):
            return (False, 0.0, text)
        number = float(text.removesuffix(" M"))
        return (True, -number if worse_if_more else number, "")

    return sorted(rows, key=key)


def write_sweep_table(folders: Sequence[Path]) -> str:
    """Write the table of a sweep's runs to sweep.md and sweep.csv beside them; returns it with the files' place."""
    folder = Path(os.path.commonpath([run.parent for run in folders]))
    rows = run_rows(folders, folder)
    table = markdown_table(rows)
    if averaged := averaged_over_seeds(rows):
        table += f"\n\nAveraged over seeds:\n\n{markdown_table(averaged)}"
    write_atomically(folder / "sweep.md", (table + "\n").encode())
    write_atomically(folder / "sweep.csv", csv_table(rows).encode())
    return f"\n{table}\n\nThe table is in {shown(folder)}/sweep.md and sweep.csv\n"
