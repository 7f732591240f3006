"""Numbers things in the order in which they are first seen."""

from __future__ import annotations

from itertools import islice
from typing import TypeVar

T = TypeVar("T")


class Numbering(dict[T, int]):
    """Thing → its number: `numbering[thing]` gives a new thing the next one."""

    def __init__(self) -> None:
        super().__init__()
        self._reported = 0

    def __missing__(self, thing: T) -> int:
        number = self[thing] = len(self)
        return number

    def added(self) -> list[T]:
        """The things that are new since the last call, in their order."""
        new = list(islice(self, self._reported, None))
        self._reported = len(self)
        return new
