"""Where the files of onnxruntime-web come from, and what is said where they are missing or others."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from captioner.data.download.http import RemoteFile
from captioner.demo.web import onnxruntime_web
from captioner.demo.web.onnxruntime_web import BINARY, MODULE, VERSION, cached_package, find_runtime
from captioner.errors import CaptionerError
from tests.data.download.loopback import Server, serving

FILES = {MODULE: b"export const env = {};", BINARY: b"\0asm"}


def package(files: dict[str, bytes]) -> bytes:
    """A package as npm packs it, with other files beside."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in {"package.json": b"{}", **{f"dist/{name}": part for name, part in files.items()}}.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """A small package, which is the pinned one; nothing is in the cache."""
    packed = package(FILES)
    name = f"onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    checksum = f"sha512:{hashlib.sha512(packed).hexdigest()}"
    monkeypatch.setattr(onnxruntime_web, "_PACKAGE", RemoteFile(name, len(packed), checksum))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(onnxruntime_web, "SHA256", sums)
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("captioner.data.download.http.time.sleep", lambda seconds: None)
    return packed


def test_the_package_is_downloaded_once(pinned: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    with serving(Server({path: pinned})) as server:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", server.url)
        assert find_runtime() == FILES
        assert find_runtime() == FILES
        assert len(server.requests) == 1
    assert find_runtime() == FILES  # without a network


def test_another_package_of_the_registry_is_refused(pinned: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    altered = bytearray(pinned)
    altered[len(altered) // 2] ^= 1
    with serving(Server({f"onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz": bytes(altered)})) as server:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", server.url)
        with pytest.raises(CaptionerError, match=r"its sha512 checksum is .* instead of the published"):
            find_runtime()
    assert not cached_package().exists()


def test_without_a_network_the_message_says_what_to_do(pinned: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Server({})) as server:
        address = server.url
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)  # where nobody listens any more
    with pytest.raises(CaptionerError, match=rf"needs onnxruntime-web {VERSION}.*--onnxruntime-web onnxruntime-web"):
        find_runtime()


def test_the_package_as_a_file(pinned: bytes, tmp_path: Path) -> None:
    (tmp_path / "any.tgz").write_bytes(pinned)
    assert find_runtime(tmp_path / "any.tgz") == FILES


@pytest.mark.parametrize("place", [".", "dist", "package/dist", "node_modules/onnxruntime-web/dist"])
def test_a_folder_that_has_the_files(pinned: bytes, tmp_path: Path, place: str) -> None:
    (tmp_path / "given" / place).mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / "given" / place / name).write_bytes(content)
    assert find_runtime(tmp_path / "given") == FILES


def test_wrong_places_are_one_message_each(pinned: bytes, tmp_path: Path) -> None:
    for content, message in (
        (package({MODULE: FILES[MODULE]}), "is not the package onnxruntime-web"),
        (package({**FILES, BINARY: b"another"}), rf"{BINARY} in .* is not that of onnxruntime-web {VERSION}"),
        (pinned[:-40], "is not the package onnxruntime-web"),
        (b"no archive", "is not the package onnxruntime-web"),
    ):
        (tmp_path / "given.tgz").write_bytes(content)
        with pytest.raises(CaptionerError, match=message):
            find_runtime(tmp_path / "given.tgz")
    with pytest.raises(CaptionerError, match=r"has no ort\.wasm"):
        find_runtime(tmp_path)
    with pytest.raises(CaptionerError, match="does not exist"):
        find_runtime(tmp_path / "missing")


@pytest.mark.slow
def test_the_real_package_has_the_pinned_files(runtime: dict[str, bytes]) -> None:
    assert runtime[BINARY].startswith(b"\0asm")
    assert f"ONNX Runtime Web v{VERSION}".encode() in runtime[MODULE][:200]
