"""`python -m captioner data`, and the dispatcher in front of it."""

from __future__ import annotations

from pathlib import Path

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


def test_check_fails_where_a_picture_is_broken(command: Command, tiny: FolderConfig) -> None:
    Path("data/003.png").write_bytes(b"")
    result = command(main, "check", "data=folder", "data.root=data")
    assert result.code == 1
    assert "003.png" in result.out


def test_mistakes(command: Command, tiny: FolderConfig) -> None:
    assert "Did you mean folder" in command(main, "check", "data=foldr").err
    assert "needs --root" in command(main, "download", "coco").err
    assert "needs --name" in command(main, "download", "weights").err
    unknown = command(captioner, "trian")
    assert unknown.code == 2
    assert "Did you mean train" in unknown.err


def test_every_command_has_help(command: Command) -> None:
    for name in COMMANDS:
        result = command(captioner, name, "--help")
        assert result.code == 0, result.err
        assert name in result.out or "train.py" in result.out
