"""Archives on a server give what the same files give; a lost connection is taken up again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

from captioner.config import CacheConfig, ShardsConfig
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.data.datasets.tar_shards import remote
from captioner.data.datasets.tar_shards.remote import RemoteArchive, RemoteFile
from captioner.data.features.cache import image_digests
from captioner.data.features.sources import open_features
from captioner.errors import DataError
from captioner.nn.encoders.build_encoder import build_encoder
from tests.data.datasets.tar_shards.tars import tar
from tests.data.download.loopback import Server, serving
from tests.data.tiny import jpeg
from tests.tiny import ENCODER

BODY = random.Random(0).randbytes(100_000)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    """Two archives of three pairs for train, one for val."""
    files = {}
    for name, keys in (("train-0.tar", "abc"), ("train-1.tar", "def"), ("val-0.tar", "gh")):
        pairs = [((f"{key}.jpg", jpeg(ord(key))), (f"{key}.txt", f"a {key}".encode())) for key in keys]
        files[f"data/{name}"] = tar(member for pair in pairs for member in pair)
    with serving(Server({**files, "body": BODY}, headers={"ETag": '"1"'})) as running:
        yield running


def config(server: Server, **settings: object) -> ShardsConfig:
    patterns = {"root": f"{server.url}/data", "train": "train-{0..1}.tar", "val": "val-0.tar"}
    return ShardsConfig(**{**patterns, "num_workers": 0, **settings})  # type: ignore[arg-type]


def test_the_data_is_that_of_the_files(server: Server, tmp_path: Path) -> None:
    for name in ("train-0.tar", "train-1.tar"):
        (tmp_path / name).write_bytes(server.files[f"data/{name}"])
    local = load_dataset(ShardsConfig(root=str(tmp_path), num_workers=0), "train")
    found = load_dataset(config(server), "train")
    assert found.references == local.references
    assert available_splits(config(server)) == ["train", "val"]
    assert [image.path.read_bytes() for image in found] == [image.path.read_bytes() for image in local]
    assert image_digests(found.paths) == image_digests(local.paths)
    assert str(found.images[3].path) == f"{server.url}/data/train-1.tar:d.jpg"


def test_a_pattern_may_be_a_whole_url(server: Server) -> None:
    data = ShardsConfig(train=f"{server.url}/data/train-{{0..1}}.tar", num_workers=0)
    assert list(load_dataset(data, "train").references) == list("abcdef")


def test_an_archive_is_indexed_once_and_its_images_are_not_read_for_their_hashes(server: Server) -> None:
    load_dataset(config(server), "train")
    server.requests.clear()
    found = load_dataset(config(server), "train")
    digests, bad = image_digests(found.paths)
    assert len(digests) == 6
    assert not bad
    assert not server.requests  # only HEAD


def test_a_changed_archive_is_indexed_again(server: Server) -> None:
    load_dataset(config(server), "val")
    server.files["data/val-0.tar"] = tar([("x.jpg", jpeg(1)), ("x.txt", b"an x")])
    server.headers["ETag"] = '"2"'
    assert load_dataset(config(server), "val").references == {"x": ["an x"]}


@pytest.mark.parametrize("workers", [0, 2])
def test_features_are_those_of_the_files(server: Server, tmp_path: Path, workers: int) -> None:
    for name in ("train-0.tar", "train-1.tar"):
        (tmp_path / name).write_bytes(server.files[f"data/{name}"])
    encoder = build_encoder(ENCODER)
    grids = []
    for data in (ShardsConfig(root=str(tmp_path), num_workers=0), config(server, num_workers=workers)):
        features = open_features(
            load_dataset(data, "train"), encoder, with_grid=True, data=data, cache=CacheConfig(enabled=False),
            device=next(encoder.parameters()).device,
        )  # fmt: skip
        grids.append([batch.grid for _, batch in features.batches([[0, 4], [5, 1]])])
    assert all((one == other).all() for one, other in zip(*grids, strict=True))


def test_a_range_is_requested_again(server: Server) -> None:
    """Cut connections and errors of a busy server; the requests are for the same range."""
    server.cuts += [0, 70]
    server.statuses += [503]
    assert RemoteArchive(f"{server.url}/body").read_range(1000, 500) == BODY[1000:1500]
    assert [asked for _, asked in server.requests] == ["bytes=1000-1499"] * 4


def test_reading_in_order_requests_chunks_ahead(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "CHUNK", 30_000)
    with RemoteFile(RemoteArchive(f"{server.url}/body"), len(BODY)) as file:
        assert file.read(10) == BODY[:10]
        file.seek(29_990)
        assert file.read(20_020) == BODY[29_990:50_010]
        # A request that no thread has begun is cancelled by the jump below: wait until all four were made.
        deadline = time.monotonic() + 60
        while len(server.requests) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        file.seek(-10, 2)
        assert file.read() == BODY[-10:]
        assert file.read(5) == b""
    asked = sorted(requested or "" for _, requested in server.requests)
    assert asked == ["bytes=0-29999", "bytes=30000-59999", "bytes=60000-89999", "bytes=90000-99999"]


def test_a_connection_that_stays_lost_is_one_message(server: Server) -> None:
    data = config(server)
    found = load_dataset(data, "val")
    server.cuts += [100] * 20
    message = r"val-0\.tar cannot be read: .*, 5 times\. Check the connection and try again"
    with pytest.raises(DataError, match=message):
        found.images[0].path.read_bytes()
    server.cuts[:] = [100] * 20
    features = open_features(
        found, build_encoder(ENCODER), with_grid=False, data=replace(data, on_bad_image="skip"),
        cache=CacheConfig(enabled=False), device=next(build_encoder(ENCODER).parameters()).device,
    )  # fmt: skip
    with pytest.raises(DataError, match=message):  # no image is left out because of the network
        list(features.batches([[0, 1]]))
    server.cuts.clear()


def test_an_archive_that_does_not_exist(server: Server) -> None:
    with pytest.raises(DataError, match=r"data/train-2\.tar does not exist \(404\)"):
        load_dataset(config(server, train="train-{0..2}.tar"), "train")


@pytest.mark.parametrize("headers", [{}, {"Accept-Ranges": "none"}])
def test_a_server_without_ranges(server: Server, headers: dict[str, str]) -> None:
    found = load_dataset(config(server), "val")
    server.ranges, server.headers = False, {**server.headers, **headers}
    with pytest.raises(DataError, match="the server sends whole files only"):
        found.images[1].path.read_bytes() if not headers else load_dataset(config(server), "val")


def test_access_denied_is_not_tried_again(server: Server) -> None:
    found = load_dataset(config(server), "val")
    server.requests.clear()
    server.statuses += [403]
    with pytest.raises(DataError, match=r"cannot be read: access is denied \(403\)"):
        found.images[0].path.read_bytes()
    assert len(server.requests) == 1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(DataError, match=r"s3://bucket/train-0\.tar needs a package .*: pip install 's3fs'"):
        load_dataset(ShardsConfig(root="s3://bucket", train="train-0.tar"), "train")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(DataError, match=r"pip install 'captioner\[remote\]'"):
        load_dataset(ShardsConfig(root="https://host", train="train-0.tar"), "train")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"train": None, "val": None}, r"is on a server: name its archives"),
        ({"train": "train-*.tar"}, r"a server's files cannot be listed"),
        ({"train": "gopher://host/train.tar"}, r"cannot be read from gopher:\. Supported: https"),
    ],
)
def test_a_mistake_is_one_message(settings: dict[str, str | None], sentence: str) -> None:
    values = {"root": "https://host/data", "train": "a.tar", "val": "b.tar", **settings}
    with pytest.raises(DataError, match=sentence):
        load_dataset(ShardsConfig(**values), "train")  # type: ignore[arg-type]
