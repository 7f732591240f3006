"""What a run writes while it goes: a log for a person, one for a program, TensorBoard on request."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from captioner.errors import ConfigError
from captioner.files import write_atomically

TEXT_FILE, RECORDS_FILE = "log.txt", "log.jsonl"


class RunLog:
    """`log.txt` and `log.jsonl` in the run folder; what is said also goes to the terminal.

    `resume_step`: forget what an interrupted run logged after that step, so that nothing stands
    there twice once the steps are done again.
    """

    def __init__(self, folder: Path, *, resume_step: int | None = None, tensorboard: bool = False) -> None:
        self.folder = folder
        if resume_step is not None:
            _forget_after(folder / RECORDS_FILE, resume_step)
        self._text = (folder / TEXT_FILE).open("a", encoding="utf-8")
        self._records = (folder / RECORDS_FILE).open("a", encoding="utf-8")
        self._tensorboard = _summary_writer(folder, resume_step) if tensorboard else None

    def say(self, sentence: str) -> None:
        """A line for a person: to the terminal, above any progress bar, and to log.txt with the time."""
        tqdm.write(sentence, file=sys.stderr)
        self._text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {sentence}\n")
        self._text.flush()

    def record(self, kind: str, step: int, **values: Any) -> None:
        """A line for a program: {"kind": …, "step": …, …}."""
        self._records.write(json.dumps({"kind": kind, "step": step, **values}, ensure_ascii=False) + "\n")
        self._records.flush()
        if self._tensorboard is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close all files."""
        self._text.close()
        self._records.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records of a run's `log.jsonl`; a last line cut off by a kill is left out."""
    path = folder / RECORDS_FILE
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break  # only the line that was being written when the run was killed
    return records


def _forget_after(path: Path, step: int) -> None:
    kept = [record for record in read_records(path.parent) if record["step"] <= step]
    write_atomically(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept).encode("utf-8"))


def _summary_writer(folder: Path, resume_step: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "trainer.tensorboard=true needs TensorBoard: pip install 'captioner[tensorboard]', or leave it false."
        ) from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=None if resume_step is None else resume_step + 1)
