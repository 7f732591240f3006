"""Pack an export into one .tar.gz or .zip file, and unpack such a file without trusting it.

Only files that an export contains are unpacked, under the names that it gives them, each once. Any other member (an
unknown name, a path out of the folder, a link, a device) is an error, and so is an archive that unpacks to far more
than its own size.
"""

from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from captioner.errors import CaptionerError, CheckpointError
from captioner.files import atomic_file

ENDINGS = (".tar.gz", ".tgz", ".zip")
_RUN_FILES = r"MODEL_CARD\.md|config\.yaml|metrics\.json|checkpoints/index\.json"
_STEP_FILES = (
    r"checkpoints/step-\d{1,12}(\.\d{1,4})?/"
    r"(config\.json|(model|calibration|consensus)\.safetensors|vocab\.json|phrases\.npz|tokenizer\.model|SHA256SUMS)"
)
_MEMBER = re.compile(rf"(\w[\w.-]*/)?({_RUN_FILES}|{_STEP_FILES})", re.ASCII)
_MAX_MEMBERS = 32
_MAX_RATIO, _ALWAYS_ALLOWED = 20, 64 << 20  # compression saves a tenth of the weights, and nine tenths of the text
_BLOCK_SIZE = 1 << 20
_Members = Iterator[tuple[str, IO[bytes]]]


def is_archive_name(path: Path) -> bool:
    """Whether the file name ends in .tar.gz, .tgz or .zip."""
    return path.name.lower().endswith(ENDINGS)


def pack_export(folder: Path, archive: Path) -> None:
    """Write the files of an export to `archive`, in a folder of the archive's name; equal files give equal bytes."""
    ending = next(ending for ending in ENDINGS if archive.name.lower().endswith(ending))
    top = re.sub(r"[^\w.-]", "_", archive.name[: -len(ending)], flags=re.ASCII).lstrip(".-") or "model"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    members = [(f"{top}/{path.relative_to(folder).as_posix()}", path.read_bytes()) for path in files]
    with atomic_file(archive) as temporary:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
                for name, content in members:
                    packed.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        else:
            with (
                temporary.open("wb") as file,
                gzip.GzipFile("", "wb", fileobj=file, mtime=0) as stream,
                tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
            ):
                for name, content in members:
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """A temporary run folder with the archive's files; CheckpointError if the archive is damaged or not an export.

    Errors of whatever reads the folder name the archive instead of it.
    """
    with tempfile.TemporaryDirectory(prefix="captioner-") as scratch:
        folder = Path(scratch)
        try:
            with archive.open("rb") as file:
                limit = max(_ALWAYS_ALLOWED, _MAX_RATIO * archive.stat().st_size)
                is_zip = archive.name.lower().endswith(".zip")
                _unpack(_zip_members(file) if is_zip else _tar_members(file, limit), folder, limit)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise CheckpointError(f"{archive} is damaged or not an archive of an export ({error}).") from error
        except (ValueError, OverflowError, gzip.BadGzipFile) as error:  # from `_unpack`, or from a corrupt header
            raise CheckpointError(f"{archive} is not an archive that `captioner export` wrote: {error}.") from error
        try:
            yield folder
        except CaptionerError as error:
            raise type(error)(str(error).replace(str(folder), str(archive))) from error


def _unpack(members: _Members, folder: Path, limit: int) -> None:
    """Write the members into `folder`; ValueError for a member that no export contains."""
    written, tops = 0, set[str]()
    for count, (name, stream) in enumerate(members, 1):
        match = _MEMBER.fullmatch(name)
        if match is None or count > _MAX_MEMBERS:
            raise ValueError(f"it contains {name[:200]!r}" if match is None else "it contains too many files")
        tops.add(match[1] or "")
        target = folder / match[2]
        if len(tops) > 1 or target.exists():
            raise ValueError(f"it contains {match[2]} twice" if target.exists() else "it contains more than one folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while block := stream.read(_BLOCK_SIZE):
                written += len(block)
                if written > limit:
                    raise ValueError("it unpacks to far more than an export of its size")
                file.write(block)


def _zip_members(file: IO[bytes]) -> _Members:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            if member.is_dir():
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise ValueError(f"{member.filename[:200]!r} is not a regular file")
            with archive.open(member) as stream:
                yield member.filename, stream


def _tar_members(file: IO[bytes], limit: int) -> _Members:
    stream = _Limited(gzip.GzipFile(fileobj=file), limit + _ALWAYS_ALLOWED)
    with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]  # it only reads
        for member in archive:
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise ValueError(f"{member.name[:200]!r} is not a regular file")
            content = archive.extractfile(member)
            if content is not None:
                yield member.name, content


class _Limited:
    """A stream that raises ValueError after `left` bytes: a tar header can also be endless."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, left: int) -> None:
        self.stream = stream
        self.left = left

    def read(self, size: int) -> bytes:
        block = self.stream.read(min(size, self.left + 1))
        self.left -= len(block)
        if self.left < 0:
            raise ValueError("it unpacks to far more than an export of its size")
        return block
