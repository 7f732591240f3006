"""The gradients of all ranks added up, most of it while the backward pass is still at work.

Backward meets the last layers first. So the parameters are put into buckets from the last to the first, and a bucket
is sent as soon as all of its gradients are there. A large gradient is a bucket of its own and is summed in place; small
ones are copied together, because to start a message costs as much as many bytes. Every rank sends the same buckets in
the same order, and one that had no image of the batch sends zeros: no rank waits for what will not come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from captioner.distributed.ranks import lost_ranks_reported, rank_info

BUCKET_BYTES = 1 << 20


@contextmanager
def summed_gradients(parameters: Iterable[nn.Parameter], *, overlap: bool) -> Iterator[None]:
    """After the block, `.grad` of every parameter that learns is the sum over all ranks, equal on each to the last bit.

    `overlap`: send while backward works, for blocks in which it runs once at most.
    """
    if rank_info().size == 1:
        yield
        return
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    sender = _Sender(bucketed(learning, BUCKET_BYTES))
    handles = [_when_ready(parameter, sender.note) for parameter in learning if overlap]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    sender.finish()


def bucketed(parameters: Sequence[nn.Parameter], most_bytes: int) -> list[list[nn.Parameter]]:
    """The parameters from the last to the first, in buckets of at most so many bytes (or of one parameter)."""
    buckets: list[list[nn.Parameter]] = []
    room = 0
    for parameter in reversed(parameters):
        size = parameter.numel() * parameter.element_size()
        if size > room:
            buckets.append([])
            room = most_bytes
        buckets[-1].append(parameter)
        room -= size
    return buckets


def _when_ready(parameter: nn.Parameter, note: Callable[[Tensor], None]) -> RemovableHandle:
    handle: RemovableHandle = parameter.register_post_accumulate_grad_hook(note)  # type: ignore[no-untyped-call]
    return handle


class _Sender:
    """Sends buckets in their order, each when it is full."""

    def __init__(self, buckets: list[list[nn.Parameter]]) -> None:
        self.buckets = buckets
        self.missing = [len(bucket) for bucket in buckets]
        self.bucket_of = {parameter: number for number, bucket in enumerate(buckets) for parameter in bucket}
        self.sent: list[tuple[Tensor, Any]] = []  # a bucket's gradients in one row, and what to wait for

    def note(self, parameter: Tensor) -> None:
        """The gradient of `parameter` is there."""
        self.missing[self.bucket_of[parameter]] -= 1  # type: ignore[index]  # hooks are given their parameter
        while len(self.sent) < len(self.buckets) and self.missing[len(self.sent)] == 0:
            self._send()

    def finish(self) -> None:
        """Send what is left, wait for all, and let the gradients be views of what came back."""
        while len(self.sent) < len(self.buckets):
            self._send()
        for bucket, (row, work) in zip(self.buckets, self.sent, strict=True):
            with lost_ranks_reported():
                work.wait()
            pieces = torch.split(row, [parameter.numel() for parameter in bucket])
            for parameter, piece in zip(bucket, pieces, strict=True):
                parameter.grad = piece.view_as(parameter)

    def _send(self) -> None:
        bucket = self.buckets[len(self.sent)]
        gradients = [_gradient(parameter).flatten() for parameter in bucket]
        row = gradients[0] if len(gradients) == 1 else torch.cat(gradients)
        with lost_ranks_reported():
            self.sent.append((row, dist.all_reduce(row, async_op=True)))


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
