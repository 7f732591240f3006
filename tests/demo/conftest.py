"""Two small models and the demo's server with them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.types import ASGIApp

from captioner import Captioner
from captioner.config import CacheConfig, MetricConfig, RecurrentConfig
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data

pytest.importorskip("starlette", reason="the demo page needs the extra [demo]")
pytest.importorskip("uvicorn", reason="the demo page needs the extra [demo]")

from captioner.demo.answers import DemoModel
from captioner.demo.app import build_app
from captioner.demo.server import build_server, listen


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client(NamedTuple):
    """Sends requests to one server, with any headers."""

    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named, encode_chunked="Transfer-Encoding" in named)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, photo: bytes, **headers: str) -> Answer:
        return self.ask("POST", path, photo, **{"Content_Type": "application/octet-stream", **headers})


@contextmanager
def serving(app: ASGIApp) -> Iterator[Client]:
    """The application on a free port, in a thread, until the block ends."""
    server = build_server(app)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Client(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(300)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/*.png`, `run` (with attention) and `blind` (without), trained for one epoch."""
    folder = tmp_path_factory.mktemp("demo")
    config = with_trainer(tiny_config(write_tiny_data(folder / "data")), max_epochs=1)
    config = replace(config, metric=MetricConfig(names=["Bleu"]), cache=CacheConfig(directory=str(folder / "cache")))
    for name, model in (("run", config.model), ("blind", RecurrentConfig(embedding_dim=8, hidden_dim=8))):
        (folder / name).mkdir()
        train(prepare(replace(config, model=model), folder / name))
    return folder


@pytest.fixture(scope="session")
def models(home: Path) -> list[DemoModel]:
    return [DemoModel(name, Captioner.from_checkpoint(home / name, device="cpu")) for name in ("run", "blind")]


@pytest.fixture(scope="session")
def client(models: list[DemoModel]) -> Iterator[Client]:
    with serving(build_app(models)) as client:
        yield client


@pytest.fixture
def photo(home: Path) -> bytes:
    return (home / "data" / "003.png").read_bytes()
