"""Data workers: processes that load images or features, which ignore the signals that their parent handles.

A scheduler, `timeout` or Ctrl-C sends a signal to a whole group of processes. A worker that ended by it would make its
parent fail in the middle of a step, which is to be finished and saved. Workers end with their parent.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

HANDLED_BY_PARENT = (signal.SIGINT, signal.SIGTERM)


def ignore_signals(worker: int = 0) -> None:
    """Ignore the signals that the parent handles: the `worker_init_fn` of every `DataLoader`."""
    for number in HANDLED_BY_PARENT:
        signal.signal(number, signal.SIG_IGN)


def start_workers(loader: DataLoader[Any]) -> Iterator[Any]:
    """`iter(loader)`, while signals are held back, so that none reaches a worker before `ignore_signals`.

    A worker inherits the mask, and never gets them. This process gets them when the workers have started.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return iter(loader)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_BY_PARENT)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
