"""The demo's HTTP server: binds a port and serves the application until Ctrl-C."""

from __future__ import annotations

import errno
import ipaddress
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from captioner.demo.protocol import LimitedProtocol
from captioner.errors import ConfigError

GRACE = 2  # seconds for open requests when the page closes
KEEP_ALIVE = 5  # seconds in which a connection without a request stays open


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 chooses a free one. ConfigError where the host or the port cannot be used."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host {host} is not known here: expected a name or address of this machine.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"Port {port} is in use, perhaps by another demo: choose another, such as --port {port + 1}, "
                "or 0 for any that is free."
            ) from error
        raise ConfigError(f"--host {host} --port {port} cannot be served ({error.strerror}).") from error


def address_of(listening: socket.socket, host: str) -> str:
    """The URL of the page on this machine."""
    port = listening.getsockname()[1]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(listening: socket.socket) -> bool:
    """Whether the socket can be reached from this machine only."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


class DemoServer(uvicorn.Server):
    """A server that tells the application when it closes, so that no request is cut off without an answer."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Turn away who waits; then close."""
        if isinstance(self.config.app, Starlette):
            self.config.app.state.line.close()
        await super().shutdown(sockets)


def build_server(app: ASGIApp) -> uvicorn.Server:
    """A server that logs errors only and waits at most `GRACE` seconds for open requests when it stops."""
    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=KEEP_ALIVE,
        ws="none",
        lifespan="off",
    )
    return DemoServer(config)


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until Ctrl-C, which raises KeyboardInterrupt once open requests have ended, or after `GRACE` seconds."""
    build_server(app).run(sockets=[listening])
