"""The demo page's server on this machine: a port of its own, until Ctrl-C."""

from __future__ import annotations

import errno
import ipaddress
import socket

import uvicorn
from starlette.types import ASGIApp

from captioner.errors import ConfigError

_WAITING = 32  # requests at once; each may hold an upload


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there (port 0: any that is free); ConfigError says why it cannot be had."""
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
    """The page's address, as a person on this machine types it."""
    port = listening.getsockname()[1]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(listening: socket.socket) -> bool:
    """Can only this machine reach it?"""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def build_server(app: ASGIApp) -> uvicorn.Server:
    """A server that says nothing of single requests, and does not wait for slow ones when it ends."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_WAITING,
        timeout_graceful_shutdown=3,
        ws="none",
        lifespan="off",
    )
    return uvicorn.Server(config)


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Answer until Ctrl-C, which ends in KeyboardInterrupt after what is being answered, or after a few seconds."""
    build_server(app).run(sockets=[listening])
