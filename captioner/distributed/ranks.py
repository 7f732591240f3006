"""The ranks of a distributed job: which one this process is, and how they exchange values.

Every process (a "rank") runs the same command. `torchrun` starts them, or `captioner.distributed.launch` for
`trainer.devices=N`, and describes each one's rank in its environment. In a process without a job every function here
returns at once what it would return in a job of one rank, so callers need not distinguish the two.

There are two process groups. Gradients use the first, whose timeout is short: all ranks send them at about the same
time. Everything else (losses, captions, scores) uses the second, whose timeout is long, because one rank may score or
write for an hour while the others wait. A rank that dies closes its connections, which ends either wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from captioner.errors import CaptionerError, ConfigError, RankLostError

if TYPE_CHECKING:  # commands without a job start without torch
    import torch
    from torch.distributed import Store  # type: ignore[attr-defined]  # it exists at run time

K = TypeVar("K")
T = TypeVar("T")
PATIENCE = timedelta(days=7)  # the timeout of the second group: longer than any evaluation


@dataclass(frozen=True)
class RankInfo:
    """The rank of a process among all processes of a job, and among those of its machine; defaults: no job."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    attempt: int = 0  # how often torchrun has restarted the job


@dataclass
class _Job:
    """The job of this process; context: the second process group, once the ranks are connected."""

    info: RankInfo
    store: Store
    context: Any = None


_job: _Job | None = None


def join_job() -> RankInfo:
    """Read this process's rank from the environment and connect to the job's store; rank 0 of 1 without a job."""
    global _job
    if _job is None and "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        _job = _Job(info := _rank_of_environment(), _store_of_environment(info))
    return rank_info()


def rank_info() -> RankInfo:
    """The rank of this process; rank 0 of 1 where it has joined no job."""
    return RankInfo() if _job is None else _job.info


def is_main_process() -> bool:
    """Whether this is rank 0, the process that writes files and messages."""
    return rank_info().rank == 0


def _rank_of_environment() -> RankInfo:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, size, local_rank, local_world_size = (int(os.environ[name]) for name in names)
        return RankInfo(
            rank, size, local_rank, local_world_size, int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        )
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"RANK and WORLD_SIZE are set, but the other variables of a distributed job are not ({error}): expected "
            f"integers in {', '.join(names)}, as torchrun sets them. Start with torchrun, or unset RANK and WORLD_SIZE."
        ) from error


def _store_of_environment(info: RankInfo) -> Store:
    """The job's key-value store: that of torchrun or of the launcher, which survives a restart, or else that of rank 0.

    Raises ConfigError where it cannot be reached.
    """
    import torch.distributed as dist
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it exists at run time

    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return TCPStore(address, port, is_master=not hosted and info.rank == 0, wait_for_workers=False)
    except (KeyError, ValueError, dist.DistError) as error:
        raise ConfigError(
            f"Rank 0 of the job cannot be reached ({error}): expected its machine in MASTER_ADDR and a free port "
            "in MASTER_PORT, as torchrun sets them."
        ) from error


def first_value_in_job(key: str, value: str) -> str:
    """The first value that any rank of the job has given for `key`, also before a restart; `value` if there is none."""
    if _job is None:
        return value
    stored: bytes | str = _job.store.compare_set(f"captioner/{key}", "", value)
    return stored if isinstance(stored, str) else stored.decode()


def may_report_error() -> bool:
    """Whether this rank prints error messages: the first rank that asks does, so that an error is printed once."""
    info = rank_info()
    try:
        return first_value_in_job(f"error/{info.attempt}", str(info.rank)) == str(info.rank)
    except RuntimeError:  # the store has ended with its process: print twice rather than never
        return True


@contextmanager
def process_group(device: torch.device, timeout_minutes: float = 10.0) -> Iterator[None]:
    """A context in which the ranks of the job can exchange values. timeout_minutes: the timeout for gradients."""
    if _job is None:
        yield
        return
    import torch.distributed as dist
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # it exists at run time

    info = _job.info
    try:
        with lost_ranks_reported():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=PrefixStore(f"attempt {info.attempt}", _job.store),
                rank=info.rank,
                world_size=info.world_size,
                timeout=timedelta(minutes=timeout_minutes),
                device_id=device if device.type == "cuda" else None,
            )
            _job.context = dist.new_group(backend="gloo", timeout=PATIENCE)
        all_gather(None)  # no rank leaves before all are connected
        yield
    except Exception:
        may_report_error()  # before the other ranks notice that this one has ended
        raise
    finally:
        _job.context = None
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def lost_ranks_reported() -> Iterator[None]:
    """A context in which a failed exchange with the other ranks raises RankLostError."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if "timed out" in reason.lower() or "timeout" in reason.lower():
            raise RankLostError(
                "Another process of this job has not answered in time: it hangs, or cannot be reached. If it is only "
                "slow, raise trainer.timeout_minutes.",
                is_ended=False,
            ) from error
        raise RankLostError("Another process of this job has ended, so this one cannot continue.") from error


def share(items: Sequence[T]) -> list[T]:
    """The items of this rank: every item belongs to exactly one rank, and the ranks' counts differ by at most one."""
    info = rank_info()
    return list(items[info.rank :: info.world_size])


def all_gather(value: T) -> list[T]:
    """The values of all ranks, in the order of ranks, on every rank."""
    if _job is None:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * _job.info.world_size
    with lost_ranks_reported():
        dist.all_gather_object(values, value, group=_job.context)
    return values


def all_gather_union(table: dict[K, T]) -> None:
    """Add the entries of the other ranks' tables to `table`, in place."""
    for other in all_gather(dict(table)):
        table |= other


def all_reduce(values: dict[str, float]) -> dict[str, float]:
    """Sums over all ranks by name; a rank may lack names."""
    totals: dict[str, float] = {}
    for values_of_rank in all_gather(values):
        for name, value in values_of_rank.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


def broadcast_from_rank0(work: Callable[[], T]) -> T:
    """Call `work` on rank 0 and return its result on every rank; a CaptionerError of it is raised on every rank."""
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
    """A context that local rank 0 of each machine runs before the others, which then find the files that it made."""
    first = rank_info().local_rank == 0
    if not first:
        all_gather(None)
    yield
    if first:
        all_gather(None)
