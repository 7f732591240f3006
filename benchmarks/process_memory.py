"""The memory of a process, for benchmarks; without torch."""

from __future__ import annotations

from pathlib import Path


def memory_of(pid: int | str) -> dict[str, int]:
    """Bytes in pages of its own (`RssAnon`), in all pages (`VmRSS`), and the most of these so far (`VmHWM`). proc(5).

    pid: or "self". Empty if the process has ended.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines if line.startswith(("VmHWM", "VmRSS", "RssAnon")))
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}
