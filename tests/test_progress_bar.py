"""What a long command says of how far it is, where standard error is a file and where it is a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from captioner.progress_bar import EVERY, Progress, format_duration


@pytest.fixture(autouse=True)
def _shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)


class Clock:
    """Seconds that only the test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_file_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(1000, "captions", clock=clock) as progress:
        for _ in range(3):
            clock.now += EVERY / 2
            progress.update(15)
        assert capsys.readouterr().err == "captions: 30 of 1,000 images, 1 per second, 16 min left\n"
        progress.show("loss 2.5")
        clock.now += EVERY / 2
        progress.update(15)
        assert capsys.readouterr().err == "captions: 60 of 1,000 images, 1 per second, 16 min left, loss 2.5\n"
        progress.note("error: x.jpg is empty")
        clock.now += EVERY * 31
        progress.update(940)
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == (
        "",
        ["error: x.jpg is empty", "captions: 1,000 of 1,000 images, 1.01 per second, loss 2.5"],
    )


def test_what_was_done_before_does_not_count_for_the_speed(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(300, "epoch 2/8", "batch", initial=200, clock=clock) as progress:
        clock.now += EVERY
        progress.update(60)
    assert capsys.readouterr().err == "epoch 2/8: 260 of 300 batches, 2 per second, 20 s left\n"


def test_a_short_command_and_one_without_progress_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for enabled, seconds in ((True, EVERY - 1), (False, 10 * EVERY)):
        clock = Clock()
        with Progress(5, "captions", enabled=enabled, clock=clock) as progress:
            clock.now += seconds
            progress.update(5)
    assert capsys.readouterr().err == ""


def test_the_environment_turns_it_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    clock = Clock()
    with Progress(5, "captions", clock=clock) as progress:
        clock.now += 10 * EVERY
        progress.update(5)
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(4, "captions", keep=True) as progress:
        progress.show("loss 2.5")
        progress.note("error: x.jpg is empty")
        progress.update(4)
    assert "captions: 100%" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert "loss 2.5" in terminal.getvalue()
    assert "error: x.jpg is empty\n" in terminal.getvalue()


def test_durations() -> None:
    assert [format_duration(seconds) for seconds in (0, 7.4, 99, 101, 150, 5999, 7200, 9000)] == [
        "0 s",
        "7 s",
        "99 s",
        "2 min",
        "2 min",
        "100 min",
        "2.0 h",
        "2.5 h",
    ]
