"""The demo's server over HTTP: its answers equal the model's captions, and wrong requests are rejected."""

from __future__ import annotations

import io
import re
import socket
import struct
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.demo import app as app_module
from captioner.demo import uploads
from captioner.demo.answers import MAX_PIXELS, DemoModel
from captioner.demo.app import PAGE, build_app
from captioner.demo.examples import EXAMPLE_PHOTOS, EXAMPLES
from tests.demo.conftest import Client, serving


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def grids(caption: dict[str, Any]) -> np.ndarray:
    """(T, 3, 3), also of a caption without words."""
    return np.array(caption["attention"]).reshape(-1, 3, 3)


def decompression_bomb(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header claims width × height pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


# ------------------------------------------------------------------------------------------- answers


def test_the_page_and_its_parts(client: Client) -> None:
    page = client.get("/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    parts = re.findall(r'(?:href|src)="([^"]+)"', page.body.decode())
    assert {"page.css", "page.js", "icon.svg"} <= set(parts)
    for part in parts:
        assert client.get(f"/{part}").status == 200, part


def test_the_page_loads_nothing_from_the_network() -> None:
    """Nor has it inline scripts or styles, which its content security policy forbids."""
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|\burl\(|@import|['\"]//|innerHTML|\bon\w+=|<style|\sstyle=", text), file.name
        assert len(text.splitlines()) < 350


def test_models_are_described(client: Client, models: list[DemoModel]) -> None:
    info = client.get("/models").json()
    assert [model["name"] for model in info["models"]] == ["run", "blind"]
    parameters = sum(p.numel() for p in models[0].captioner.model.decoder.parameters())
    assert f"{parameters / 1e6:.1f} M parameters" in info["models"][0]["about"]
    assert info["search"]["beam_width"] == models[0].captioner.decode.beam_width
    assert info["max_bytes"] == uploads.MAX_BYTES


@pytest.mark.parametrize("penalty", ["0", "0.7"])
def test_captions_and_scores_are_the_model_s(
    client: Client, models: list[DemoModel], photo: bytes, home: Path, penalty: str
) -> None:
    answer = client.post(f"/caption?model=0&search=beam&beam_width=4&length_penalty={penalty}", photo).json()
    captioner = models[0].captioner
    search = replace(captioner.decode, name="beam", beam_width=4, length_penalty=float(penalty))
    best = captioner.caption(home / "data" / "003.png", decode=search, alternatives=3)
    expected = [best, *best.alternatives]
    assert [shown["text"] for shown in answer["captions"]] == [caption.text for caption in expected]
    for shown, caption in zip(answer["captions"], expected, strict=True):
        assert shown["log_prob"] == pytest.approx(caption.log_prob, abs=1e-5)
        assert shown["length"] == len(shown["tokens"]) + shown["finished"]
        assert shown["score"] == pytest.approx(caption.log_prob / shown["length"] ** float(penalty), abs=1e-5)
        np.testing.assert_allclose(grids(shown), caption.attention, atol=1e-5)
    scores = [shown["score"] for shown in answer["captions"]]
    assert scores == sorted(scores, reverse=True)


def test_attention_sums_to_one_at_each_word(client: Client, photo: bytes) -> None:
    captions = client.post("/caption?model=0&search=beam&beam_width=3", photo).json()["captions"]
    assert any(caption["tokens"] for caption in captions)
    for caption in captions:
        assert len(caption["attention"]) == len(caption["tokens"])
        np.testing.assert_allclose(grids(caption).sum(axis=(1, 2)), 1, atol=1e-4)


def test_a_model_without_attention_gives_none(client: Client, photo: bytes) -> None:
    captions = client.post("/caption?model=1&search=beam&beam_width=2", photo).json()["captions"]
    assert len(captions) == 2
    assert all(caption["attention"] is None for caption in captions)


def test_greedy_gives_one_caption_and_samples_are_reproducible(client: Client, photo: bytes) -> None:
    assert len(client.post("/caption?search=greedy", photo).json()["captions"]) == 1
    samples = [
        client.post(f"/caption?search=sample&temperature=3&seed={seed}", photo).json()["captions"][0]["text"]
        for seed in (0, 0, 1, 2, 3)
    ]
    assert samples[0] == samples[1]
    assert len(set(samples)) > 2


def test_a_jpeg_is_decoded_as_caption_py_would(client: Client, models: list[DemoModel], tmp_path: Path) -> None:
    """Also a large one, which is decoded at a reduced size."""
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    content = file_of(Image.fromarray(pixels).resize((1600, 1200)), "JPEG")
    (tmp_path / "photo.jpg").write_bytes(content)
    shown = client.post("/caption?search=greedy", content).json()["captions"][0]
    caption = models[0].captioner.caption(
        tmp_path / "photo.jpg", decode=replace(models[0].captioner.decode, name="greedy")
    )
    assert shown["log_prob"] == pytest.approx(caption.log_prob, abs=1e-6)


def test_the_preview_is_upright_on_white_and_small(client: Client) -> None:
    """Upright, on white, small; also for a file format that browsers do not show."""
    image = Image.new("RGBA", (1600, 1200), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 800, 1200))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    answer = client.post("/preview", file_of(image, "PNG", exif=exif))
    assert answer.headers["content-type"] == "image/jpeg"
    shown = Image.open(io.BytesIO(answer.body))
    assert shown.size == (768, 1024)
    assert np.abs(np.array(shown.getpixel((384, 100))) - (255, 0, 0)).max() < 8
    assert np.abs(np.array(shown.getpixel((384, 900))) - 255).max() < 8
    assert client.post("/preview", file_of(image.convert("RGB"), "TIFF")).status == 200


def test_examples_are_images_that_can_be_captioned(client: Client) -> None:
    for index in range(len(EXAMPLES)):
        example = client.get(f"/examples/{index}")
        assert example.headers["content-type"] == ("image/jpeg" if index < len(EXAMPLE_PHOTOS) else "image/png")
        assert client.post("/caption?search=greedy", example.body).status == 200
    assert "no example" in client.get(f"/examples/{len(EXAMPLES)}").json()["error"]


def test_one_image_at_a_time(models: list[DemoModel], photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = [0], [0]
    captioning = app_module.caption_photo

    def counted(*arguments: object) -> object:
        running[0] += 1
        most[0] = max(most[0], running[0])
        threading.Event().wait(0.05)
        running[0] -= 1
        return captioning(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(app_module, "caption_photo", counted)
    with serving(build_app(models)) as client:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(client.post("/caption?search=greedy", photo).status))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 4
    assert most == [1]


# ------------------------------------------------------------------------------------------- rejections


@pytest.mark.parametrize("path", ["/preview", "/caption?model=0"])
def test_a_file_that_is_no_image_gets_a_message(client: Client, path: str, photo: bytes) -> None:
    for content, message in (
        (b"", "This file is empty"),
        (b"no image", "This file is not an image in a supported format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image in a supported format"),
        (photo[: len(photo) // 2], "This file cannot be decoded"),
        (decompression_bomb(8001, 8000), f"has 64,008,000 pixels. Expected {MAX_PIXELS:,} at most"),
        (decompression_bomb(60000, 60000), "too large"),
    ):
        answer = client.post(path, content)
        assert answer.status == 400
        assert message in answer.json()["error"]


def test_a_file_that_is_too_large_is_rejected_before_it_is_sent(client: Client) -> None:
    """The response comes although no byte of the body was sent."""
    answer = client.post("/caption", b"", Content_Length=str(uploads.MAX_BYTES + 1))
    assert answer.status == 413
    assert answer.json()["error"] == "This file is too large: expected 20 MB at most."


def test_a_body_may_not_be_longer_than_its_content_length(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunked encoding overrides Content-Length in HTTP: the bytes that arrive are counted."""
    monkeypatch.setattr(uploads, "MAX_BYTES", 1000)
    headers = {"Content_Type": uploads.TYPE, "Content_Length": "5", "Transfer_Encoding": "chunked"}
    answer = client.ask("POST", "/caption", b"bb8\r\n" + b"x" * 3000 + b"\r\n0\r\n\r\n", **headers)
    assert answer.status in (400, 413)


def test_a_client_that_disconnects_is_no_bug(client: Client, photo: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        head = f"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Type: {uploads.TYPE}\r\nContent-Length: 5000"
        connection.sendall(f"{head}\r\n\r\n".encode() + b"x" * 100)
    assert client.post("/caption?search=greedy", photo).status == 200
    assert capsys.readouterr().err == ""


def test_length_and_type_are_required(client: Client, photo: bytes) -> None:
    chunked = {"Content_Type": uploads.TYPE, "Transfer_Encoding": "chunked"}
    assert client.ask("POST", "/caption", iter([photo]), **chunked).status == 411
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        assert client.post("/caption", photo, Content_Type=kind).status == 415, kind  # what other sites may send


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("model=2", "model=2 does not exist: expected 0 to 1"),
        ("model=-1", "does not exist"),
        ("search=beem", "Did you mean beam?"),
        ("beamwidth=3", "Did you mean beam_width?"),
        ("beam_width=0", "beam_width=0 is out of range: expected a number from 1 to 20"),
        ("beam_width=1000", "out of range"),
        ("beam_width=2.5", "beam_width='2.5' is no number"),
        ("length_penalty=nan", "length_penalty=nan is out of range"),
        ("temperature=0", "temperature=0.0 is out of range"),
        ("max_length=100000", "'max_length' does not exist"),
    ],
)
def test_wrong_settings(client: Client, photo: bytes, query: str, message: str) -> None:
    answer = client.post(f"/caption?{query}", photo)
    assert answer.status == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "[::1", "a b"])
def test_other_host_names_are_rejected(client: Client, host: str) -> None:
    answer = client.get("/models", Host=host)
    assert answer.status in (400, 421)
    assert b"run" not in answer.body.replace(b"runs the page", b"")


@pytest.mark.parametrize("host", ["localhost:7860", "LOCALHOST", "127.0.0.1", "[::1]:7860", "192.168.0.7:7860"])
def test_its_own_names_and_addresses_are_accepted(client: Client, host: str) -> None:
    assert client.get("/models", Host=host).status == 200


def test_every_response_has_the_security_headers(client: Client, photo: bytes) -> None:
    for answer in (
        client.get("/"),
        client.get("/page.js"),
        client.get("/nowhere"),
        client.get("/", Host="evil.example"),
        client.post("/caption", b""),
        client.post("/preview", photo),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/nowhere", "/examples/x"])
def test_nothing_else_is_served(client: Client, path: str) -> None:
    assert client.get(path).status == 404


def test_a_bug_is_reported_as_one(
    models: list[DemoModel], photo: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(app_module, "caption_photo", fail)
    with serving(build_app(models)) as client:
        answer = client.post("/caption", photo)
    assert answer.status == 500
    assert answer.json()["error"] == "This is a bug in captioner (ZeroDivisionError); the terminal shows the traceback."
    assert "ZeroDivisionError: a secret" in capsys.readouterr().err
