"""`python -m captioner data`, and the dispatcher in front of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from captioner.__main__ import COMMANDS
from captioner.__main__ import main as captioner
from captioner.cli.data import main
from captioner.config import FolderConfig
from tests.cli.conftest import Command


def test_check_reports_and_counts(command: Command, tiny: FolderConfig) -> None:
    result = command(main, "check", "data=folder", "data.root=data", "vocabulary.min_count=1")
    assert result.code == 0, result.err
    assert "train" in result.out
    assert "16" in result.out


def test_check_fails_where_an_image_is_broken(command: Command, tiny: FolderConfig) -> None:
    Path("data/003.png").write_bytes(b"")
    result = command(main, "check", "data=folder", "data.root=data")
    assert result.code == 1
    assert "003.png" in result.out


def test_check_of_nothing_is_an_error(command: Command, tmp_path: Path) -> None:
    """Archives with other names, a table without rows, a folder without a table: each says what is there."""
    for folder, name, content in (
        ("shards", "00000.tar", b""),
        ("table", "captions.csv", b"image,caption\n"),
        ("no", "x.txt", b""),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
    shards = command(main, "check", "data=shards", f"data.root={tmp_path / 'shards'}")
    table = command(main, "check", "data=folder", f"data.root={tmp_path / 'table'}")
    no_table = command(main, "check", "data=folder", f"data.root={tmp_path / 'no'}")
    assert [shards.code, table.code, no_table.code] == [1, 1, 1]
    assert "00000.tar" in shards.out
    assert "data.val=" in shards.out
    assert "captions.csv" in table.out
    for result in (shards, table, no_table):
        assert "Found: 1 error\n" in result.out
        assert "No problems found." not in result.out


def test_check_lists_every_fault_of_a_table(command: Command, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("image,caption,split\na.png,x,trian\nb.png,x\n,x,val\n")
    result = command(main, "check", "data=folder", f"data.root={tmp_path}")
    assert result.code == 1
    assert [f"line {number}:" in result.out for number in (1, 2, 3, 4)] == [False, True, True, True]
    assert "Found: 3 errors" in result.out


def test_pack_and_read_again(command: Command, tiny: FolderConfig) -> None:
    """Settings and options in any order; what was packed is checked, and packed again."""
    packed = command(main, "pack", "data=folder", "out=shards", "images_per_shard=6", "data.root=data")
    assert packed.code == 0, packed.err
    assert "train: 16 images in 3 shards" in packed.out
    assert "data=shards data.root=shards" in packed.out
    check = command(main, "check", "data=shards", "data.root=shards", "data.train='train-{00000..00002}.tar'")
    assert check.code == 0, check.err
    assert check.out.split("train ")[1].split()[:2] == ["16", "32"]
    again = command(main, "pack", "splits=[val]", "out=again", "data=shards", "data.root=shards")
    assert "val: 8 images in 1 shards" in again.out
    assert [path.name for path in Path("again").iterdir()] == ["val-00000.tar"]
    assert "already holds shards of train" in command(main, "pack", "data=folder", "data.root=data", "out=shards").err
    given_twice = ("data.train=train-00000.tar", "data.train=train-00001.tar")  # as bash makes of braces
    assert "data.train is given 2 times" in command(main, "check", "data=shards", *given_twice).err


def test_a_disk_that_cannot_hold_the_shards(
    command: Command, tiny: FolderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All splits count together; one byte too few writes nothing, the exact number is enough."""
    pack = ("pack", "data=folder", "data.root=data", "out=new/shards")
    assert command(main, *pack[:-1], "out=elsewhere").code == 0
    needed = sum(path.stat().st_size for path in Path("elsewhere").iterdir())
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    refused = command(main, *pack)
    assert refused.code == 2
    assert "Shards of 32 images need 0.0 GB, but new/shards has 0.0 GB free: name a folder on a larger" in refused.err
    assert not Path("new").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    assert command(main, *pack).code == 0


def test_mistakes(command: Command, tiny: FolderConfig) -> None:
    assert "Did you mean folder" in command(main, "check", "data=foldr").err
    assert "needs --out" in command(main, "download", "coco").err
    assert "needs --name" in command(main, "download", "weights").err
    assert "--root was renamed: use --out" in command(main, "download", "coco", "--root", "DIR").err
    assert "--to is a setting now: write out=DIR" in command(main, "pack", "--to", "DIR").err
    assert "out=… is missing" in command(main, "pack", "data=folder", "data.root=data").err
    assert "Did you mean check" in command(main, "chek").err
    unknown = command(captioner, "trian")
    assert unknown.code == 2
    assert "Did you mean train" in unknown.err


def test_every_command_has_help(command: Command) -> None:
    for name in COMMANDS:
        result = command(captioner, name, "--help")
        assert result.code == 0, result.err
        assert name in result.out or "train.py" in result.out
