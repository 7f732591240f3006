"""`python -m captioner runs`: finished runs side by side, sorted by any figure."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from captioner.cli.run import run_command
from captioner.cli.tables import FACTS, averaged_over_seeds, csv_table, finished_runs, markdown_table, run_rows
from captioner.errors import ConfigError, DataError, choose


def main() -> None:
    """The entry point."""
    sys.exit(run_command(_runs))


def _runs() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m captioner runs", description="Show finished runs side by side, the best last."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="where the runs are (default: runs)")
    parser.add_argument("--sort", metavar="FIGURE", help="by this figure, such as CIDEr (default: by time)")
    parser.add_argument("--csv", action="store_true", help="CSV instead of Markdown")
    parser.add_argument("--average", action="store_true", help="one row for runs that differ in their seed alone")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        raise DataError(f"{arguments.folder} is not a folder: name the one that holds your runs.")
    rows = run_rows(finished_runs(arguments.folder), arguments.folder)
    if not rows:
        raise DataError(f"There is no finished run in {arguments.folder}: train one with `python train.py`.")
    if arguments.average:
        rows = averaged_over_seeds(rows)
        if not rows:
            raise DataError(f"The runs in {arguments.folder} do not differ in their seed: there is nothing to average.")
    if arguments.sort is not None:
        figures = {name for row in rows for name in row if name not in FACTS}
        if not figures:
            raise ConfigError("These runs hold no figures to sort by.")
        figure = choose("--sort", arguments.sort, figures)
        rows.sort(key=lambda row: float(row.get(figure, "-inf")))
    sys.stdout.write(csv_table(rows) if arguments.csv else markdown_table(rows) + "\n")
