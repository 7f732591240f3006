"""The log files of a run: text for a reader, records for a program, a table of scores, and TensorBoard on request."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from captioner.distributed.ranks import is_main_process
from captioner.files import write_atomically
from captioner.training.tensorboard import FOLDER as TENSORBOARD_FOLDER
from captioner.training.tensorboard import TensorBoardLog

TEXT_FILE, RECORDS_FILE, TABLE_FILE = "log.txt", "log.jsonl", "log.csv"
VALIDATION = "validation"  # the kind of record that is a row of the table

LogSizes = dict[str, int]
"""The size of each log file in bytes. A checkpoint stores them, and a resumed run truncates the files to them."""


class RunLog:
    """`log.txt`, `log.jsonl` and `log.csv` in the run folder; messages are printed too.

    sizes: the result of `sizes()` when the checkpoint was saved from which the run is resumed. Later lines are removed,
    because the run will write them again: no line is missing or written twice, whenever the run was killed. None for a
    new run, {} for one that starts again.
    step: the step of the checkpoint; checkpoints of format 1 store no sizes.
    Only rank 0 writes; the logs of other ranks are silent.
    """

    def __init__(
        self, folder: Path, *, sizes: LogSizes | None = None, step: int | None = None, tensorboard: bool = False
    ) -> None:
        self.folder = folder
        self.tensorboard: TensorBoardLog | None = None
        self.silent = not is_main_process()
        if self.silent:
            return
        if sizes is not None:
            rewind(folder, sizes)
        elif step is not None:
            _forget_after(folder, step)
        self._rows = [record for record in read_records(folder) if record["kind"] == VALIDATION]
        self._text = (folder / TEXT_FILE).open("a", encoding="utf-8")
        self._records = (folder / RECORDS_FILE).open("a", encoding="utf-8")
        if tensorboard:
            self.tensorboard = TensorBoardLog(folder, step)
        if sizes is not None or step is not None:
            self._write_table()

    def info(self, message: str) -> None:
        """Write a line to the terminal, above any progress bar, and with the time to log.txt."""
        if self.silent:
            return
        tqdm.write(message, file=sys.stderr)
        self._text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")
        self._text.flush()

    def record(self, kind: str, step: int, **values: Any) -> None:
        """Write a record {"kind": …, "step": …, …} to log.jsonl; a validation is also a row of log.csv.

        Infinite values and NaN, which JSON does not have, become null.
        """
        if self.silent:
            return
        values = {name: None if _is_not_finite(value) else value for name, value in values.items()}
        record = {"kind": kind, "step": step, **values}
        self._records.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._records.flush()
        if kind == VALIDATION:
            self._rows.append(record)
            self._write_table()
        if self.tensorboard is not None:
            self.tensorboard.scalars(kind, step, values)

    def sizes(self) -> LogSizes:
        """The current sizes of the log files, after flushing them to disk."""
        if self.silent:
            return {}
        for file in (self._text, self._records):
            file.flush()
            os.fsync(file.fileno())
        return {name: (self.folder / name).stat().st_size for name in _rewound(self.folder)}

    def close(self) -> None:
        """Close all files."""
        if self.silent:
            return
        self._text.close()
        self._records.close()
        if self.tensorboard is not None:
            self.tensorboard.close()

    def _write_table(self) -> None:
        if not self._rows:
            (self.folder / TABLE_FILE).unlink(missing_ok=True)
            return
        columns = [name for name in dict.fromkeys(name for row in self._rows for name in row) if name != "kind"]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self.folder / TABLE_FILE, text.getvalue().encode("utf-8", "replace"))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records of a run's `log.jsonl`, without lines that are not records, such as one that a kill cut off."""
    return [record for record, _ in _records_and_lines(folder / RECORDS_FILE)]


def _records_and_lines(path: Path) -> list[tuple[dict[str, Any], bytes]]:
    found = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line.decode("utf-8"))
            if isinstance(record, dict) and type(record.get("step")) is int and isinstance(record.get("kind"), str):
                found.append((record, line + b"\n"))
    return found


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def checked_log_sizes(stored: Any) -> LogSizes | None:
    """The log sizes of a checkpoint; None where it has none. Raises ValueError for anything else."""
    if stored is None:
        return None
    if not isinstance(stored, dict) or not all(type(length) is int and length >= 0 for length in stored.values()):
        raise ValueError("expected the size of each log file")
    return {str(name): length for name, length in stored.items()}


def rewind(folder: Path, sizes: Mapping[str, int]) -> None:
    """Truncate every log file to its stored size, and remove those that did not exist yet."""
    for name in _rewound(folder):
        path = folder / name
        if name not in sizes:
            path.unlink()
        elif path.stat().st_size >= sizes[name]:
            os.truncate(path, sizes[name])
        elif name in (
            TEXT_FILE,
            RECORDS_FILE,
        ):  # the end is missing: remove a partial line
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _rewound(folder: Path) -> list[str]:
    """The log files that are appended to, by their paths in the run folder; log.csv is written from them."""
    events = sorted(f"{TENSORBOARD_FOLDER}/{path.name}" for path in (folder / TENSORBOARD_FOLDER).glob("*"))
    return [name for name in (TEXT_FILE, RECORDS_FILE, *events) if (folder / name).is_file()]


def _forget_after(folder: Path, step: int) -> None:
    kept = [line for record, line in _records_and_lines(folder / RECORDS_FILE) if record["step"] <= step]
    write_atomically(folder / RECORDS_FILE, b"".join(kept))
