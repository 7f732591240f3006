"""Ask the demo page for captions at twice what it can do, and report what was answered, how fast, and its memory.

    python benchmarks/demo_soak.py [--minutes 10] [--clients 24]

The bundled captioner is served in a process of its own. Half of the clients send photos as fast as they are answered,
a quarter sends half a request line and nothing more, and a quarter asks for the page. Allowed are 200, 503 with
Retry-After, and 408 for those that send half a line.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from process_memory import memory_of

ROOT = Path(__file__).resolve().parent.parent


def memory(process: int) -> float:
    """Resident memory in MB."""
    return memory_of(process)["VmRSS"] / 2**20


class Soak:
    """Clients of one server, and what they saw."""

    def __init__(self, port: int, ends: float) -> None:
        self.port, self.ends = port, ends
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.lock = threading.Lock()

    def ask(self, method: str, path: str, body: bytes | None = None) -> None:
        started = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
            response = connection.getresponse()
            response.read()
            name = f"{method} {path.split('?')[0]} {response.status}"
            if response.status == 503 and not response.headers.get("Retry-After"):
                name += " without Retry-After"
        except (OSError, HTTPException) as error:  # closed while it was refused
            name = f"{method} {path.split('?')[0]} {type(error).__name__}"
        finally:
            connection.close()
        with self.lock:
            self.statuses[name] += 1
            if name == "POST /caption 200":
                self.seconds.append(time.perf_counter() - started)
        if name.endswith(("503", "Error")):
            time.sleep(0.5)

    def photos(self, photo: bytes) -> None:
        while time.monotonic() < self.ends:
            self.ask("POST", "/caption", photo)

    def pages(self) -> None:
        while time.monotonic() < self.ends:
            self.ask("GET", "/models")
            time.sleep(0.2)

    def halves(self) -> None:
        while time.monotonic() < self.ends:
            with socket.create_connection(("127.0.0.1", self.port)) as connection:
                connection.settimeout(60)
                connection.sendall(b"GET /mod")
                try:
                    answer = connection.recv(4096)[9:12].decode()
                except OSError:
                    answer = "closed"
            with self.lock:
                self.statuses[f"half a line {answer}"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=24)
    arguments = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, "-m", "captioner", "demo", "--port", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    address = re.search(r"http://127\.0\.0\.1:(\d+)/", server.stdout.readline())
    assert address is not None
    port = int(address[1])
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/examples/0")
    photo = connection.getresponse().read()
    connection.request("POST", "/caption", photo, {"Content-Type": "application/octet-stream"})
    started = time.perf_counter()
    connection.getresponse().read()
    alone = time.perf_counter() - started
    soak = Soak(port, time.monotonic() + 60 * arguments.minutes)
    count = arguments.clients
    work = [lambda: soak.photos(photo)] * (count // 2) + [soak.halves] * (count // 4) + [soak.pages] * (count // 4)
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    sizes = []
    while any(thread.is_alive() for thread in threads):
        sizes.append(memory(server.pid))
        time.sleep(1)
    busy = threading.Thread(target=lambda: soak.ask("POST", "/caption?beam_width=20", photo))
    busy.start()
    time.sleep(0.2)
    asked = time.perf_counter()
    server.send_signal(signal.SIGINT)
    errors = server.communicate(timeout=60)[1]
    closed = time.perf_counter() - asked
    busy.join()
    result = {
        "seconds of one caption alone": round(alone, 3),
        "answers": dict(sorted(soak.statuses.items())),
        "captions per second": round(len(soak.seconds) / 60 / arguments.minutes, 2),
        "median seconds": round(statistics.median(soak.seconds), 2),
        "95 % within": round(sorted(soak.seconds)[int(0.95 * len(soak.seconds))], 2),
        "memory MB": {
            "after a tenth": round(sizes[len(sizes) // 10]),
            "at the end": round(sizes[-1]),
            "most": round(max(sizes)),
        },
        "Ctrl-C while busy": f"{closed:.1f} s, exit code {server.returncode}",
        "traceback": "Traceback" in errors,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
