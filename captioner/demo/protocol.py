"""HTTP connections with limits: so many at once, so many of one client, and a time in which a request's head is sent.

uvicorn has neither of the last two: a client that sends half a line and nothing more kept its place for ever.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from captioner.demo.guard import HEADERS
from captioner.demo.line import RETRY_AFTER

MOST_CONNECTIONS = 32  # at once; each may keep an upload in memory
MOST_OF_ONE_CLIENT = 16  # an address; a browser opens six
HEAD_SECONDS = 10.0  # from the connection, or the first byte of a later request, to the end of its head


class LimitedProtocol(H11Protocol):
    """A connection that is refused, answered or given up in time. Every answer of its own is JSON."""

    _head_timer: asyncio.TimerHandle | None = None
    _refusal: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection; one too many is answered once it has sent something."""
        super().connection_made(transport)
        others = [other for other in self.connections if isinstance(other, LimitedProtocol) and other is not self]
        served = [other for other in others if other._refusal is None]
        host = self.client and self.client[0]
        of_client = sum(other.client is not None and other.client[0] == host for other in served)
        if len(served) >= MOST_CONNECTIONS:
            self._refusal = f"{MOST_CONNECTIONS} connections are open already."
        elif of_client >= MOST_OF_ONE_CLIENT:
            self._refusal = f"{MOST_OF_ONE_CLIENT} connections of this client are open already."
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request: its head is awaited until it is complete."""
        if self._refusal is not None:
            self._answer(503, f"{self._refusal} Try again in {RETRY_AFTER} seconds.", retry_after=RETRY_AFTER)
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._head_timer is None:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._answer(400, msg)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._answer(408, f"The head of the request was not complete within {HEAD_SECONDS:g} seconds.")

    def _answer(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        """Send an error, and close the connection."""
        self._stop_timer()
        body = json.dumps({"error": message}).encode()
        headers = {
            **HEADERS,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
        }
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
