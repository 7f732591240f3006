"""`python -m captioner runs`: compare finished runs, sorted by any column."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from captioner.cli.flags import FlagParser
from captioner.cli.main import run_command
from captioner.cli.runs_folder import finished_runs, unfinished_runs
from captioner.cli.tables import averaged_over_seeds, csv_table, markdown_table, run_rows, sorted_rows
from captioner.errors import DataError, choose


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _runs(_parser().read(sys.argv[1:]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "runs", "Compare finished runs in one table, the best last.", ["runs --sort CIDEr", "runs runs/sweep --average"]
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument("--sort", metavar="COLUMN", help="a column such as CIDEr, the best last (default: by time)")
    parser.add_argument("--csv", action="store_true", help="print CSV instead of Markdown")
    parser.add_argument("--average", action="store_true", help="one row for runs that differ in their seed alone")
    return parser


def _runs(arguments: argparse.Namespace) -> None:
    table, not_finished = show_runs(arguments.folder, arguments.sort, as_csv=arguments.csv, average=arguments.average)
    sys.stdout.write(table)
    if not_finished:
        sys.stderr.write(f"Not finished: {', '.join(map(str, not_finished))}\n")


def show_runs(folder: Path, sort: str | None, *, as_csv: bool, average: bool = False) -> tuple[str, list[Path]]:
    """The table of the finished runs in `folder`, and the unfinished runs there."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give the folder that contains your runs.")
    rows = run_rows(finished_runs(folder), folder)
    if not rows:
        raise DataError(f"There is no finished run in {folder}: train one with `python train.py`.")
    if average:
        rows = averaged_over_seeds(rows)
        if not rows:
            raise DataError(f"The runs in {folder} do not differ in their seed: there is nothing to average.")
    if sort is not None:
        rows = sorted_rows(rows, choose("--sort", sort, {name for row in rows for name in row}))
    return csv_table(rows) if as_csv else markdown_table(rows) + "\n", unfinished_runs(folder)
