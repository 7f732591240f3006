"""A process that slowly fills a cache with numbers, for tests with several processes.

    python tests/data/features/filler.py FOLDER FIRST LAST PAUSE [DIE_AFTER]

It starts when it reads a line, and appends each key that it computes to FOLDER/../computed-<process id>.
With DIE_AFTER it kills itself while writing the next shard after that many.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from captioner.data.features import fill as filling
from captioner.data.features import storage
from captioner.data.features.fill import FeatureRows, fill
from captioner.data.features.storage import FeatureShardFolder

ROW_SHAPE = (2, 3)


def row(key: str) -> np.ndarray:
    """(P, D) float16, different for each key."""
    return np.arange(6, dtype=np.float16).reshape(ROW_SHAPE) + np.float16(7 * int(key))


def main(folder: Path, first: int, last: int, pause: float, die_after: int | None) -> None:
    filling.SHARD_ROWS, filling.BATCH, filling.WAIT = 8, 2, 0.02  # small, so that there are many shards and batches
    log = (folder.parent / f"computed-{os.getpid()}").open("a")
    written = 0
    write_atomically = storage.write_atomically

    def write_or_die(path: Path, content: bytes) -> None:
        nonlocal written
        if die_after is not None and written == die_after and path.suffix == ".json":  # its data has been written
            path.with_name(f".{path.name}.0.tmp").write_bytes(content[:20])
            os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(path, content)
        written += path.suffix == ".json"

    def compute(batches: Iterator[list[str]]) -> Iterator[FeatureRows]:
        for keys in batches:
            time.sleep(pause)
            log.writelines(f"{key}\n" for key in keys)
            log.flush()
            yield FeatureRows(keys, np.stack([row(key) for key in keys]), {})

    storage.write_atomically = write_or_die
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    fill(FeatureShardFolder(folder, ROW_SHAPE), [str(number) for number in range(first, last)], compute)


if __name__ == "__main__":
    folder, first, last, pause, *die_after = sys.argv[1:]
    main(Path(folder), int(first), int(last), float(pause), int(die_after[0]) if die_after else None)
