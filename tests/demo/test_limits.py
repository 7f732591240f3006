"""The page with clients that send nothing, too much at once, or wait: nobody keeps it from the others."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.demo.conftest import Client, serving

pytest.importorskip("uvicorn", reason="the demo page needs the extra [demo]")

from captioner.demo import app as app_module
from captioner.demo import line as line_module
from captioner.demo import protocol, server, uploads
from captioner.demo.answers import DemoModel
from captioner.demo.app import build_app

DEADLINE = 60.0  # seconds for what a condition is waited for


def received(connection: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    connection.settimeout(DEADLINE)
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def half_sent(client: Client, count: int) -> Iterator[list[socket.socket]]:
    """Connections that have sent half a line and nothing more."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", client.port))) for _ in range(count)]
        for connection in connections:
            connection.sendall(b"GET /mod")
        yield connections


@pytest.mark.parametrize("sent", [b"", b"GET /mod", b"GET /models HTTP/1.1\r\nHost: loc"])
def test_a_head_that_does_not_arrive_is_given_up(
    models: list[DemoModel], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    with serving(build_app(models)) as client, socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(sent)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert answer.endswith(b'{"error": "The head of the request was not complete within 0.2 seconds."}')


def test_the_head_of_a_later_request_is_awaited_as_long(
    models: list[DemoModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE", 600)
    with serving(build_app(models)) as client, socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.settimeout(DEADLINE)
        assert connection.recv(12) == b"HTTP/1.1 200"
        monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
        connection.sendall(b"GET /models HTTP/1.1\r\nHost: loc")
        assert b"HTTP/1.1 408" in received(connection)


def test_a_body_that_does_not_arrive_is_given_up(models: list[DemoModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "BODY_SECONDS", 0.2)
    head = f"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Type: {uploads.TYPE}\r\nContent-Length: 5000\r\n\r\n"
    with serving(build_app(models)) as client, socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(head.encode() + b"x" * 100)
        connection.settimeout(DEADLINE)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")


def test_one_client_is_refused_before_all_places_are_taken(
    models: list[DemoModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MOST_OF_ONE_CLIENT", 3)
    with serving(build_app(models)) as client:
        with half_sent(client, 3):
            answers = [client.get("/models")]
            assert answers[0].status == 503
            assert answers[0].headers["retry-after"] == "5"
            assert "3 connections of this client" in answers[0].json()["error"]
            assert "default-src 'none'" in answers[0].headers["content-security-policy"]
        wait_for(lambda: client.get("/models").status == 200)  # once the server has seen that they are closed


def test_too_many_connections_are_refused(models: list[DemoModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MOST_CONNECTIONS", 4)
    with serving(build_app(models)) as client, half_sent(client, 4):
        assert "4 connections are open" in client.get("/models").json()["error"]


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """(the first photo is being captioned, it may end): captions take as long as the second is not set."""
    begun, may_end = threading.Event(), threading.Event()

    def caption(*arguments: object) -> dict[str, object]:
        begun.set()
        assert may_end.wait(DEADLINE)
        return {"captions": []}

    monkeypatch.setattr(app_module, "caption_photo", caption)
    yield begun, may_end
    may_end.set()


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_who_waits_is_told_the_place_and_one_too_many_is_turned_away(
    models: list[DemoModel],
    photo: bytes,
    monkeypatch: pytest.MonkeyPatch,
    busy: tuple[threading.Event, threading.Event],
) -> None:
    monkeypatch.setattr(line_module, "MOST_WAITING", 3)
    statuses: list[int] = []
    with serving(build_app(models)) as client:

        def ahead(ticket: str) -> object:
            answer = client.get(f"/line?ticket={ticket}")
            return answer.json().get("ahead") if answer.status == 200 else answer.status

        threads = []
        for place, ticket in enumerate(("a", "b", "c")):
            ask = f"/caption?ticket={ticket}"
            threads.append(in_thread(lambda ask=ask: statuses.append(client.post(ask, photo).status)))
            wait_for(lambda ticket=ticket, place=place: ahead(ticket) == place)
        refused = client.post("/caption?ticket=d", photo)
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert "3 photos wait already" in refused.json()["error"]
        assert ahead("d") == 404
        busy[1].set()
        for thread in threads:
            thread.join(DEADLINE)
        assert statuses == [200] * 3
        assert ahead("a") == 404


def test_a_page_that_closes_answers_whoever_waits(
    models: list[DemoModel],
    photo: bytes,
    busy: tuple[threading.Event, threading.Event],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The one that is served, one that waits and one whose photo is half sent: 503 and no traceback."""
    answers: list[tuple[int, str]] = []
    app = build_app(models)

    def ask() -> None:
        answer = client.post("/caption", photo)
        answers.append((answer.status, answer.json()["error"]))

    head = f"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Type: {uploads.TYPE}\r\nContent-Length: 5000\r\n\r\n"
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(serving(app))
        half = socket.create_connection(("127.0.0.1", client.port))
        half.sendall(head.encode() + b"x" * 100)
        threads = [in_thread(ask), in_thread(ask)]
        assert busy[0].wait(DEADLINE)
        wait_for(lambda: len(app.state.line._tickets) == 2)
        closing = in_thread(stack.pop_all().close)
        for thread in (*threads, closing):
            thread.join(DEADLINE)
            assert not thread.is_alive()
        with half:
            assert received(half).startswith(b"HTTP/1.1 503")
    assert answers == [(503, "The page is closing.")] * 2
    assert app.state.line.is_working  # its thread cannot be stopped, and nobody waits for it
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "path", ["/examples/" + "9" * 5000, "/examples/-1", "/examples/99999", "/nowhere", "/line?ticket=x"]
)
def test_every_error_is_json(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 404
    assert answer.json()["error"]


def test_other_errors_are_json_too(client: Client) -> None:
    assert client.ask("DELETE", "/models").json()["error"] == "DELETE /models: Method Not Allowed"
    assert client.get("/", Host="evil.example").json()["error"].startswith("This is not the name of the machine")
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(b"nothing that HTTP knows\r\n\r\n")
        assert received(connection).endswith(b'{"error": "Invalid HTTP request received."}')


def test_the_page_asks_for_its_place() -> None:
    script = (Path(app_module.__file__).parent / "page" / "page.js").read_text(encoding="utf-8")
    assert "line?ticket=" in script
