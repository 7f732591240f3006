"""A web server on 127.0.0.1 with configurable faults."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """Its files, its faults, and the requests that it received."""

    files: dict[str, bytes]
    ranges: bool = True  # supports Range requests
    lengths: bool = True  # sends Content-Length
    cuts: list[int] = field(default_factory=list)  # number of bytes after which the n-th response ends
    statuses: list[int] = field(default_factory=list)  # HTTP error of the n-th response
    range_answer: str | None = None  # an invalid Content-Range
    headers: dict[str, str] = field(default_factory=dict)  # sent with every file
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range)
    url: str = ""


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Runs the server; `server.url` is its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.requests.append((self.path, asked))
            if server.statuses:
                self.send_error(server.statuses.pop(0))
                return
            body = server.files.get(self.path.lstrip("/"))
            if body is None:
                self.send_error(404)
                return
            start, end = 0, len(body)
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
            if found and server.ranges:
                start = int(found.group(1))
                end = min(int(found.group(2)) + 1, end) if found.group(2) else end
                if start >= len(body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(body)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", server.range_answer or f"bytes {start}-{end - 1}/{len(body)}")
            else:
                self.send_response(200)
            if server.lengths:
                self.send_header("Content-Length", str(end - start))
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            cut = server.cuts.pop(0) if server.cuts else None
            with contextlib.suppress(ConnectionError):  # the client may have read enough
                self.wfile.write(body[start:end] if cut is None else body[start : min(start + cut, end)])

        def do_HEAD(self) -> None:
            body = server.files.get(self.path.lstrip("/"))
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            if server.lengths:
                self.send_header("Content-Length", str(len(body)))
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
