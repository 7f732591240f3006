"""What a signal does before there is anything to save, and which of two signals counts."""

from __future__ import annotations

import signal
import threading

import pytest

from captioner.cli.main import run_command
from captioner.distributed.ranks import RankInfo
from captioner.training import signals
from captioner.training.signals import Interrupted, StopRequest, Terminated, sigterm_raises


def ask() -> None:
    signal.raise_signal(signal.SIGTERM)


def test_sigterm_without_anything_to_save_is_143_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run_command(ask) == 143
    assert (
        capsys.readouterr().err == "\nStopped by SIGTERM. Features that were computed so far are kept in the cache.\n"
    )
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_sigterm_would_end_the_process() -> None:
    with sigterm_raises():
        with pytest.raises(Terminated):
            ask()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_no_handler_is_set_in_other_threads() -> None:
    codes: list[int] = []
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        codes.append(run_command(lambda: codes.append(signal.getsignal(signal.SIGTERM) is before)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [True, 0]


def test_a_second_request_stops_at_once() -> None:
    with sigterm_raises(), StopRequest() as stop:
        ask()
        assert stop.signal_number == signal.SIGTERM
        with pytest.raises(Terminated):
            ask()


def test_a_rank_may_get_one_request_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the scheduler and from the launcher; a later one is a second one."""
    now = 0.0
    monkeypatch.setattr(signals, "rank_info", lambda: RankInfo(1, 2))
    monkeypatch.setattr(signals.time, "monotonic", lambda: now)
    with sigterm_raises(), StopRequest() as stop:
        ask()
        now = 1.0
        ask()
        assert stop.signal_number == signal.SIGTERM
        now = 3.0
        with pytest.raises(Terminated):
            ask()


def test_a_request_during_long_work_that_changes_nothing_stops_it() -> None:
    with StopRequest() as stop, pytest.raises(Interrupted), stop.at_once():
        ask()


def test_a_dead_worker_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    def die() -> None:
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")

    assert run_command(die) == 2
    assert "smaller data.num_workers" in capsys.readouterr().err
