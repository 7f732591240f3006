"""Every writer, ended at every event that changes the disk: old or new content, nothing in between, nothing left.

Events are Python's audit events of files (open for writing, rename, remove, mkdir, rmdir) and `os.fsync`. A process
that is killed at one of them does nothing after it, so from there on every event raises, also in `finally` blocks. A
full disk only refuses what takes space.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from captioner import files
from captioner.checkpoint.archive import pack_export
from captioner.checkpoint.export import CARD_FILE, new_export
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.datasets.tar_shards.pack import pack_shards
from captioner.data.features.fill import FeatureRows, fill
from captioner.data.features.storage import FeatureShardFolder
from captioner.errors import CaptionerError
from captioner.files import FORGOTTEN, atomic_folder, is_unfinished, remove_leftovers, temporary_beside, write_json

ROOT = Path(__file__).resolve().parents[1]
SPACE = ("open", "os.mkdir", "os.rename", "fsync")  # events that a full disk refuses
CHANGES = (*SPACE, "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate")


class KilledError(BaseException):
    """The process has ended: nothing may catch it."""


class _Injection:
    """Raises `error` at event number `at`; at every later one too if `is_final`."""

    def __init__(self) -> None:
        self.events, self.at, self.is_final = 0, 0, True
        self.error: Callable[[], BaseException] | None = None
        self.kinds: tuple[str, ...] = CHANGES

    def event(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.error is None or name not in self.kinds or (name == "open" and not _writes(arguments)):
            return
        self.events += 1
        if self.events == self.at or (self.is_final and self.events > self.at):
            raise self.error()


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = arguments
    if not isinstance(path, (str, bytes)) or "__pycache__" in str(path):
        return False
    return any(mark in (mode or "") for mark in "wax+") or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


INJECTION = _Injection()
_is_watching: list[bool] = []


@contextmanager
def failing(at: int, error: Callable[[], BaseException], kinds: tuple[str, ...] = CHANGES) -> Iterator[_Injection]:
    if not _is_watching:  # an audit hook cannot be removed, so there is one
        sys.addaudithook(INJECTION.event)
        _is_watching.append(True)
    INJECTION.events, INJECTION.at, INJECTION.error, INJECTION.kinds = 0, at, error, kinds
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        INJECTION.event("fsync", ())
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", watched)
        try:
            yield INJECTION
        finally:
            INJECTION.error = None


@contextmanager
def as_process(number: int) -> Iterator[None]:
    """Temporary names are those of another process, for whom nothing has been looked at yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "getpid", lambda: number)
        patch.setattr(files, "_looked_at", set())
        yield


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# ---------------------------------------------------------------------------------- the writers


class Writer(NamedTuple):
    """`write(folder, version)` writes content that depends on the version; `target` is what others read.

    replaces: whether a target that exists is replaced, or written only where there is none.
    """

    target: str
    write: Callable[[Path, int], None]
    replaces: bool = True


def _json(folder: Path, version: int) -> None:
    write_json(folder / "file.json", {"version": version})


def _pack(folder: Path, version: int) -> None:
    images = []
    for index in range(3):
        path = folder / f"{index}.png"
        if not path.exists():
            Image.new("RGB", (2, 2), (index, 0, 0)).save(path)
        images.append(CaptionedImage(index, path, (f"caption {index}",)))
    pack_shards(CaptionDataset("set", "train", tuple(images)), folder / "shards", 2)


def _export(folder: Path, version: int) -> None:
    with new_export(folder / "export", replace_export=True) as new:
        (new / CARD_FILE).write_text(f"{version}")
        write_json(new / "metrics.json", {"version": version})


def _archive(folder: Path, version: int, ending: str) -> None:
    if not (folder / f"in{version}" / "card.md").exists():
        (folder / f"in{version}").mkdir(exist_ok=True)
        (folder / f"in{version}" / "card.md").write_text(f"{version}")
    pack_export(folder / f"in{version}", folder / f"model{ending}")


def _folder(folder: Path, version: int) -> None:
    if (folder / "new").exists():  # its callers do not replace a folder
        return
    with atomic_folder(folder / "new") as new:
        (new / "inner").mkdir()
        (new / "inner" / "file").write_text("content")


def _cache(folder: Path, version: int) -> None:
    (folder / "cache").mkdir(exist_ok=True)

    def produce(batches: Iterator[list[str]]) -> Iterator[FeatureRows]:
        for keys in batches:
            yield FeatureRows(keys, np.full((len(keys), 1, 2), 7, np.float16), {})

    shards = FeatureShardFolder(folder / "cache", (1, 2))
    shards.refresh()
    fill(shards, ["a", "b", "c"], produce)


