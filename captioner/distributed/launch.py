"""`trainer.devices=N`: N processes of one command, started, watched and ended together.

What torchrun does for a job on one machine, with one message where something fails: each process runs
`python -m captioner COMMAND …` with its place in the environment, and this one keeps their store and waits.
A person's Ctrl-C or a SIGTERM is handed on to all. When a process ends badly the others are ended too, and when this
one is killed they notice, save and stop.
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

LOST_RANK = 3  # the exit code of a process that ends because another one has: never the reason
LAUNCHED = "CAPTIONER_LAUNCHED"  # set in the environment of processes that were started here
GRACE = 10.0  # seconds that the others have to end by themselves, before they are killed
POLL = 0.05
PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class JobFailedError(Exception):
    """A process of the job ended badly, and has said why unless there is a message here; `code` is for the shell."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def launch(command: str, options: Sequence[str], count: int) -> int | None:
    """Run `python -m captioner COMMAND OPTIONS` in `count` processes; returns the signal that stopped them, if one did.

    Raises JobFailedError where one of them fails.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is there

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with _forwarding_signals(processes) as asked:
            for rank in range(count):
                processes.append(_start(command, options, rank, count, store.port))
            failed = _wait(processes)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()  # waits, and closes its input
    if asked and (failed is None or processes[failed].returncode in (130, -asked[0])):
        return asked[0]
    if failed is not None:
        raise _explained(failed, processes)
    return None


def join_launched_job() -> RankInfo:
    """What every command that may run in several processes does first: nothing where it runs alone."""
    place = join_job()
    if place.rank > 0:  # progress bars are drawn on terminals only: by the first process
        sys.stderr = _NoTerminal(sys.stderr.buffer, encoding="utf-8", line_buffering=True)
    if LAUNCHED in os.environ:
        _stop_with_launcher()
    return place


class _NoTerminal(io.TextIOWrapper):
    """A stream that says it is no terminal, though it may be."""

    def isatty(self) -> bool:
        return False


def _stop_with_launcher() -> None:
    """Behave as after SIGTERM when the launcher is gone, however it went."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # nothing is ever written there: this returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def program() -> list[str]:
    """What runs captioner's commands here, installed or not."""
    return [sys.executable, "-m", "captioner"]


def _start(command: str, options: Sequence[str], rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    path = os.pathsep.join(filter(None, (str(PACKAGE_PARENT), os.environ.get("PYTHONPATH"))))
    defaults = {"OMP_NUM_THREADS": str(max(1, cores // count))}
    if sys.platform == "linux":
        defaults["GLOO_SOCKET_IFNAME"] = "lo"  # all on this machine, whatever its name resolves to
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True, LAUNCHED: 1}
    return subprocess.Popen(
        [*program(), command, *options],
        env={**defaults, **os.environ, "PYTHONPATH": path, **{key: str(v) for key, v in {**place, **job}.items()}},
        stdin=subprocess.PIPE,  # see _stop_with_launcher
        start_new_session=True,  # a terminal's Ctrl-C reaches the launcher only, which hands it on once
    )


@contextmanager
def _forwarding_signals(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Inside, signals that ask to stop go to all processes; gives the list of those received."""
    received: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in processes:
            process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Until all have ended, or one has ended badly and the others had time to: the one that is the reason, if any."""
    deadline: float | None = None
    order: list[int] = []  # ranks that ended badly, as they were seen
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
    if code > 0:  # it has said why
        return JobFailedError(code, "")
    name = signal.Signals(-code).name
    reason = " (the system does so when memory runs out)" if name == "SIGKILL" else ""
    message = f"Process {rank} of {len(processes)} was killed by {name}{reason}, and so the job was ended."
    return JobFailedError(128 - code, message)
