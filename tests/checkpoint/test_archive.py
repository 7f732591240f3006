"""Archives of exports: packing, unpacking, and malicious archives."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.checkpoint import archive as model_archive
from captioner.checkpoint.archive import pack_export, unpacked
from captioner.errors import CheckpointError, WeightsError

STEP = "checkpoints/step-00000012"
FILES = {
    "MODEL_CARD.md": b"# a card\n",
    "config.yaml": b"seed: 0\n",
    "metrics.json": b"{}",
    "checkpoints/index.json": b"{}",
    f"{STEP}/config.json": b"{}",
    f"{STEP}/model.safetensors": bytes(range(256)) * 500,
    f"{STEP}/vocab.json": b"[]",
    f"{STEP}/SHA256SUMS": b"",
}


@pytest.fixture
def export(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "export"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["m.tar.gz", "m.tgz", "m.zip", "a b.ZIP"])
def test_pack_and_unpack_are_inverse(export: Path, tmp_path: Path, name: str) -> None:
    pack_export(export, tmp_path / name)
    with unpacked(tmp_path / name) as folder:
        assert contents(folder) == FILES
    assert not folder.exists()
    first = (tmp_path / name).read_bytes()
    pack_export(export, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first  # without times and user names


def test_errors_name_the_archive(export: Path, tmp_path: Path) -> None:
    """What is wrong with the content is said of the file that the user has, not of the temporary folder."""
    pack_export(export, tmp_path / "m.zip")
    with pytest.raises(WeightsError) as raised, unpacked(tmp_path / "m.zip") as folder:
        raise WeightsError(f"{folder}/checkpoints/vocab.json is damaged.")
    assert str(raised.value) == f"{tmp_path}/m.zip/checkpoints/vocab.json is damaged."


def tar(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                entry = tarfile.TarInfo(member[0])
                entry.size = len(member[1])
                archive.addfile(entry, io.BytesIO(member[1]))


def special(kind: bytes, name: str = "m/metrics.json", target: str = "/etc/passwd") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


BAD_NAMES = (
    "/etc/passwd",
    "../metrics.json",
    "m/../../metrics.json",
    "m/n/metrics.json",
    "m/checkpoints/step-1/../config.json",
    "m/checkpoints/step-1/trainer.pt",
    "m/checkpoints/evil/config.json",
    "C:\\metrics.json",
    "m\\metrics.json",
    "m/metrics.json\n",
    "m/sitecustomize.py",
    "../metrics.json/metrics.json",
)


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_other_member_names_are_errors(tmp_path: Path, name: str, ending: str) -> None:
    archive = tmp_path / f"m{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr(name, b"evil")
    else:
        tar(archive, (name, b"evil"))
    with pytest.raises(CheckpointError, match="it contains"), unpacked(archive):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_errors(tmp_path: Path, kind: bytes) -> None:
    tar(tmp_path / "m.tgz", special(kind))
    with pytest.raises(CheckpointError, match="is not a regular file"), unpacked(tmp_path / "m.tgz"):
        pass


def test_a_link_in_a_zip_is_an_error(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("m/metrics.json")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as packed:
        packed.writestr(member, b"/etc/passwd")
    with pytest.raises(CheckpointError, match="is not a regular file"), unpacked(tmp_path / "m.zip"):
        pass


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ([("m/metrics.json", b"{}"), ("m/metrics.json", b"[]")], "twice"),
        ([("m/metrics.json", b"{}"), ("n/config.yaml", b"")], "more than one folder"),
        ([("m/metrics.json", b"{}"), ("config.yaml", b"")], "more than one folder"),
        ([(f"m/checkpoints/step-{n}/config.json", b"") for n in range(40)], "too many files"),
    ],
)
def test_combinations_of_files_that_no_export_has(tmp_path: Path, members: list[tuple[str, bytes]], match: str) -> None:
    tar(tmp_path / "m.tar.gz", *members)
    with pytest.raises(CheckpointError, match=match), unpacked(tmp_path / "m.tar.gz"):
        pass


def tar_of_zeros(path: Path) -> None:
    tar(path, (f"m/{STEP}/model.safetensors", bytes(400_000)))


def zip_of_zeros(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(f"m/{STEP}/model.safetensors", bytes(400_000))


def endless_header(path: Path) -> None:
    """A pax header of many zeros, which tarfile reads completely before the first name."""
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    with gzip.open(path, "wb") as stream:
        stream.write(header.tobuf(tarfile.GNU_FORMAT))
        stream.write(bytes(600_000))


@pytest.mark.parametrize(
    ("make", "name"), [(tar_of_zeros, "m.tar.gz"), (zip_of_zeros, "m.zip"), (endless_header, "m.tgz")]
)
def test_an_archive_that_unpacks_to_far_more_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], name: str
) -> None:
    monkeypatch.setattr(model_archive, "_ALWAYS_ALLOWED", 100_000)
    make(tmp_path / name)
    assert (tmp_path / name).stat().st_size < 5_000
    with pytest.raises(CheckpointError), unpacked(tmp_path / name):
        pass


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["m.tar.gz", "m.zip"]))
def test_a_damaged_archive_gives_one_message_or_unpacks(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "export").mkdir()
    (folder / "export" / "metrics.json").write_bytes(b'{"CIDEr": 0.5}' * 9)
    (folder / "export" / "config.yaml").write_bytes(b"seed: 0")
    pack_export(folder / "export", folder / name)
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(CheckpointError), unpacked(folder / name) as made:
        assert set(contents(made)) <= {"metrics.json", "config.yaml"}
