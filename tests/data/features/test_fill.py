"""Several processes fill one cache: nothing is lost, no incomplete shard is used, nothing is computed twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.data.features import fill as filling
from captioner.data.features import locks as claims_module
from captioner.data.features.fill import FeatureRows, fill
from captioner.data.features.locks import ShardLocks
from captioner.data.features.storage import FeatureShardFolder
from captioner.errors import DataError
from tests.data.features.filler import ROW_SHAPE, row


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "cache"
    made.mkdir()
    return made


def start(folder: Path, first: int, last: int, pause: float, *die_after: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "tests.data.features.filler", folder, first, last, pause, *die_after]
    pipe = subprocess.PIPE
    return subprocess.Popen([str(argument) for argument in arguments], stdin=pipe, stdout=pipe, text=True)


def release(process: subprocess.Popen[str]) -> None:
    """Wait until the process is ready, and start it."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def read_all(folder: Path) -> dict[str, np.ndarray]:
    """All rows in complete shards; checksums are verified."""
    shards = FeatureShardFolder(folder, ROW_SHAPE)
    shards.refresh()
    opened = {name: shards.open(name) for name in {name for name, _ in shards.index.values()}}
    return {key: opened[name][place] for key, (name, place) in shards.index.items()}


def computed(folder: Path, process: subprocess.Popen[str]) -> list[str]:
    return (folder.parent / f"computed-{process.pid}").read_text().split()


def files(folder: Path) -> set[str]:
    """The suffixes of the files in the folder."""
    return {path.name.split(".", 1)[1] for path in folder.iterdir() if path.name != "lock"}


def test_three_processes_of_which_one_is_killed(folder: Path) -> None:
    """Overlapping keys; the first process is killed between a shard's data and its listing; others read."""
    killed = start(folder, 0, 120, 0.004, 1)
    running = [start(folder, 0, 160, 0.004), start(folder, 40, 200, 0.004)]
    release(killed)
    log = folder.parent / f"computed-{killed.pid}"
    while not log.exists() or len(log.read_text().split()) <= 8:  # until it reaches the shard at which it is killed
        time.sleep(0.001)
    for process in running:
        release(process)
    seen: dict[str, np.ndarray] = {}
    while any(process.poll() is None for process in running):
        now = read_all(folder)
        assert seen.keys() <= now.keys()
        assert all(np.array_equal(rows, row(key)) for key, rows in now.items())
        seen = now
    for process in (killed, *running):
        process.communicate()
    assert killed.returncode == -9
    assert [process.returncode for process in running] == [0, 0]

    found = read_all(folder)
    assert found.keys() == {str(number) for number in range(200)}
    assert all(np.array_equal(rows, row(key)) for key, rows in found.items())
    times = Counter(key for process in (killed, *running) for key in computed(folder, process))
    twice = [key for key, count in times.items() if count > 1]
    assert max(times.values()) <= 2
    assert set(twice) <= set(computed(folder, killed))
    assert 0 < len(twice) <= 8  # the unfinished shard of the killed process
    assert min(len(computed(folder, process)) for process in running) > 0
    assert files(folder) == {"f16", "json"}, "no claim and no part of a file is left behind"


@given(
    wanted=st.lists(st.integers(0, 30), max_size=40, unique=True),
    there=st.sets(st.integers(0, 30)),
    bad=st.sets(st.integers(0, 30)),
    ahead=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_all_wanted_keys_are_computed_whatever_was_stored(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[int], there: set[int], bad: set[int], ahead: int
) -> None:
    """ahead: the number of batches requested before the first is returned, as with worker processes."""
    folder = tmp_path_factory.mktemp("cache")
    asked: list[str] = []

    def produce(batches: Iterator[list[str]]) -> Iterator[FeatureRows]:
        waiting: list[list[str]] = []
        for keys in batches:
            asked.extend(keys)
            waiting.append(keys)
            if len(waiting) > ahead:
                yield compute(waiting.pop(0))
        yield from map(compute, waiting)

    def compute(keys: list[str]) -> FeatureRows:
        good = [key for key in keys if int(key) not in bad]
        rows = np.stack([row(key) for key in good]) if good else np.empty((0, *ROW_SHAPE), np.float16)
        return FeatureRows(good, rows, {key: "damaged" for key in keys if int(key) in bad})

    shards = FeatureShardFolder(folder, ROW_SHAPE)
    if there:
        shards.write("shard-before", np.stack([row(str(key)) for key in there]), [str(key) for key in there])
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "SHARD_ROWS", 8)
        patch.setattr(filling, "BATCH", 2)
        found_bad = fill(FeatureShardFolder(folder, ROW_SHAPE), [str(key) for key in wanted], produce, advance)
    assert set(found_bad) == {str(key) for key in wanted if key in bad and key not in there}
    assert sorted(asked) == sorted(str(key) for key in wanted if key not in there)
    assert done == len(wanted)
    found = read_all(folder)
    assert found.keys() == {str(key) for key in there | (set(wanted) - bad)}
    assert all(np.array_equal(rows, row(key)) for key, rows in found.items())
    assert files(folder) <= {"f16", "json"}


