"""Collects the faults of a table, so that a reader reports all of them and not the first alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from captioner.errors import DataError

SHOWN = 10  # faults that a message lists


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
