"""Processes beside this one: they find this package, say nothing, and end with the block."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import captioner
from captioner.helper_process import helpers

HERE = Path(captioner.__file__).parent


def test_helpers_import_this_captioner_and_print_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = (
        "import captioner, sys; print('x'); open(sys.argv[1], 'w').write(captioner.__file__); "
        "sys.exit(int(sys.argv[2]))"
    )
    commands = [["-c", code, str(tmp_path / str(status)), str(status)] for status in (0, 3)]
    with helpers(commands) as started:
        assert [helper.succeeded() for helper in started] == [True, False]
    assert {Path((tmp_path / name).read_text()).parent for name in "03"} == {HERE}
    assert capfd.readouterr() == ("", "")


def test_helpers_end_with_the_block_also_when_it_fails() -> None:
    with pytest.raises(RuntimeError), helpers([["-c", "import time; time.sleep(600)"]] * 2) as started:
        raise RuntimeError
    assert [helper.succeeded() for helper in started] == [False, False]


def test_one_that_cannot_start_has_not_succeeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with helpers([["-c", ""]]) as (helper,):
        assert not helper.succeeded()
