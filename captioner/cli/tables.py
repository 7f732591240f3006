"""Tables of runs, one row per run, as Markdown or CSV.

Everything is read from the run folders, so the table at the end of a sweep equals that of `captioner runs`.
"""

from __future__ import annotations

import csv
import io
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from captioner.cli.run_config import read_settings
from captioner.cli.runs_folder import CONFIG_FILE, METRICS_FILE, read_metrics, shown
from captioner.errors import DataError
from captioner.files import write_atomically
from captioner.metrics.format import markdown_lines
from captioner.metrics.registry import is_lower_better, print_factor

LOWER_IS_BETTER = ("loss", "bits per", "perplexity")
HIGHER_IS_BETTER = ("words/s", "tokens/s")
FACTS = ("run", "split", "decoder parameters", "words/s", "tokens/s", "epochs", "loss")


def run_row(run: Path, within: Path) -> dict[str, str]:
    """Column → text: split, parameters, speed, epochs, and scores × 100, as papers print them.

    within: the folder that the run is named relative to.
    """
    record = read_metrics(run)
    try:
        return _row(record) | {"run": str(run.relative_to(within))}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{run / METRICS_FILE} was altered: its content is not what a run writes.") from error


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
    scores = {name: value for name, value in record.items() if isinstance(value, float)}
    if "loss" in scores:  # of the split's references; the column "loss" is that of the training
        row["held-out loss"] = f"{scores.pop('loss'):.3f}"
    row |= {name: f"{print_factor(name) * value:.2f}" for name, value in scores.items()}
    if "CIDEr" in record.get("intervals", {}):
        low, high = record["intervals"]["CIDEr"]
        row["CIDEr 95 %"] = f"{100 * low:.1f} – {100 * high:.1f}"
    return row


def run_rows(runs: Sequence[Path], within: Path) -> list[dict[str, str]]:
    """One row per run: its name, the settings in which the runs differ, then the columns of `run_row`."""
    rows = [run_row(run, within) for run in runs]
    differing = differing_settings(runs)
    for row, settings in zip(rows, differing, strict=True):
        columns = dict(row)
        row.clear()
        row["run"] = columns.pop("run")
        row |= settings | columns
    return rows


def differing_settings(runs: Sequence[Path]) -> list[dict[str, str]]:
    """For each run, the settings that all runs have and whose values differ; none where a run stores no settings."""
    flat = stored_settings(runs)
    if len(runs) < 2 or not all(flat):
        return [{} for _ in runs]
    shared = [key for key in flat[0] if all(key in settings for settings in flat) and key != "resume"]
    differing = [key for key in shared if len({settings[key] for settings in flat}) > 1]
    return [{key: settings[key] for key in differing} for settings in flat]


