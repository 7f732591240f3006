"""Fills the cache shard by shard, beside any number of other processes that do the same.

No shard is computed twice while its filler lives; what a filler leaves undone, the others take over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np

from captioner.data.features.locks import Claims
from captioner.data.features.shards import ADVICE, SHARD_ROWS, ShardFolder
from captioner.errors import DataError

BATCH = 32  # rows computed at once
WAIT = 0.5  # seconds between two looks at what other processes have done


class Rows(NamedTuple):
    """Computed features: rows (n, P, D) float16 of n keys, and key → why, for those that cannot be computed."""

    keys: list[str]
    rows: np.ndarray
    bad: dict[str, str]


class Producer(Protocol):
    """Computes batch after batch of keys, in order; it may ask for batches ahead of those it has given."""

    def __call__(self, batches: Iterator[list[str]], /) -> Iterator[Rows]: ...


class Claim(NamedTuple):
    """A shard that this process has taken upon itself."""

    shard: str
    keys: list[str]


def fill(
    shards: ShardFolder,
    wanted: Sequence[str],
    produce: Producer,
    advance: Callable[[int], object] = lambda rows: None,
) -> dict[str, str]:
    """Have all `wanted` keys in `shards`, computed here or by another process.

    Returns key → why, for those that cannot be computed. `advance` is called with numbers of rows that
    are done, here or elsewhere. Raises DataError where the folder cannot be written.
    """
    bad: dict[str, str] = {}
    with Claims(shards.path) as claims:
        work = _Work(shards, claims, list(wanted), advance)
        while (first := work.claim_or_wait()) is not None:
            kept: list[Rows] = []
            pending: deque[tuple[str, bool]] = deque()
            for rows in produce(_batches(work, first, pending)):
                shard, is_last = pending.popleft()
                kept.append(rows)
                bad |= rows.bad
                if is_last:
                    _keep(shards, claims, shard, kept)
                    kept = []
                advance(len(rows.keys) + len(rows.bad))
    return bad


class _Work:
    """What is left to do. `left`: keys that are neither there nor claimed by this process."""

    def __init__(self, shards: ShardFolder, claims: Claims, left: list[str], advance: Callable[[int], object]) -> None:
        self.shards, self.claims, self.left, self.advance = shards, claims, left, advance

    def claim(self) -> Claim | None:
        """A shard of keys that nobody has; None where there are none, now."""
        with _written(self.shards), self.claims.alone():
            others = self.claims.of_others()
            self.shards.refresh()  # in this order: what others finish in between is seen at least once
            left = [key for key in self.left if key not in self.shards.index]
            self.advance(len(self.left) - len(left))
            keys = [key for key in left if key not in others][:SHARD_ROWS]
            taken = set(keys)
            self.left = [key for key in left if key not in taken]
            return Claim(self.claims.take(keys), keys) if keys else None

    def claim_or_wait(self) -> Claim | None:
        """The same, but None only when nothing is left: other processes may give up, or die, or succeed."""
        while self.left:
            claim = self.claim()
            if claim is not None:
                return claim
            if self.left:
                time.sleep(WAIT)
        return None


def _batches(work: _Work, claim: Claim | None, pending: deque[tuple[str, bool]]) -> Iterator[list[str]]:
    """Batches of `claim`, then of new claims. `pending` is told of each batch: its shard, and is it the last of it?"""
    while claim is not None:
        for start in range(0, len(claim.keys), BATCH):
            pending.append((claim.shard, start + BATCH >= len(claim.keys)))
            yield claim.keys[start : start + BATCH]
        claim = work.claim() if work.left else None


def _keep(shards: ShardFolder, claims: Claims, shard: str, kept: list[Rows]) -> None:
    keys = [key for rows in kept for key in rows.keys]
    with _written(shards):
        if keys:
            shards.write(shard, np.concatenate([rows.rows for rows in kept if rows.keys]), keys)
        claims.release(shard)


@contextmanager
def _written(shards: ShardFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The feature cache {shards.path} cannot be written ({error.strerror or error}): {ADVICE}"
        ) from error
