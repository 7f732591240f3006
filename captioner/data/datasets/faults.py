"""Collects the faults of a table, so that a reader reports all of them and not the first alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from captioner.errors import DataError

SHOWN = 10  # faults that a message lists
KINDS = 12  # of faults that a report tells apart

_DETAILS = re.compile(r"'[^']*'|\"[^\"]*\"|[^\s,:]+\.\w+|\d[\d,.]*")
"""In which messages about faults of one kind differ: quoted text, names of files, and numbers."""


class TableError(DataError):
    """A table with one fault or several. `faults`: the message of each, in the order of the lines."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        if len(faults) == 1:
            super().__init__(faults[0])
            return
        more = [f"and {len(faults) - SHOWN:,} more"] if len(faults) > SHOWN else []
        super().__init__("\n  ".join([f"{len(faults):,} faults:", *faults[:SHOWN], *more]))


class Faults:
    """The faults that were found so far."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """A context in which a DataError is kept, so that the next row can be read."""
        try:
            yield
        except TableError as error:
            self.found += error.faults
        except DataError as error:
            self.found.append(str(error))

    def check(self) -> None:
        """TableError with all faults, if there are any."""
        if self.found:
            raise TableError(list(dict.fromkeys(self.found)))


def shown_of_each_kind(faults: Sequence[str], most: int = 3) -> list[tuple[str, int]]:
    """(message, how many faults it stands for): the first `most` of each kind, and one message for the others of it.

    Messages are of one kind where they differ in their details alone, such as the line and what it has. Kinds after
    the twelfth are one.
    """
    kinds: dict[str, list[str]] = {}
    for fault in faults:
        kind = _DETAILS.sub("…", fault)
        kinds.setdefault(kind if kind in kinds or len(kinds) < KINDS else "", []).append(fault)
    found = []
    for kind, of_kind in kinds.items():
        found += [(fault, 1) for fault in of_kind[:most]]
        if left := of_kind[most:]:
            like = "of this kind" if kind else "of other kinds"
            found.append((f"and {len(left):,} more {like}, the last of which is: {left[-1]}", len(left)))
    return found