def test_locks_of_running_processes_are_respected_and_those_of_dead_ones_removed(folder: Path) -> None:
    ours, theirs = ShardLocks(folder), ShardLocks(folder)
    with theirs.exclusive():
        name = theirs.lock_new_shard(["1", "2"])
    (folder / f"{name}.f16").write_bytes(b"half")
    (folder / f".{name}.f16.abc.tmp").write_bytes(b"a quarter")
    (folder / "shard-old.f16").write_bytes(b"its listing was deleted")
    with ours.exclusive():
        assert ours.keys_locked_elsewhere() == {"1", "2"}
    assert {path.name for path in folder.iterdir()} == {"lock", f"{name}.claim", f"{name}.f16", f".{name}.f16.abc.tmp"}
    theirs._files[name].close()  # as the operating system does when a process ends
    with ours.exclusive():
        assert ours.keys_locked_elsewhere() == set()
    assert {path.name for path in folder.iterdir()} == {"lock"}


def test_an_incomplete_lock_file_of_a_dead_process_is_removed(folder: Path) -> None:
    (folder / "shard-1.claim").write_text('["1", "2')
    with ShardLocks(folder) as locks, locks.exclusive():
        assert locks.keys_locked_elsewhere() == set()
    assert not (folder / "shard-1.claim").exists()


def test_locks_are_released_after_an_error(folder: Path) -> None:
    def fail(batches: Iterator[list[str]]) -> Iterator[FeatureRows]:
        next(batches)
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        fill(FeatureShardFolder(folder, ROW_SHAPE), ["1"], fail)
    assert files(folder) == set()


@pytest.mark.parametrize("broken", ["lock", "json"])
def test_a_folder_without_locks_or_space_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    if broken == "lock":
        monkeypatch.setattr(claims_module, "lock_open_file", refuse)
    else:
        monkeypatch.setattr(claims_module.json, "dump", refuse)
    with pytest.raises(DataError, match=r"cache .*cannot be written \(Operation not supported\): name another folder"):
        fill(FeatureShardFolder(folder, ROW_SHAPE), ["1"], lambda batches: iter(()))


def test_constants_fit_each_other() -> None:
    """A shard consists of full batches."""
    assert filling.SHARD_ROWS % filling.BATCH == 0


class CountedLookups(dict[str, tuple[str, int]]):
    """The index of a cache, which counts how often a key is looked up."""

    lookups = 0

    def __contains__(self, key: object) -> bool:
        self.lookups += 1
        return super().__contains__(key)


def test_every_key_is_looked_at_a_few_times_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time per image does not grow with the number of shards."""
    monkeypatch.setattr(filling, "SHARD_ROWS", 4)
    index = CountedLookups()
    shards = FeatureShardFolder(folder, ROW_SHAPE, index)
    keys = [f"{number}" for number in range(400)]

    def produce(batches: Iterator[list[str]]) -> Iterator[FeatureRows]:
        for batch in batches:
            yield FeatureRows(batch, np.stack([row(key) for key in batch]), {})

    finished: list[int] = []
    assert fill(shards, keys, produce, finished.append) == {}
    assert read_all(folder).keys() == set(keys)
    assert sum(finished) == len(keys)
    assert index.lookups <= 2 * len(keys)
