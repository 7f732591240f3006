"""How the benchmarks measure: medians of interleaved runs, and the machine's own ceiling in the same run."""

from __future__ import annotations

import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch


def median_seconds(cases: dict[str, Callable[[], Any]], rounds: int, warm_up: int = 1) -> dict[str, float]:
    """Seconds of each case: the median over `rounds`, the cases taking turns so that noise meets all alike."""
    for _ in range(warm_up):
        for case in cases.values():
            case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def product_rate(rows: int, inner: int, columns: int, rounds: int = 9) -> float:
    """Multiply-adds × 2 a second of a float32 `torch.mm` of this size: the ceiling for work made of such products."""
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    seconds = median_seconds({"mm": lambda: torch.mm(left, right)}, rounds, warm_up=3)["mm"]
    return 2 * rows * inner * columns / seconds


def peak_memory() -> int:
    """Bytes: the most that this process has had in memory so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # of getrusage
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def report(name: str, figures: dict[str, Any]) -> None:
    """One JSON line on standard output; what ran where is part of it."""
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__, "processor": platform.machine()}
    machine["peak_memory_mb"] = round(peak_memory() / 2**20)
    sys.stdout.write(json.dumps({"benchmark": name, **machine, **figures}) + "\n")
