"""The page's modules in Node, and pages of small captioners in folders."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import captioner.demo.web
from captioner.demo.web.onnxruntime_web import find_runtime
from captioner.errors import CaptionerError

NODE = shutil.which("node")
PAGE = Path(captioner.demo.web.__file__).parent / "page"

Evaluate = Callable[[str, Any], Any]


@pytest.fixture(scope="session")
def in_node(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """Function: (name of a function of in_node.js, its argument) → its result."""
    if NODE is None:
        pytest.skip("needs node")
    folder = Path(shutil.copytree(PAGE, tmp_path_factory.mktemp("node") / "page"))
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    shutil.copy(Path(__file__).parent / "in_node.js", folder)

    def evaluate(name: str, given: Any) -> Any:
        done = subprocess.run(
            [str(NODE), "in_node.js", name],
            cwd=folder,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


@pytest.fixture(scope="session")
def runtime() -> dict[str, bytes]:
    """The files of onnxruntime-web, of this machine's cache or downloaded."""
    try:
        return find_runtime()
    except CaptionerError as error:
        pytest.skip(f"onnxruntime-web is neither in the cache nor can it be downloaded: {error}")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@contextmanager
def serving_folder(folder: Path) -> Iterator[str]:
    """The address of `folder` on this machine, as `python -m http.server` serves it, until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join(300)
