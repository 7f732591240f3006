"""Protection of the server: requests for other host names are rejected, and responses carry security headers."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware: rejects requests for host names that are not this machine's, and adds HEADERS to responses.

    A page of another site can have its own name resolve to 127.0.0.1 after it was loaded (DNS rebinding), and is then
    of the same origin as this server. Its requests still carry that name as their Host.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app = app
        self.names = {"localhost", host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if self._is_here(Headers(scope=scope).get("host", "")):
            await self.app(scope, receive, send_guarded)
        else:
            rejection = JSONResponse({"error": "This is not the name of the machine that runs the page."}, 421)
            await rejection(scope, receive, send_guarded)

    def _is_here(self, host: str) -> bool:
        """Whether a Host header is an IP address, which cannot be rebound, or one of this machine's names."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False
