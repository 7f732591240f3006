"""Unpacking zip archives: all files, and nothing outside of the folder."""

from __future__ import annotations

import contextlib
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.data.download.unzip import unpack_zip
from captioner.errors import CaptionerError, DataError

FILES = {"train2017/1.jpg": b"one" * 1000, "train2017/2.jpg": b"two", "annotations/deep/a.json": b"{}"}


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_unpacks_everything_and_again_nothing(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {**FILES, "empty/": b""})
    folder = tmp_path / "out"
    paths = unpack_zip(archive, folder, progress=False)
    assert paths == [folder / name for name in FILES]
    assert _contents(folder) == FILES
    before = {path: path.stat().st_mtime_ns for path in paths}
    (folder / "train2017/2.jpg").unlink()  # as after an interruption
    unpack_zip(archive, folder, progress=False)
    assert _contents(folder) == FILES
    assert before[paths[0]] == paths[0].stat().st_mtime_ns


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "C:evil", "//server/share/evil"])
def test_names_outside_of_the_folder_are_an_error(tmp_path: Path, name: str) -> None:
    archive = _zip(tmp_path / "a.zip", {"good": b"", name: b"evil"})
    with pytest.raises(DataError, match="is outside of"):
        unpack_zip(archive, tmp_path / "out", progress=False)
    assert _contents(tmp_path).keys() == {"a.zip"}  # not even the valid one


def test_links_are_an_error(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(DataError, match="a link"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out", progress=False)


def test_a_different_existing_file_is_not_changed(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", FILES)
    mine = tmp_path / "out/train2017/2.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine!")
    with pytest.raises(DataError, match="exists and differs"):
        unpack_zip(archive, tmp_path / "out", progress=False)
    assert mine.read_bytes() == b"mine!"


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_damaged_archives_leave_no_damaged_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    archive = _zip(folder / "a.zip", FILES)
    content = bytearray(archive.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    archive.write_bytes(content)
    with contextlib.suppress(CaptionerError):
        unpack_zip(archive, folder / "out", progress=False)
    whole = {path: content for path, content in _contents(folder / "out").items() if not path.endswith(".part")}
    assert set(whole.values()) <= set(FILES.values())
