"""Fills a feature cache shard by shard, together with any number of other processes.

No shard is computed twice while the process that locked it is running. If that process dies, another one takes over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np

from captioner.data.features.locks import ShardLocks
from captioner.data.features.storage import ADVICE, SHARD_ROWS, FeatureShardFolder
from captioner.errors import DataError

BATCH = 32  # rows computed together
WAIT = 0.5  # seconds between checks of what other processes have written


class FeatureRows(NamedTuple):
    """Computed features: `rows` (n, P, D) float16 of the n `keys`; `bad` maps a key to why it has no features."""

    keys: list[str]
    rows: np.ndarray
    bad: dict[str, str]


class Producer(Protocol):
    """Computes the features of each batch of keys, in order. It may request batches ahead of those it has returned."""

    def __call__(self, batches: Iterator[list[str]], /) -> Iterator[FeatureRows]: ...


class LockedShard(NamedTuple):
    """A shard that this process has locked and will compute."""

    name: str
    keys: list[str]


def fill(
    shards: FeatureShardFolder,
    wanted: Sequence[str],
    produce: Producer,
    advance: Callable[[int], object] = lambda rows: None,
) -> dict[str, str]:
    """Return when every key of `wanted` is in `shards`, computed here or by another process.

    advance: called with the number of rows that have been finished since the last call, here or elsewhere.
    Returns key → reason, for keys whose features cannot be computed. DataError if the folder cannot be written.
    """
    bad: dict[str, str] = {}
    with ShardLocks(shards.path) as locks:
        work = _RemainingWork(shards, locks, list(wanted), advance)
        while (first := work.lock_next_or_wait()) is not None:
            computed: list[FeatureRows] = []
            pending: deque[tuple[str, bool]] = deque()
            for rows in produce(_batches(work, first, pending)):
                shard, is_last = pending.popleft()
                computed.append(rows)
                bad |= rows.bad
                if is_last:
                    _write_shard(shards, locks, shard, computed)
                    computed = []
                advance(len(rows.keys) + len(rows.bad))
    return bad


class _RemainingWork:
    """The keys that are neither written nor locked by this process."""

    def __init__(
        self, shards: FeatureShardFolder, locks: ShardLocks, keys: list[str], advance: Callable[[int], object]
    ) -> None:
        self.shards, self.locks, self.keys, self.advance = shards, locks, deque(keys), advance

    def lock_next(self) -> LockedShard | None:
        """Lock a shard of keys that no process is computing; None if there are none at the moment.

        Looks at the next keys only: millions of them would be looked at thousands of times otherwise.
        """
        with _write_errors(self.shards), self.locks.exclusive():
            # Locks first, shards second: a shard that is finished in between is then seen at least once.
            locked_elsewhere = self.locks.keys_locked_elsewhere()
            self.shards.refresh()
            keys: list[str] = []
            passed: list[str] = []  # what others are computing; looked at again after all others
            written = 0
            while self.keys and len(keys) < SHARD_ROWS:
                key = self.keys.popleft()
                if key in self.shards.index:
                    written += 1
                else:
                    (passed if key in locked_elsewhere else keys).append(key)
            self.keys.extend(passed)
            self.advance(written)
            return LockedShard(self.locks.lock_new_shard(keys), keys) if keys else None

    def lock_next_or_wait(self) -> LockedShard | None:
        """Lock the next shard, waiting for other processes to finish or to die; None when no keys are left."""
        while self.keys:
            shard = self.lock_next()
            if shard is not None:
                return shard
            if self.keys:
                time.sleep(WAIT)
        return None


def _batches(work: _RemainingWork, shard: LockedShard | None, pending: deque[tuple[str, bool]]) -> Iterator[list[str]]:
    """Batches of keys of `shard`, then of newly locked shards. Appends (shard, is it its last batch?) to `pending`."""
    while shard is not None:
        for start in range(0, len(shard.keys), BATCH):
            pending.append((shard.name, start + BATCH >= len(shard.keys)))
            yield shard.keys[start : start + BATCH]
        shard = work.lock_next() if work.keys else None


def _write_shard(shards: FeatureShardFolder, locks: ShardLocks, shard: str, computed: list[FeatureRows]) -> None:
    keys = [key for rows in computed for key in rows.keys]
    with _write_errors(shards):
        if keys:
            shards.write(shard, np.concatenate([rows.rows for rows in computed if rows.keys]), keys)
        locks.release(shard)


@contextmanager
def _write_errors(shards: FeatureShardFolder) -> Iterator[None]:
    """Turn OSError into a DataError that names the folder."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The feature cache {shards.path} cannot be written ({error.strerror or error}): {ADVICE}"
        ) from error