WRITERS = {
    "a JSON file": Writer("file.json", _json),
    "data pack": Writer("shards", _pack, replaces=False),
    "export": Writer("export", _export),
    "export --out model.zip": Writer("model.zip", lambda folder, version: _archive(folder, version, ".zip")),
    "export --out model.tar.gz": Writer("model.tar.gz", lambda folder, version: _archive(folder, version, ".tar.gz")),
    "import, METEOR's index": Writer("new", _folder, replaces=False),
    "the feature cache": Writer("cache", _cache, replaces=False),
}


def content(target: Path) -> dict[str, bytes] | None:
    """The files that a reader sees; None where there is nothing."""
    if target.is_file():
        return {"": target.read_bytes()}
    found = [path for path in target.rglob("*") if path.is_file() and not is_unfinished(path)]
    ours = {str(path.relative_to(target)): path.read_bytes() for path in found if path.suffix != ".unfinished"}
    return ours or None


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def cache_is_whole(folder: Path) -> bool:
    """Every listed shard can be opened."""
    shards = FeatureShardFolder(folder / "cache", (1, 2))
    shards.refresh()
    return all(len(shards.open(name)) == 3 for name, _ in shards.index.values())


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_that_is_killed_at_any_event(name: str, tmp_path: Path, dead: int) -> None:
    writer, kills, at = WRITERS[name], 0, 1
    expected: list[dict[str, bytes] | None] = []
    for version in (1, 2):  # what an undisturbed writer makes
        whole = tmp_path / f"whole{version}"
        whole.mkdir()
        writer.write(whole, version)
        expected.append(content(whole / writer.target))
    while True:
        folder = tmp_path / f"{at}"
        folder.mkdir()
        target = folder / writer.target
        if writer.replaces:
            writer.write(folder, 1)
        before = content(target)
        with as_process(dead):
            try:
                with failing(at, KilledError):
                    writer.write(folder, 2)
            except KilledError:
                kills += 1
            else:
                break
        found = content(target)
        if name == "the feature cache":
            assert cache_is_whole(folder)
        elif name == "data pack":  # shard by shard: each is whole
            assert all((expected[1] or {})[file] == found for file, found in (found or {}).items())
        elif name == "export":  # between two renames there is none: the next export has the old one again
            assert found in (before, expected[1], None)
        else:
            assert found in (before, expected[1])
        with as_process(os.getppid()):
            writer.write(folder, 2)
        if name == "the feature cache":
            assert cache_is_whole(folder)
            assert not [path for path in leftovers(folder) if path.endswith(".tmp")]
        else:
            assert content(target) == expected[1]
            assert leftovers(folder) == []
        at += 1
    assert kills >= 4


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_or_read_only(name: str, tmp_path: Path, code: int) -> None:
    """A message that names the target and the reason; what was there is still there, and nothing else."""
    writer, at = WRITERS[name], 1

    def error() -> OSError:
        return OSError(code, os.strerror(code))

    while True:
        folder = tmp_path / f"{at}"
        folder.mkdir()
        target = folder / writer.target
        if writer.replaces:
            writer.write(folder, 1)
        before = content(target)
        failed: Exception | None = None
        with failing(at, error, SPACE) as injection:
            try:
                writer.write(folder, 2)
            except (OSError, CaptionerError) as raised:
                failed = raised
        if failed is None:
            assert injection.events < at
            break
        assert os.strerror(code) in str(failed)
        if name not in ("the feature cache", "data pack"):
            kept = target.with_name(f".{target.name}.replaced")  # where not even a rename is possible any more
            assert (content(target) or content(kept)) == before
            assert leftovers(folder) in ([], [kept.name])
        else:
            assert not [left for left in leftovers(folder) if left.endswith(".tmp")]
        at += 1
    assert at > 3


# ---------------------------------------------------------------------------------- leftovers


def test_only_leftovers_of_dead_processes_are_removed(tmp_path: Path, dead: int) -> None:
    with as_process(dead):
        left = [temporary_beside(tmp_path / name) for name in ("file", "folder")]
    left[0].write_text("half")
    left[1].mkdir()
    (left[1] / "half").write_text("half")
    with as_process(os.getppid()):
        running = temporary_beside(tmp_path / "file")
    running.write_text("half")
    foreign = tmp_path / f".file.00000000-{dead}-1.tmp"
    foreign.write_text("of another machine")
    others = [tmp_path / ".mine.tmp", tmp_path / ".a.0123abcd.tmp", tmp_path / "notes.tmp"]
    for other in others:
        other.write_text("not ours")
    with as_process(os.getpid()):
        remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([running, foreign, *others])
    os.utime(foreign, (0, foreign.stat().st_mtime - 2 * FORGOTTEN))
    with as_process(os.getpid()):
        remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([running, *others])