def stored_settings(runs: Sequence[Path]) -> list[dict[str, str]]:
    """For each run, all settings by dotted name, as text; none where it stores no settings."""
    return [_flat(read_settings(run)) if (run / CONFIG_FILE).is_file() else {} for run in runs]


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys and text."""
    if not isinstance(value, dict):
        return {prefix: str(value)}
    inner = [_flat(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items()]
    return {key: text for table in inner for key, text in table.items()}


def averaged_over_seeds(rows: Sequence[dict[str, str]], stored: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """One row for runs that differ in their seed alone: mean scores, and CIDEr's standard deviation over seeds.

    rows: those of `run_rows`; stored: the `stored_settings` of the same runs, which also have what only some models or
    data sets have. Of several runs that have the seed in common, too, the last one counts. Returns no rows where there
    is no column "seed".
    """
    if not rows or any("seed" not in row for row in rows):
        return []
    shown = [key for key in takewhile(lambda key: key not in FACTS, list(rows[0])[1:]) if key != "seed"]
    groups: dict[frozenset[tuple[str, str]], dict[str, dict[str, str]]] = {}
    for row, settings in zip(rows, stored, strict=True):
        same = frozenset(item for item in settings.items() if item[0] not in ("seed", "resume"))
        groups.setdefault(same, {})[row["seed"]] = row
    averaged, keys, no_scores = [], shown + _also_different(groups, shown), {*shown, *FACTS, "seed"}
    for same, of_seeds in groups.items():
        group, settings = list(of_seeds.values()), dict(same)
        scores = [
            name for name in group[0] if name not in no_scores and all(_is_number(row.get(name)) for row in group)
        ]
        mean = {name: _mean([row[name] for row in group]) for name in scores}
        row = {key: settings.get(key, "") for key in keys} | {"seeds": str(len(group))}
        row |= {name: group[0][name] for name in ("decoder parameters",) if name in group[0]} | mean
        if "CIDEr" in mean and len(group) > 1:
            row["CIDEr ±"] = f"{statistics.stdev(float(row['CIDEr']) for row in group):.2f}"
        averaged.append(row)
    return averaged


def _mean(numbers: Sequence[str]) -> str:
    """The mean of numbers in a table, with as many digits as they have, and two at least."""
    digits = max(2, *(len(number.partition(".")[2]) for number in numbers))
    return f"{statistics.fmean(map(float, numbers)):.{digits}f}"


def _also_different(groups: Iterable[frozenset[tuple[str, str]]], shown: Sequence[str]) -> list[str]:
    """The settings besides `shown` by which groups differ that are the same in those; not all runs have them."""
    alike: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for settings in map(dict, groups):
        alike.setdefault(tuple(settings.get(key, "") for key in shown), []).append(settings)
    keys = dict.fromkeys(key for of_group in alike.values() for settings in of_group for key in sorted(settings))
    return [key for key in keys if any(len({one.get(key) for one in of_group}) > 1 for of_group in alike.values())]


def _is_number(text: str | None) -> bool:
    try:
        return math.isfinite(float(text or ""))
    except ValueError:
        return False


def language_model_row(row: dict[str, str], record: dict[str, Any]) -> dict[str, str]:
    """The row of a language model: bits per token and perplexity on the held-out parts of its text."""
    facts = {name: text for name, text in row.items() if name not in ("split", "words/s")}
    facts["tokens/s"] = str(record.get("run", {}).get("tokens_per_second", ""))
    scores = {
        f"{name.replace('_', ' ')}, {part}": f"{value:.3f}"
        for name in ("bits_per_character", "bits_per_word", "perplexity_per_word")
        for part, value in record.get(name, {}).items()
    }
    return facts | scores


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
    """Rows sorted by `column`, the best first; text after numbers, and rows without a value last.

    Losses ascend and scores descend, unless a metric says otherwise; settings, counts and text ascend.
    """
    descending = _is_higher_better(column)

    def key(row: dict[str, str]) -> tuple[int, float, str]:
        text = row.get(column, "")
        if not _is_number(text.removesuffix(" M")):
            return (1 if text else 2, 0.0, text)
        number = float(text.removesuffix(" M"))
        return (0, -number if descending else number, "")

    return sorted(rows, key=key)


def _is_higher_better(column: str) -> bool:
    """Scores begin with a capital letter."""
    lower = any(name in column.lower() for name in LOWER_IS_BETTER) or is_lower_better(column)
    return not lower and (column in HIGHER_IS_BETTER or column[:1].isupper())


def plain_rows(rows: Sequence[dict[str, str]]) -> list[dict[str, str | float]]:
    """Rows with numbers in place of text that is one, for JSON."""
    return [{name: float(text) if _is_number(text) else text for name, text in row.items()} for row in rows]


def write_sweep_table(folders: Sequence[Path]) -> str:
    """Write the table of a sweep's runs to sweep.md and sweep.csv in the sweep's folder; returns the text to print."""
    folder = Path(os.path.commonpath([run.parent for run in folders]))
    rows = run_rows(folders, folder)
    table = markdown_table(rows)
    if averaged := averaged_over_seeds(rows, stored_settings(folders)):
        table += f"\n\nAveraged over seeds:\n\n{markdown_table(averaged)}"
    write_atomically(folder / "sweep.md", (table + "\n").encode())
    write_atomically(folder / "sweep.csv", csv_table(rows).encode())
    return f"\n{table}\n\nThe table is in {shown(folder)}/sweep.md and sweep.csv\n"
