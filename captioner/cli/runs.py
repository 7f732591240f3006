"""`python -m captioner runs`: compare finished runs, sorted by any column."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from captioner.cli.flags import FlagParser, add_json
from captioner.cli.main import run_command
from captioner.cli.runs_folder import finished_runs, read_metrics, unfinished_runs
from captioner.cli.tables import (
    averaged_over_seeds,
    csv_table,
    differing_settings,
    markdown_table,
    plain_rows,
    run_rows,
    sorted_rows,
    stored_settings,
)
from captioner.errors import ConfigError, DataError, choose


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _runs(_parser().read(sys.argv[1:]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "runs", "Compare finished runs in one table.", ["runs --sort CIDEr", "runs runs/sweep --average"]
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument("--sort", metavar="COLUMN", help="a column such as CIDEr, the best first (default: by time)")
    parser.add_argument("--csv", action="store_true", help="print CSV instead of Markdown")
    parser.add_argument(
        "--average",
        action="store_true",
        help="one row for runs that differ in their seed alone (the last of each seed)",
    )
    add_json(parser, "print JSON: a list of the runs with their settings that differ and all of their metrics.json")
    return parser


def _runs(arguments: argparse.Namespace) -> None:
    if arguments.csv and arguments.json:
        raise ConfigError("--csv and --json cannot go together: choose one of them.")
    table, not_finished = show_runs(
        arguments.folder, arguments.sort, as_csv=arguments.csv, as_json=arguments.json, average=arguments.average
    )
    sys.stdout.write(table)
    if not_finished:
        sys.stderr.write(f"Not finished: {', '.join(map(str, not_finished))}\n")


def show_runs(
    folder: Path, sort: str | None, *, as_csv: bool, as_json: bool = False, average: bool = False
) -> tuple[str, list[Path]]:
    """The table of the finished runs in `folder`, as Markdown, CSV or JSON, and the unfinished runs there."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give the folder that contains your runs.")
    runs = finished_runs(folder)
    rows = run_rows(runs, folder)
    if not rows:
        raise DataError(f"There is no finished run in {folder}: train one with `python train.py`.")
    if average:
        rows = averaged_over_seeds(rows, stored_settings(runs))
        if not rows:
            raise DataError(f"The runs in {folder} do not differ in their seed: there is nothing to average.")
    if sort is not None:
        rows = sorted_rows(rows, choose("--sort", sort, {name for row in rows for name in row}))
    if as_json:
        records = plain_rows(rows) if average else _records(folder, rows, list(differing_settings(runs)[0]))
        return json.dumps(records, indent=2, ensure_ascii=False) + "\n", unfinished_runs(folder)
    return csv_table(rows) if as_csv else markdown_table(rows) + "\n", unfinished_runs(folder)


def _records(folder: Path, rows: list[dict[str, str]], settings: list[str]) -> list[dict[str, Any]]:
    """All that is known of each run; scores are fractions, unrounded."""
    return [
        {
            "run": row["run"],
            "settings": {name: row[name] for name in settings},
            "metrics": read_metrics(folder / row["run"]),
        }
        for row in rows
    ]
