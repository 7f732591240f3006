"""Atomic writes: after any failure a file has its old or its new content."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from captioner.files import flush_folder, write_atomically, write_json


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The disk is full, or Ctrl-C is pressed, before the new content is in place."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync") or fsync(descriptor))
    monkeypatch.setattr(Path, "replace", lambda self, target: calls.append("replace") or replace(self, target))
    write_atomically(tmp_path / "file", b"new")
    assert calls == ["fsync", "replace"]


def test_json_is_readable_utf_8(tmp_path: Path) -> None:
    value = {"café": [1, 2.5, None], "犬": "a\nb"}
    write_json(tmp_path / "file.json", value)
    text = (tmp_path / "file.json").read_bytes().decode("utf-8")
    assert json.loads(text) == value
    assert "café" in text
    assert text.endswith("}\n")


def test_what_is_no_json_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, [object()])
    assert json.loads(path.read_text()) == [1]


def test_flushing_a_folder_flushes_its_files_and_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    (tmp_path / "inner").mkdir()
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    flush_folder(tmp_path)
    assert sorted(flushed) == sorted(path.stat().st_ino for path in (tmp_path, tmp_path / "one", tmp_path / "two"))
    assert flushed[-1] == tmp_path.stat().st_ino


def test_flushing_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").write_text("one")
    descriptors: list[int] = []
    monkeypatch.setattr(os, "fsync", descriptors.append)
    flush_folder(tmp_path)
    assert len(descriptors) == 2
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
