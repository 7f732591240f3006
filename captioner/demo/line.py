"""The line of photos that wait for the model: one at a time, in order, with a place for each, until the page closes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from captioner.demo.uploads import UploadError

T = TypeVar("T")
MOST_WAITING = 16  # photos in memory; a machine that needs a second for each answers the last after as many seconds
RETRY_AFTER = 5  # seconds after which a client that was turned away may try again


class Line:
    """One piece of work at a time, first come, first served. Used in one event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()  # parallel work would share the same cores and add up its memory
        self._tickets: list[str] = []  # of those in the line, in order; the first one is being served
        self._closing = asyncio.Event()
        self.is_working = False  # in a thread, which cannot be stopped

    def close(self) -> None:
        """Turn away all who wait, and all who come."""
        self._closing.set()

    def ahead(self, ticket: str) -> int | None:
        """How many are before the holder of a ticket, 0 while it is served; None for one that is not in the line."""
        return self._tickets.index(ticket) if ticket in self._tickets else None

    async def work(
        self, ticket: str, check: Callable[[], Awaitable[None]], function: Callable[..., T], *given: Any
    ) -> T:
        """`function(*given)`, in a thread, when it is this ticket's turn and `check` raises nothing then.

        UploadError 503 where too many wait, and where the page closes meanwhile.
        """
        if len(self._tickets) >= MOST_WAITING:
            raise UploadError(503, f"{MOST_WAITING} photos wait already. Try again in {RETRY_AFTER} seconds.")
        return await self.until_closed(self._serve(ticket, check, function, *given))

    async def _serve(
        self, ticket: str, check: Callable[[], Awaitable[None]], function: Callable[..., T], *given: Any
    ) -> T:
        self._tickets.append(ticket)
        try:
            async with self._lock:
                await check()
                return await self._in_thread(function, *given)
        finally:
            self._tickets.remove(ticket)

    async def until_closed(self, work: Awaitable[T]) -> T:
        """The result of `work`; UploadError 503 where the page closes before it is there."""
        task, closing = asyncio.ensure_future(work), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({task, closing}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise UploadError(503, "The page is closing.")
        finally:
            closing.cancel()
            task.cancel()

    async def _in_thread(self, function: Callable[..., T], *given: Any) -> T:
        """Call the function in a daemon thread: Python would wait for the threads of an executor before it ends."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def settle(value: T | None, error: BaseException | None) -> None:
            self.is_working = False
            if result.done():  # nobody waits any more
                return
            if error is None:
                result.set_result(value)  # type: ignore[arg-type]
            else:
                result.set_exception(error)

        def call() -> None:
            value, error = None, None
            try:
                value = function(*given)
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, value, error)

        self.is_working = True
        threading.Thread(target=call, daemon=True, name="captions").start()
        return await result
