"""The memory of another process, for benchmarks that watch what they start; without torch."""

from __future__ import annotations

from pathlib import Path


def memory_of(pid: int | str) -> dict[str, int]:
    """Bytes now in pages of its own (`RssAnon`) and at most in all pages (`VmHWM`); empty if it has ended. proc(5)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines if line.startswith(("VmHWM", "RssAnon")))
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}
