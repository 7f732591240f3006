"""Shared measuring code: medians of interleaved runs, the machine's peak rate, peak memory, JSON output."""

from __future__ import annotations

import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CPU = Path("/proc/cpuinfo")


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}


def median_seconds(
    cases: dict[str, Callable[[], Any]], rounds: int, warm_up: int = 1, clock: str = "wall"
) -> dict[str, float]:
    """Median seconds of each case over `rounds`; cases are interleaved, so that noise affects all alike.

    clock: "wall", or "processor" on a machine that does other work too.
    """
    now = CLOCKS[clock]
    for _ in range(warm_up):
        for case in cases.values():
            case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            start = now()
            case()
            seconds[name].append(now() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def product_rate(rows: int, inner: int, columns: int, rounds: int = 9, clock: str = "wall") -> float:
    """FLOP/s (2 per multiply-add) of a float32 `torch.mm` of this size: the ceiling for work that consists of such."""
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    seconds = median_seconds({"mm": lambda: torch.mm(left, right)}, rounds, warm_up=3, clock=clock)["mm"]
    return 2 * rows * inner * columns / seconds


def peak_memory() -> int:
    """Peak resident memory of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage's
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processor() -> str:
    """The processor's name, with what its float32 products depend on."""
    lines = CPU.read_text("utf-8").splitlines() if CPU.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def report(name: str, results: dict[str, Any]) -> None:
    """Print one JSON line with the results, the machine and the versions."""
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__, "processor": processor()}
    machine["peak_memory_mb"] = round(peak_memory() / 2**20)
    sys.stdout.write(json.dumps({"benchmark": name, **machine, **results}) + "\n")
