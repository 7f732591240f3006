"""Prints after fuzzing how many cases of each kind there were, and how they ended (`make fuzz`)."""

from __future__ import annotations

from typing import Any

from tests.fuzz.harness import OUTCOMES


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table. A case that ended in another way is reported above it as a failure."""
    if not OUTCOMES:
        return
    terminalreporter.section("fuzzed cases")
    kinds = sorted({kind for kind, _ in OUTCOMES})
    rows = [(kind, OUTCOMES[kind, "read"], OUTCOMES[kind, "refused"]) for kind in kinds]
    rows.append(("all", sum(read for _, read, _ in rows), sum(refused for *_, refused in rows)))
    for kind, read, refused in rows:
        terminalreporter.write_line(
            f"{kind:<12} {read + refused:>6,} cases: {refused:>6,} refused with a message, {read:>6,} read"
        )
