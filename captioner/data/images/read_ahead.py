"""Work ahead of its use, in threads: while a batch is searched, the next one is encoded and later images are decoded.

Decoding, resizing and the products of a network do not hold Python's interpreter lock, so threads use other cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Generator[R, None, None]:
    """function(item) for each item, in order, computed in `threads` threads, at most `ahead` items before their use.

    An exception of `function` is raised where its result would be. Closing the generator drops what has not begun.
    """
    remaining = iter(items)
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="read-ahead") as pool:
        try:
            while True:
                for item in islice(remaining, ahead - len(pending)):
                    pending.append(pool.submit(function, item))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def in_background(items: Generator[T, None, None], *, ahead: int = 1) -> Generator[T, None, None]:
    """The same items in the same order, computed in one other thread, at most `ahead` items before their use."""

    def advance() -> list[T]:
        return list(islice(items, 1))

    pending: deque[Future[list[T]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="in-background") as thread:
        try:
            pending.extend(thread.submit(advance) for _ in range(ahead))
            while found := pending.popleft().result():
                pending.append(thread.submit(advance))
                yield found[0]
        finally:
            for future in pending:
                future.cancel()
            thread.submit(items.close).result()  # in its own thread, after what it was doing