def test_long_and_foreign_names_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 250, "é" * 120, os.fsdecode(b"\xff.json")):
        write_json(tmp_path / name, [1])
    assert len(list(tmp_path.iterdir())) == 3


def test_the_old_export_comes_back(tmp_path: Path) -> None:
    """Killed between the two renames, and then an export that fails."""
    _export(tmp_path, 1)
    (tmp_path / "export").rename(tmp_path / ".export.replaced")
    with pytest.raises(ZeroDivisionError), new_export(tmp_path / "export", replace_export=True):
        raise ZeroDivisionError
    assert (tmp_path / "export" / CARD_FILE).read_text() == "1"
    assert leftovers(tmp_path) == []


DIRECT = {
    "captioner/files.py": "it is the atomic writer",
    "captioner/checkpoint/archive.py": "unpacks into a temporary folder; packs inside atomic_file",
    "captioner/checkpoint/checkpoint.py": "inside the temporary folder of a checkpoint",
    "captioner/checkpoint/export.py": "inside the temporary folder of new_export",
    "captioner/checkpoint/onnx/quantize.py": "inside a temporary folder",
    "captioner/checkpoint/onnx/write.py": "inside the temporary folder of new_onnx_folder",
    "captioner/checkpoint/weights.py": "inside the temporary folder of new_export or of a checkpoint",
    "captioner/demo/web/model_files.py": "inside the temporary folder of replacing_folder",
    "captioner/demo/web/site.py": "inside the temporary folder of replacing_folder",
    "captioner/text/vocabulary.py": "inside the temporary folder of a checkpoint",
    "captioner/training/logs.py": "appends; a resumed run truncates the logs to the sizes in its checkpoint",
    "captioner/training/tensorboard.py": "appends, as the logs",
    "captioner/metrics/spice.py": "input of a Java process in a temporary folder",
    "captioner/data/download/http.py": "a .part file, which the next download continues",
    "captioner/data/download/unzip.py": "a .part file, which the next run overwrites",
    "captioner/data/features/locks.py": "lock files",
    "captioner/data/datasets/tar_shards/pack.py": "the mark of an unfinished pack, locked while it is open",
    "captioner/data/synthetic/scenes/generate_scenes.py": "inside the temporary folder of the scenes",
    "captioner/cli/captions_file.py": "appends, under a lock; the next command cuts an unfinished line off",
    "captioner/cli/write_reference.py": "for developers: files under version control",
    "captioner/cli/yaml_comments.py": "for developers: files under version control",
    "captioner/data/datasets/layouts/registry.py": "a piece of a message",
}
"""Modules that write files themselves → why this is safe."""


def test_who_writes_files_directly_has_a_reason() -> None:
    direct = re.compile(r"\.write_(text|bytes)\(|open\(\"[wxa]|\.open\(\"[wxa]")
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "captioner").rglob("*.py")
        if direct.search(path.read_text(encoding="utf-8"))
    }
    assert found == set(DIRECT)


PACKING = """
import sys
from pathlib import Path
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.datasets.tar_shards.pack import pack_shards
image = Path(sys.argv[1])
images = tuple(CaptionedImage(index, image, (f"caption {index}",)) for index in range(int(sys.argv[3])))
pack_shards(CaptionDataset("set", "train", images), Path(sys.argv[2]), 1000)
"""


@pytest.mark.slow
def test_a_real_kill_of_a_pack(tmp_path: Path) -> None:
    """SIGKILL when the second shard is being written; the next pack is that of a process that was never killed."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "image.png")
    count, out = 30_000, tmp_path / "out"
    command = [sys.executable, "-c", PACKING, str(tmp_path / "image.png"), str(out), str(count)]
    process = subprocess.Popen(command, cwd=ROOT)
    while not list(out.glob(".train-00001.tar.*.tmp")):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert [name for name in leftovers(out) if name.endswith(".tmp")]
    images = tuple(CaptionedImage(index, tmp_path / "image.png", (f"caption {index}",)) for index in range(3000))
    pack_shards(CaptionDataset("set", "train", images), out, 1000)
    assert sorted(path.name for path in out.iterdir()) == [f"train-0000{number}.tar" for number in range(3)]
