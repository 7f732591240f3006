"""Downloads from a local server: interruptions are resumed, wrong files are never kept."""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.data.download import http as transfer
from captioner.data.download.http import RemoteFile, fetch
from captioner.errors import ConfigError, DataError
from tests.data.download.loopback import Server, serving

BODY = random.Random(0).randbytes(300_000)
FILE = RemoteFile("zips/images.zip", len(BODY), f"md5:{hashlib.md5(BODY).hexdigest()}")
UNCHECKED = RemoteFile("zips/images.zip")


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def _fetch(file: RemoteFile, folder: Path, *servers: Server, timeout: float = 5.0) -> Path:
    mirrors = [server.url for server in servers]
    return fetch(file, folder, mirrors, progress=False, timeout=timeout, attempts=2, pause=0.0)


def _server(**settings: object) -> Server:
    return Server({"zips/images.zip": BODY}, **settings)  # type: ignore[arg-type]


@contextmanager
def _nobody() -> Iterator[str]:
    """An address without a server. Its port is taken meanwhile, so that no other test gets it, but nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("file", [FILE, UNCHECKED, RemoteFile("zips/images.zip", checksum=FILE.checksum)])
def test_whole_file(tmp_path: Path, file: RemoteFile) -> None:
    with serving(_server()) as server:
        path = _fetch(file, tmp_path / "new", server)
        assert path == tmp_path / "new" / "images.zip"
        assert path.read_bytes() == BODY
        assert not path.with_name("images.zip.part").exists()
        _fetch(file, tmp_path / "new", server)  # exists: not requested again
    assert server.requests == [("/zips/images.zip", None)]


def test_sha256_by_its_first_digits(tmp_path: Path) -> None:
    digits = hashlib.sha256(BODY).hexdigest()[:8]
    with serving(_server()) as server:
        assert _fetch(RemoteFile(FILE.path, checksum=f"sha256:{digits}"), tmp_path, server).read_bytes() == BODY


@given(cuts=st.lists(st.integers(1, 120_000), min_size=1, max_size=4))
@settings(max_examples=10, deadline=None)
def test_a_lost_connection_is_resumed(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("broken")
    with serving(_server(cuts=list(cuts))) as server:
        assert _fetch(FILE, folder, server).read_bytes() == BODY
    begins = [0]
    for cut in cuts:
        if begins[-1] + cut < len(BODY):
            begins.append(begins[-1] + cut)
    assert [asked for _, asked in server.requests] == [f"bytes={start}-" if start else None for start in begins]


def test_an_interrupted_run_is_resumed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "CHUNK", 50_000)
    asked_for = 0

    def size_then_ctrl_c(path: Path) -> int:
        nonlocal asked_for
        asked_for += 1
        if path.exists() and path.stat().st_size and asked_for > 2:
            raise KeyboardInterrupt
        return path.stat().st_size if path.exists() else 0

    with serving(_server(cuts=[130_000])) as server:
        with monkeypatch.context() as patch:
            patch.setattr(transfer, "_size", size_then_ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                _fetch(FILE, tmp_path, server)
        part = tmp_path / "images.zip.part"
        assert part.read_bytes() == BODY[:130_000]
        assert not (tmp_path / "images.zip").exists()
        assert _fetch(FILE, tmp_path, server).read_bytes() == BODY
    assert server.requests[-1] == ("/zips/images.zip", "bytes=130000-")


@pytest.mark.parametrize("file", [FILE, UNCHECKED])
def test_server_without_range_requests(tmp_path: Path, file: RemoteFile) -> None:
    with serving(_server(ranges=False, cuts=[100_000])) as server:
        assert _fetch(file, tmp_path, server).read_bytes() == BODY
    assert len(server.requests) == 2


def test_server_without_content_length(tmp_path: Path) -> None:
    with serving(_server(lengths=False, cuts=[100_000])) as server:
        assert _fetch(FILE, tmp_path, server).read_bytes() == BODY  # the published size reveals the interruption


def test_missing_on_one_mirror_found_on_the_next(tmp_path: Path) -> None:
    with serving(Server({})) as empty, serving(_server()) as server:
        assert _fetch(FILE, tmp_path, empty, server).read_bytes() == BODY
    assert len(empty.requests) == 1  # a 404 is final


def test_a_download_continues_on_the_next_mirror(tmp_path: Path) -> None:
    with serving(_server(cuts=[100_000, 0, 0])) as weak, serving(_server()) as server:
        assert _fetch(FILE, tmp_path, weak, server).read_bytes() == BODY
    assert server.requests == [("/zips/images.zip", "bytes=100000-")]


def test_a_busy_server_is_tried_again(tmp_path: Path) -> None:
    with serving(_server(statuses=[503])) as server:
        assert _fetch(FILE, tmp_path, server).read_bytes() == BODY


def test_wrong_bytes_are_not_kept(tmp_path: Path) -> None:
    wrong = BODY[:-1] + bytes([BODY[-1] ^ 1])
    with serving(Server({FILE.path: wrong})) as bad:
        with pytest.raises(DataError, match=r"md5 checksum is \w+ instead of the published \w+"):
            _fetch(FILE, tmp_path, bad)
        assert list(tmp_path.iterdir()) == []
        with serving(_server()) as server:
            assert _fetch(FILE, tmp_path, bad, server).read_bytes() == BODY


def test_an_html_page_instead_of_the_file(tmp_path: Path) -> None:
    page = Server({FILE.path: b"<html>please log in</html>"})
    with serving(page) as portal, pytest.raises(DataError, match="26 bytes instead of the published 300,000"):
        _fetch(FILE, tmp_path, portal)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_file_is_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "images.zip.part").write_bytes(b"x" * 1000)
    with serving(_server()) as server:
        assert _fetch(FILE, tmp_path, server).read_bytes() == BODY
    assert [asked for _, asked in server.requests] == ["bytes=1000-", None]


@pytest.mark.parametrize(("length", "file"), [(len(BODY), FILE), (len(BODY), UNCHECKED), (len(BODY) + 5, UNCHECKED)])
def test_part_as_long_as_the_file_or_longer(tmp_path: Path, length: int, file: RemoteFile) -> None:
    (tmp_path / "images.zip.part").write_bytes((BODY + b"extra")[:length])
    with serving(_server()) as server:
        assert _fetch(file, tmp_path, server).read_bytes() == BODY


def test_an_invalid_content_range_is_an_error(tmp_path: Path) -> None:
    strange = _server(cuts=[1000], range_answer="bytes 7-8/9")
    with serving(strange) as server, pytest.raises(DataError, match="is invalid"):
        _fetch(FILE, tmp_path, server)
    assert (tmp_path / "images.zip.part").read_bytes() == BODY[:1000]  # kept for another attempt


def test_no_connection_says_what_to_do_by_hand(tmp_path: Path) -> None:
    with _nobody() as address, pytest.raises(DataError) as caught:
        fetch(FILE, tmp_path, [address], progress=False, attempts=2, pause=0.0)
    assert f"{address}/zips/images.zip" in str(caught.value)
    assert f"put it at {tmp_path / 'images.zip'}" in str(caught.value)


def test_silent_server_times_out(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        silent = Server({}, url=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(DataError, match="timed out"):
            _fetch(FILE, tmp_path, silent, timeout=0.1)


def test_other_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "images.zip"
    mine.write_bytes(b"mine")
    with serving(_server()) as server, pytest.raises(DataError, match="Remove it"):
        _fetch(FILE, tmp_path, server)
    assert mine.read_bytes() == b"mine"


def test_a_disk_that_is_too_small(tmp_path: Path) -> None:
    with serving(_server()) as server, pytest.raises(DataError, match="GB free"):
        _fetch(RemoteFile("x", size=10**18), tmp_path, server)


@pytest.mark.parametrize("mirrors", [[], ["ftp://example.org"], ["file:///etc"], ["example.org"]])
def test_mirrors_are_checked(tmp_path: Path, mirrors: list[str]) -> None:
    with pytest.raises(ConfigError):
        fetch(FILE, tmp_path, mirrors, progress=False)


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with serving(_server()) as server, pytest.raises(DataError, match="cannot be written"):
        _fetch(FILE, tmp_path / "file" / "below", server)
