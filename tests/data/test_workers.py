"""Data workers ignore the signals that their parent handles, from their first instruction on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from captioner.data.workers import HANDLED_BY_PARENT, ignore_signals, start_workers


class _SignalsItself(Dataset[int]):
    """Item → the number of signals that a worker has survived."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        for number in HANDLED_BY_PARENT:
            os.kill(os.getpid(), number)
        return len(HANDLED_BY_PARENT)


def batches() -> Iterator[torch.Tensor]:
    loader = DataLoader(
        _SignalsItself(), batch_size=2, num_workers=2, worker_init_fn=ignore_signals, generator=torch.Generator()
    )
    return start_workers(loader)


def test_workers_survive_what_a_group_is_sent() -> None:
    assert [batch.tolist() for batch in batches()] == [[2, 2], [2, 2]]


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="the system has no masks of signals")
def test_this_process_gets_its_signals_again() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert len(list(batches())) == 2
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
