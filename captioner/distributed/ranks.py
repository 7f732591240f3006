"""Several processes that train as one: where each stands, and what they tell one another.

Every process (a "rank") runs the same command. `torchrun` starts them, or `captioner.distributed.launch` for
`trainer.devices=N`,
them and puts each one's place into its environment. In a process that runs alone every function here does the obvious
thing at once, so no caller asks whether there are others.

There are two groups. Gradients go over the first, whose patience is short: all ranks send them at about the same
time. Everything else (figures, captions, scores) goes over the second, whose patience is long, for one rank may
score or write for an hour while the others wait. A rank that dies closes its connections, which ends either wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from captioner.errors import CaptionerError, ConfigError, RankLostError

if TYPE_CHECKING:  # commands that train nothing ask for their rank too, and start without torch
    import torch
    from torch.distributed import Store  # type: ignore[attr-defined]  # it is there

K = TypeVar("K")
T = TypeVar("T")
PATIENCE = timedelta(days=7)  # of the second group: longer than any evaluation


@dataclass(frozen=True)
class RankInfo:
    """Which process of a job this is: among all, and among those of its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    attempt: int = 0  # how often torchrun has restarted the job


@dataclass
class _Job:
    """What this process knows of its job; `context` once the ranks are connected."""

    place: RankInfo
    store: Store
    context: Any = None


_job: _Job | None = None


def join_job() -> RankInfo:
    """Take this process's place from the environment and find the job's store; alone where there is no job."""
    global _job
    if _job is None and "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        _job = _Job(place := _place_of_environment(), _store_of_environment(place))
    return rank_info()


def rank_info() -> RankInfo:
    """Where this process stands: rank 0 of 1 where it has joined no job."""
    return RankInfo() if _job is None else _job.place


def is_main_process() -> bool:
    """Is this the process that writes, and speaks, for all?"""
    return rank_info().rank == 0


def _place_of_environment() -> RankInfo:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, size, local_rank, local_size = (int(os.environ[name]) for name in names)
        return RankInfo(rank, size, local_rank, local_size, int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"The environment says that this is one of several processes, but not which one ({error}): expected whole "
            f"numbers in {', '.join(names)}, as torchrun sets them. Start with torchrun, or unset RANK and WORLD_SIZE."
        ) from error


def _store_of_environment(place: RankInfo) -> Store:
    """The job's table of keys and values: that of torchrun or of the launcher, which outlives a restart; else rank 0's.

    ConfigError where it cannot be reached.
    """
    import torch.distributed as dist
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is there

    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return TCPStore(address, port, is_master=not hosted and place.rank == 0, wait_for_workers=False)
    except (KeyError, ValueError, dist.DistError) as error:
        raise ConfigError(
            f"The job's first process cannot be reached ({error}): expected its machine in MASTER_ADDR and a free port "
            "in MASTER_PORT, as torchrun sets them."
        ) from error


def first_value_in_job(key: str, value: str) -> str:
    """`value` as the first rank to ask gave it, for the whole job: restarts and all machines."""
    if _job is None:
        return value
    said: bytes | str = _job.store.compare_set(f"captioner/{key}", "", value)
    return said if isinstance(said, str) else said.decode()


def may_report_error() -> bool:
    """May this rank tell people what went wrong? Only the first one to ask may: one mistake, one message."""
    place = rank_info()
    try:
        return first_value_in_job(f"error/{place.attempt}", str(place.rank)) == str(place.rank)
    except RuntimeError:  # the store has gone with its process: better twice than not at all
        return True


@contextmanager
def process_group(device: torch.device, timeout_minutes: float = 10.0) -> Iterator[None]:
    """Inside, the ranks of the job can exchange values. `timeout_minutes`: how long a gradient is waited for."""
    if _job is None:
        yield
        return
    import torch.distributed as dist
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # it is there

    place = _job.place
    try:
        with lost_ranks_reported():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=PrefixStore(f"attempt {place.attempt}", _job.store),
                rank=place.rank,
                world_size=place.size,
                timeout=timedelta(minutes=timeout_minutes),
                device_id=device if device.type == "cuda" else None,
            )
            _job.context = dist.new_group(backend="gloo", timeout=PATIENCE)
        all_gather(None)  # nobody leaves, for whatever reason, before all are connected
        yield
    except Exception:
        may_report_error()  # before the others notice, who would say no more than that they have
        raise
    finally:
        _job.context = None
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def lost_ranks_reported() -> Iterator[None]:
    """RankLostError where an exchange with the other ranks fails, whose own errors have no type in common."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if "timed out" in reason.lower() or "timeout" in reason.lower():
            raise RankLostError(
                "Another process of this job has not answered in time: it hangs or cannot be reached. Where nothing is "
                "wrong but slow, raise trainer.timeout_minutes.",
                is_ended=False,
            ) from error
        raise RankLostError("Another process of this job has ended, so this one cannot go on.") from error


def share(items: Sequence[T]) -> list[T]:
    """This rank's part: every item belongs to exactly one rank, and the parts' sizes differ by one at most."""
    place = rank_info()
    return list(items[place.rank :: place.size])


def all_gather(value: T) -> list[T]:
    """What every rank gave, in the order of ranks, on every rank."""
    if _job is None:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * _job.place.size
    with lost_ranks_reported():
        dist.all_gather_object(values, value, group=_job.context)
    return values


def all_gather_union(table: dict[K, T]) -> None:
    """Add what the other ranks have in theirs to `table`."""
    for other in all_gather(dict(table)):
        table |= other


def all_reduce(figures: dict[str, float]) -> dict[str, float]:
    """Sums over all ranks, name by name; a rank may lack names."""
    totals: dict[str, float] = {}
    for own in all_gather(figures):
        for name, value in own.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


def broadcast_from_rank0(work: Callable[[], T]) -> T:
    """What `work` gives on rank 0, on every rank; its CaptionerError is raised on every rank too."""
    if _job is None:
        return work()
    import torch.distributed as dist

    answer: list[Any] = [None, None]
    if is_main_process():
        try:
            answer[0] = work()
        except CaptionerError as error:
            answer[1] = error
    with lost_ranks_reported():
        dist.broadcast_object_list(answer, src=0, group=_job.context)
    if answer[1] is not None:
        raise answer[1]
    result: T = answer[0]
    return result


@contextmanager
def local_rank0_first() -> Iterator[None]:
    """The block runs on each machine's first rank before it runs on the others: what it makes, they find."""
    first = rank_info().local_rank == 0
    if not first:
        all_gather(None)
    yield
    if first:
        all_gather(None)
