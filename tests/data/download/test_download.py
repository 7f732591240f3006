"""The downloads, from a local server instead of the real ones."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from captioner.config import CocoConfig
from captioner.data.datasets.registry import load_dataset
from captioner.data.download import download
from captioner.data.download.http import RemoteFile
from captioner.errors import ConfigError, DataError
from tests.data.download.loopback import Server, serving
from tests.data.tiny import coco_captions, jpeg


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def _zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def coco_server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """COCO 2017 with two images per split, and a table of archives that describes it."""
    ids = {"train": [1, 2], "val": [3, 4]}
    captions = {
        f"annotations/captions_{part}2017.json": json.dumps(
            coco_captions({number: ["a dog"] for number in numbers}, lambda number: f"{number:012d}.jpg")
        ).encode()
        for part, numbers in ids.items()
    }
    zips = {"annotations/annotations_trainval2017.zip": _zip(captions)}
    for part, numbers in ids.items():
        zips[f"zips/{part}2017.zip"] = _zip({f"{part}2017/{number:012d}.jpg": jpeg() for number in numbers})
    archives = {
        (part, 2017): download.Archive(
            RemoteFile(path, len(zips[path]), f"md5:{hashlib.md5(zips[path]).hexdigest()}"), unpacked, 2
        )
        for part, path, unpacked in [
            ("annotations", "annotations/annotations_trainval2017.zip", "annotations/captions_*2017.json"),
            ("train", "zips/train2017.zip", "train2017/*.jpg"),
            ("val", "zips/val2017.zip", "val2017/*.jpg"),
        ]
    }
    monkeypatch.setattr(download, "COCO_ARCHIVES", archives)
    return Server(zips)


def test_coco_from_nothing_to_a_data_set(tmp_path: Path, coco_server: Server) -> None:
    with serving(coco_server) as server:
        folders = download.download_coco(tmp_path, mirrors=[server.url], progress=False)
        assert folders == [tmp_path / "annotations", tmp_path / "train2017", tmp_path / "val2017"]
        assert [image.image_id for image in load_dataset(CocoConfig(root=str(tmp_path)), "train")] == [1, 2]
        assert not list(tmp_path.glob("*.zip*"))
        asked = len(server.requests)
        download.download_coco(tmp_path, mirrors=[server.url], progress=False)
        assert len(server.requests) == asked  # complete: nothing to do
        (tmp_path / "val2017/000000000003.jpg").unlink()
        download.download_coco(tmp_path, mirrors=[server.url], progress=False)
        assert server.requests[asked:] == [("/zips/val2017.zip", None)]
    assert len(load_dataset(CocoConfig(root=str(tmp_path)), "val")) == 2


def test_coco_parts_and_kept_archives(tmp_path: Path, coco_server: Server) -> None:
    with serving(coco_server) as server:
        for _ in range(2):
            download.download_coco(tmp_path, parts=["val"], mirrors=[server.url], keep_archives=True, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val2017", "val2017.zip"]
    assert len(server.requests) == 1


def test_coco_offline(tmp_path: Path, coco_server: Server) -> None:
    by_hand = r"annotations_trainval2017\.zip on another machine"
    with serving(Server({})) as empty, pytest.raises(DataError, match=by_hand):
        download.download_coco(tmp_path, mirrors=[empty.url], progress=False)


def test_coco_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2014 and 2017"):
        download.download_coco(tmp_path, year=2015)
    with pytest.raises(ConfigError, match="annotations, train, val"):
        download.download_coco(tmp_path, parts=["trian"])


def test_table_of_archives_is_complete() -> None:
    assert set(download.COCO_ARCHIVES) == {(part, year) for part in download.COCO_PARTS for year in (2014, 2017)}
    for (part, year), archive in download.COCO_ARCHIVES.items():
        assert str(year) in archive.file.name
        assert str(year) in archive.unpacked
        assert archive.file.checksum is not None
        assert len(archive.file.checksum) == len("md5:") + 32
        assert (archive.file.size or 0) > 2e8
        assert archive.folder == ("annotations" if part == "annotations" else f"{part}{year}")
    images = {year: sum(download.COCO_ARCHIVES[part, year].count for part in ("train", "val")) for year in (2014, 2017)}
    assert images == {2014: 123_287, 2017: 123_287}


def test_table_of_archives_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")
    for archive in download.COCO_ARCHIVES.values():
        digits = str(archive.file.checksum).removeprefix("md5:")
        assert f"| `{archive.file.name}` | {archive.file.size:,} | `{digits}` |" in page


@pytest.mark.parametrize("folder", ["", "caption_datasets/"])
def test_karpathy(tmp_path: Path, folder: str) -> None:
    archive = _zip({f"{folder}dataset_{name}.json": b"{}" for name in ("flickr8k", "coco")})
    with serving(Server({"caption_datasets.zip": archive})) as server:
        path = download.download_karpathy(tmp_path, [server.url], progress=False)
    assert path == tmp_path / f"{folder}dataset_coco.json"
    assert path.is_file()


def test_weights_are_checked_by_the_hash_in_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"weights" * 1000
    name = f"net-{hashlib.sha256(body).hexdigest()[:8]}.pth"
    with serving(Server({name: body})) as server, serving(Server({name: body[1:]})) as wrong:
        entry = SimpleNamespace(url=f"{server.url}/{name}")
        monkeypatch.setattr(download, "torchvision_entry", lambda name, weights: entry)
        with pytest.raises(DataError, match="sha256"):
            download.download_weights("net", mirrors=[wrong.url], folder=tmp_path, progress=False)
        path = download.download_weights("net", folder=tmp_path, progress=False)  # torchvision's server
    assert path == tmp_path / name
    assert path.read_bytes() == body


def test_weights_of_torchvision_go_to_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.torch.hub, "get_dir", lambda: str(tmp_path))
    with serving(Server({})) as server:
        with pytest.raises(DataError, match=f"{tmp_path}/checkpoints/resnet18-f37072fd.pth"):
            download.download_weights("resnet18", mirrors=[server.url], progress=False)
        assert server.requests == [("/resnet18-f37072fd.pth", None)]
    with pytest.raises(ConfigError, match="resnet_18"):
        download.download_weights("resnet_18")
