"""Sums the gradients of all ranks, mostly while the backward pass is still running.

The backward pass reaches the last layers first. So parameters are grouped into buckets from the last to the first, and
a bucket is all-reduced as soon as all of its gradients are computed. A large gradient is a bucket of its own and is
summed in place; small ones are copied into one buffer, because starting a message costs as much as sending many bytes.
Every rank sends the same buckets in the same order; a rank without an image of the batch sends zeros.
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
    """A context after which `.grad` of every trainable parameter is the sum over all ranks, bit-identical on each.

    overlap: send during the backward pass; for blocks that run it at most once.

    Raises RankLostError where another rank has ended.
    """
    if rank_info().world_size == 1:
        yield
        return
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    sender = _Sender(bucketed(trainable, BUCKET_BYTES))
    handles = [_when_ready(parameter, sender.gradient_ready) for parameter in trainable if overlap]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    sender.finish()


def bucketed(parameters: Sequence[nn.Parameter], most_bytes: int) -> list[list[nn.Parameter]]:
    """The parameters from the last to the first, in buckets of at most `most_bytes` bytes (or one larger parameter)."""
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


def _when_ready(parameter: nn.Parameter, call: Callable[[Tensor], None]) -> RemovableHandle:
    handle: RemovableHandle = parameter.register_post_accumulate_grad_hook(call)  # type: ignore[no-untyped-call]
    return handle


class _Sender:
    """All-reduces buckets in order, each when its gradients are complete."""

    def __init__(self, buckets: list[list[nn.Parameter]]) -> None:
        self.buckets = buckets
        self.missing = [len(bucket) for bucket in buckets]
        self.bucket_of = {parameter: number for number, bucket in enumerate(buckets) for parameter in bucket}
        self.sent: list[tuple[Tensor, Any]] = []  # the gradients of a bucket in one row, and the handle to wait for

    def gradient_ready(self, parameter: Tensor) -> None:
        """Count a computed gradient, and send every bucket that it completes."""
        self.missing[self.bucket_of[parameter]] -= 1  # type: ignore[index]  # a hook gets its parameter
        while len(self.sent) < len(self.buckets) and self.missing[len(self.sent)] == 0:
            self._send()

    def finish(self) -> None:
        """Send the remaining buckets, wait for all, and make the gradients views of the sums."""
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
