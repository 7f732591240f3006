"""`trainer.devices=N` and `devices=N`: start N processes of a command here, watch them, and end them together.

It does what torchrun does for one machine, but prints a single error message. Each process runs
`python -m captioner COMMAND …` with its rank in the environment; this process hosts their key-value store and waits.
Ctrl-C and SIGTERM are forwarded to all of them. When one fails, the others are ended too; when this process is killed,
they notice it, save a checkpoint and stop.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from captioner.distributed.ranks import RankInfo, join_job

LOST_RANK = 3  # exit code of a process that ends only because another one has
LAUNCHED = "CAPTIONER_LAUNCHED"  # set in the environment of the processes that `launch` starts
GRACE = 10.0  # seconds until the other processes are killed
POLL = 0.05
_ENDED_BY_SIGNAL = (130, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)  # exit codes of what did not save
PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class JobFailedError(Exception):
    """A process of the job failed; it has printed the reason unless there is a message here. code: the exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def launch(command: str, options: Sequence[str], count: int) -> int | None:
    """Run `python -m captioner COMMAND OPTIONS` in `count` processes.

    Returns the number of the signal that stopped them, or None. Raises JobFailedError where one of them fails, and
    where SIGTERM has ended them before they could save anything.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it exists at run time

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with _forwarding_signals(processes) as received:
            for rank in range(count):
                if not received:
                    processes.append(_start(command, options, rank, count, store.port))
            failed = _wait(processes)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()  # waits, and closes its input
    if received and len(processes) == count and all(process.returncode == 0 for process in processes):
        return received[0]  # all have saved
    if received and (failed is None or processes[failed].returncode in _ENDED_BY_SIGNAL):
        if received[0] == signal.SIGINT:
            return received[0]
        code = 128 + received[0]
        is_said = any(process.returncode == code for process in processes)  # by a process, as it ended
        raise JobFailedError(code, "" if is_said else "Stopped by SIGTERM, and nothing was saved.")
    if failed is not None:
        raise _explained(failed, processes)
    return None


def join_launched_job() -> RankInfo:
    """Join the job of this process, if it is part of one; the first step of every command that can be distributed."""
    info = join_job()
    if info.rank > 0:  # progress bars appear on terminals only, so this hides those of the other ranks
        sys.stderr = _NoTerminal(sys.stderr.buffer, encoding="utf-8", line_buffering=True)
    if LAUNCHED in os.environ:
        _stop_with_launcher()
    return info


class _NoTerminal(io.TextIOWrapper):
    """A stream that is not a terminal for whoever asks."""

    def isatty(self) -> bool:
        return False


def _stop_with_launcher() -> None:
    """Send this process SIGTERM when the launcher has ended, for whatever reason."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # nothing is written there, so this returns when the launcher closes it
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def program() -> list[str]:
    """The command line that runs captioner here, installed or not."""
    return [sys.executable, "-m", "captioner"]


def _start(command: str, options: Sequence[str], rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    path = os.pathsep.join(filter(None, (str(PACKAGE_PARENT), os.environ.get("PYTHONPATH"))))
    defaults = {"OMP_NUM_THREADS": str(max(1, cores // count))}
    if sys.platform == "linux":
        defaults["GLOO_SOCKET_IFNAME"] = "lo"  # all processes are on this machine
    rank_info = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True, LAUNCHED: 1}
    return subprocess.Popen(
        [*program(), command, *options],
        env={**defaults, **os.environ, "PYTHONPATH": path, **{key: str(v) for key, v in {**rank_info, **job}.items()}},
        stdin=subprocess.PIPE,  # see _stop_with_launcher
        start_new_session=True,  # a terminal's Ctrl-C reaches the launcher only, which forwards it once
    )


@contextmanager
def _forwarding_signals(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """A context that forwards SIGINT and SIGTERM to all processes; yields the list of the signals received."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in processes:
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all have ended, or one has failed and `GRACE` has passed; returns the first rank that failed."""
    deadline: float | None = None
    order: list[int] = []  # ranks that failed, in the order in which they were seen
    while True:
        codes = [process.poll() for process in processes]
        order += [rank for rank, code in enumerate(codes) if code and rank not in order]
        if None not in codes or (deadline is not None and time.monotonic() > deadline):
            return min(order, key=lambda rank: codes[rank] == LOST_RANK) if order else None
        if order and deadline is None:
            deadline = time.monotonic() + GRACE
        time.sleep(POLL)


def _explained(rank: int, processes: Sequence[subprocess.Popen[bytes]]) -> JobFailedError:
    code = processes[rank].returncode
    stopped = [number for number, process in enumerate(processes) if process.returncode == 0]
    if code == LOST_RANK and stopped:  # a signal to one of them, while it could not ask the others to stop as well
        of_all = f"Process {stopped[0]} of {len(processes)} was stopped by a signal to it alone, so the job was ended."
        return JobFailedError(128 + signal.SIGTERM, of_all)
    if code > 0:  # it has printed its message
        return JobFailedError(code, "")
    name = signal.Signals(-code).name
    reason = " (the system does so when memory runs out)" if name == "SIGKILL" else ""
    message = f"Process {rank} of {len(processes)} was killed by {name}{reason}, so the job was ended."
    return JobFailedError(128 - code, message)
