"""caption.py --out: many photos to one file, stopped, continued, refused where the file is not its own."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from captioner import Captioner
from captioner.cli import captions_file
from captioner.cli.caption import main
from captioner.cli.captions_file import CaptionsFile, describe_resumed
from captioner.config import FolderConfig
from captioner.errors import CaptionerError
from captioner.progress_bar import Progress
from tests.cli.conftest import Command

MADE_BY = {"model": "m", "search": {"name": "beam"}}


def records(path: str = "captions.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_a_folder_is_captioned_as_its_photos_are_one_by_one(
    command: Command, tiny: FolderConfig, tiny_run: Path
) -> None:
    shutil.copytree("data", "photos", ignore=lambda folder, names: [n for n in names if n > "009.png"])
    options = ("--checkpoint", str(tiny_run), "--device", "cpu", "--alternatives", "1")
    done = command(main, "photos", *options, "--out", "captions.jsonl")
    assert (done.code, done.out) == (0, ""), done.err
    assert "Written: 10 captions to captions.jsonl" in done.err
    alone = [json.loads(command(main, f"photos/{n:03}.png", *options, "--json").out) for n in range(10)]
    for record, expected in zip(records(), alone, strict=True):
        assert record.pop("model").startswith(f"{tiny_run} ")
        assert record.pop("search")["alternatives"] == 1
        assert record.keys() == expected.keys()
        assert record["log_prob"] == pytest.approx(expected["log_prob"], abs=1e-4)
        assert {**record, "log_prob": 0, "alternatives": 0} == {**expected, "log_prob": 0, "alternatives": 0}
        assert record["alternatives"][0]["caption"] == expected["alternatives"][0]["caption"]


def test_a_stopped_command_goes_on_where_it_was(
    command: Command, tiny: FolderConfig, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by Ctrl-C after five captions, the sixth half written; a photo is gone by then, and one is damaged."""
    options = ("data", "--checkpoint", str(tiny_run), "--device", "cpu", "--out")
    assert command(main, *options, "whole.jsonl").code == 0

    def stop_at_six(progress: Progress, count: int = 1) -> None:
        progress.done += count
        if progress.done == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(captions_file.Progress, "update", stop_at_six)
        stopped = command(main, *options, "captions.jsonl")
    assert stopped.code == 130
    assert "The captions so far are in captions.jsonl; the same command goes on from there." in stopped.err
    assert [record["path"] for record in records()] == [f"data/{n:03}.png" for n in range(5)]
    with Path("captions.jsonl").open("a") as file:
        file.write('{"path": "data/005.png", "cap')
    Path("data/002.png").unlink()
    content = Path("data/020.png").read_bytes()
    Path("data/020.png").write_bytes(content[:100])
    second = command(main, *options, "captions.jsonl")
    assert second.code == 2
    assert "captions.jsonl has the captions of 4 of these photos already" in second.err
    assert "1 that are not among them now, such as data/002.png; their lines are kept" in second.err
    assert "020.png cannot be decoded" in second.err
    assert "1 of 31 images could not be read; the others are captioned." in second.err
    Path("data/020.png").write_bytes(content)
    third = command(main, *options, "captions.jsonl")
    assert third.code == 0, third.err
    assert "Written: 1 caption to captions.jsonl" in third.err
    key = lambda record: record["path"]  # noqa: E731
    found = sorted(records(), key=key)
    for record, expected in zip(found, sorted(records("whole.jsonl"), key=key), strict=True):
        assert record["caption"] == expected["caption"]
        assert record["log_prob"] == pytest.approx(expected["log_prob"], abs=1e-4)
    before = Path("captions.jsonl").read_bytes()
    assert command(main, *options, "captions.jsonl", "--beam-width", "2").code == 2
    other = command(main, *options, "captions.jsonl", "--beam-width", "2")
    assert 'line 1 has search={"name": "beam"' in other.err
    assert Path("captions.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"image_id": 1, "caption": "a"}\n', "line 1 is no caption that this command wrote"),
        ("# Notes\n", "line 1 is no caption that this command wrote"),
        ('{"path": "a", "caption": "b", "model": "m", "search": {"name": "beam"}}\n[1]\n', "line 2 is no caption"),
        ('{"path": "a", "caption": "b", "model": "n", "search": {"name": "beam"}}\n', 'has model="n"'),
        ('{"path": "a", "caption": "b", "model": "m"}\n', "has search=null"),
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text(content)
    with pytest.raises(CaptionerError, match=message.replace("[", r"\[")):
        CaptionsFile(path, MADE_BY)
    assert path.read_text() == content


def test_two_commands_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    with CaptionsFile(path, MADE_BY), pytest.raises(CaptionerError, match="is being written by another command"):
        CaptionsFile(path, MADE_BY)
    with CaptionsFile(path, MADE_BY) as again:
        assert again.done == set()


@pytest.mark.skipif(sys.platform == "win32", reason="paths are text there")
def test_a_path_that_is_no_text_is_found_again(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    with CaptionsFile(tmp_path / "captions.jsonl", MADE_BY) as file:
        file.write({"path": name, "caption": "ein Hund läuft"})
        file.write({"path": "é.jpg", "caption": "ein Hund läuft"})
    with CaptionsFile(tmp_path / "captions.jsonl", MADE_BY) as again:
        assert again.done == {name, "é.jpg"}
    assert "läuft" in (tmp_path / "captions.jsonl").read_text(encoding="utf-8")
    assert describe_resumed(Path("c"), set(), []) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "nowhere/c.jsonl"], "nowhere does not exist"),
        (["--out", "data"], "--out data is no ordinary file"),
        (["--out", "/dev/null"], "--out /dev/null is no ordinary file"),
        (["--out", "c.jsonl", "--json"], "--json has no effect with --out"),
        (["--out", "c.jsonl", "--plot", "p.png"], "Leave one out"),
        (["--out", "c.jsonl", "--score", "a dog"], "--out c.jsonl has no effect with --score"),
    ],
)
def test_mistakes(command: Command, tiny: FolderConfig, options: list[str], message: str) -> None:
    result = command(main, "data", *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not Path("c.jsonl").exists()


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with CaptionsFile(tmp_path / "full.jsonl", MADE_BY) as file, monkeypatch.context() as patch:
        patch.setattr(file, "_file", Full())
        with pytest.raises(OSError, match=r"No space left.*full\.jsonl"):
            file.write({"path": "a", "caption": "b"})


def test_memory_does_not_grow_with_the_number_of_photos(tiny: FolderConfig, tiny_run: Path) -> None:
    """At no time are more photos loaded than two batches and what is being encoded and searched."""
    captioner = Captioner.from_checkpoint(tiny_run, device="cpu")
    opened = 0

    def paths() -> Any:
        nonlocal opened
        for number in range(60):
            opened += 1
            yield Path(tiny.root, f"{number % 32:03}.png")

    for number, _ in enumerate(captioner.caption_each(paths(), decode="greedy", batch_size=4)):
        assert opened <= number + 1 + 6 * 4
    assert opened == 60
