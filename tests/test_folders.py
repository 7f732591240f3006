"""The folders of tests: removed after a pass, kept after a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.folders import remove_folder

PASSED_AND_FAILED = """
from tests.folders import *
from tests.folders import _numbered_folder
import pytest

@pytest.fixture
def later(tmp_path):
    yield
    assert (tmp_path / "here").exists()  # no folder goes before what uses it has ended

@pytest.fixture
def broken(tmp_path):
    (tmp_path / "here").touch()
    raise ValueError

@pytest.mark.parametrize("right", [True, False])
def test_call(tmp_path, new_folder, later, right):
    (tmp_path / "here").touch()
    (new_folder("other") / "here").touch()
    assert right

def test_setup(broken):
    pass

def test_patched(tmp_path, monkeypatch):
    (tmp_path / "here").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.unlink", None)
    monkeypatch.setattr("os.rmdir", None)
"""


def test_only_folders_of_failed_tests_stay(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(PASSED_AND_FAILED)
    (tmp_path / "pytest.ini").touch()
    command = [sys.executable, "-m", "pytest", "-p", "tests.folders", "-p", "no:cacheprovider", "--basetemp", "base"]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1]))
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "1 failed, 2 passed, 1 error" in ended.stdout
    left = sorted(path.parent.name.rpartition("-")[0] for path in tmp_path.glob("base/**/here"))
    assert left == ["other", "test_call_False_", "test_setup"]


def test_what_a_link_names_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o500)
    (folder := tmp_path / "folder").mkdir()
    (folder / "link").symlink_to(kept)
    remove_folder(folder)
    assert not folder.exists()
    assert kept.stat().st_mode & 0o777 == 0o500


def test_folders_without_rights_go(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").touch()
    (folder / "a" / "b").chmod(0)
    (folder / "a").chmod(0)
    folder.chmod(0o500)
    remove_folder(folder)
    assert not folder.exists()


def test_waits_for_what_still_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files come until the second look, as of a process that has been told to end."""
    (folder := tmp_path / "folder").mkdir()
    looks: list[Path] = []
    rmdir = os.rmdir

    def late(path: str, **options: int) -> None:
        looks.append(folder)
        if len(looks) < 3:
            (folder / f"late-{len(looks)}").touch()
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", late)
    remove_folder(folder)
    assert not folder.exists()
    assert len(looks) == 3


def test_says_what_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "folder").mkdir()
    rmdir = os.rmdir

    def late(path: str, **options: int) -> None:
        (folder / "late").touch()
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", late)
    with pytest.raises(OSError, match=r"something it started still writes in .*folder"):
        remove_folder(folder, patience=0.0)
