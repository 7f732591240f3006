"""The distributions: their metadata, their contents, and an installed wheel that captions a photo offline."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from captioner import Captioner, __version__
from captioner.checkpoint import pretrained

ROOT = Path(__file__).parent.parent
PHOTO = ROOT / "docs" / "pretrained" / "rocket.jpg"
NO_NETWORK = (
    "import socket\n\ndef no_network(*arguments, **options):\n    raise OSError('no network')\n\n"
    "socket.socket.connect = socket.create_connection = socket.getaddrinfo = no_network\n"
)

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed; its environment has no PYTHONPATH and no proxy settings."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (source,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new virtual environment with the wheel; dependencies come from this environment."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    install = ["-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", distributions[1]]
    run(sys.executable, *install, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # The path file adds this environment's packages at the end. Their own path files are not read, so the
    # checkout (an editable installation) stays invisible.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    (packages / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    return folder / "bin"


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"captioner-{__version__}.dist-info/METADATA"))


def test_metadata(distributions: tuple[Path, Path]) -> None:
    fields = metadata(distributions[1])
    assert fields["Version"] == __version__
    assert fields["License-Expression"] == "MIT"
    assert fields["License-File"] == "LICENSE"
    assert fields["Author"] == "The captioner authors"
    assert "Typing :: Typed" in fields.get_all("Classifier", [])
    assert "image captioning" in fields["Keywords"]


def test_wheel_contains_configs_and_the_bundled_model(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[1]) as archive:
        packed = {entry.filename: entry.file_size for entry in archive.infolist()}
    for path in pretrained.FOLDER.rglob("*"):
        if path.is_file():
            assert packed[f"captioner/pretrained/{path.relative_to(pretrained.FOLDER)}"] == path.stat().st_size
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"captioner/conf/{path.relative_to(ROOT / 'conf')}" in packed
    for folder in ("page", "web/page"):
        for path in (ROOT / "captioner" / "demo" / folder).iterdir():
            assert packed[f"captioner/demo/{folder}/{path.name}"] == path.stat().st_size
    assert {name.split("/")[0] for name in packed} == {"captioner", f"captioner-{__version__}.dist-info"}


def test_source_distribution_contains_what_development_needs(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml", "train.py", "conf/train.yaml"}
    assert needed <= packed
    assert any(name.startswith("tests/") for name in packed)
    assert not any(name.startswith((".venv", "runs/", ".git/")) for name in packed)


def test_installed_wheel_captions_a_photo(installed: Path, tmp_path: Path) -> None:
    """From an empty folder, without a network."""
    where = "import captioner; print(captioner.__file__, captioner.__version__)"
    file, version = run(installed / "python", "-c", where, cwd=tmp_path).split()
    assert Path(file).is_relative_to(installed.parent)
    assert version == __version__
    caption = run(installed / "captioner", "caption", PHOTO, cwd=tmp_path)
    assert caption == Captioner.pretrained(pretrained.DEFAULT, "cpu").caption(PHOTO).text + "\n"
    assert {path.name for path in tmp_path.iterdir()} <= {".cache"}  # of this home: where attention is compiled to


def test_installed_wheel_finds_its_configs(installed: Path, tmp_path: Path) -> None:
    assert "trainer" in run(installed / "captioner", "train", "--help", cwd=tmp_path)
