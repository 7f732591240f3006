"""Unpacks downloaded zip archives safely: only into their folder, atomically, and without overwriting files."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from tqdm import tqdm

from captioner.data.datasets.annotation_files import check_image_name
from captioner.errors import DataError


def unpack_zip(archive: Path, folder: Path, progress: bool = True) -> list[Path]:
    """Unpack an archive into `folder`; returns the paths of its files.

    Each file is written atomically after its checksum (CRC) was verified, so an interrupted call can be repeated.
    Existing files of the right size are kept. DataError for a damaged archive, for names outside of `folder`, for
    links, if the disk is too small, and if a different file exists; that file is not changed.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [
                (member, _target(member, folder, archive)) for member in opened.infolist() if not member.is_dir()
            ]
            _check_space(members, folder, archive)
            for member, target in tqdm(members, desc=f"unpacking {archive.name}", disable=not progress, unit="file"):
                if not target.exists():
                    _unpack_one(opened, member, target)
                elif target.stat().st_size != member.file_size:
                    raise DataError(
                        f"{target} exists and differs from the file in {archive}. Move it to another folder."
                    )
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        # RuntimeError: a password is required; NotImplementedError: an unsupported compression method
        raise DataError(f"{archive} cannot be unpacked: {error}. Remove it to download it again.") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked into {folder}: {error}.") from error
    return [target for _, target in members]


def _target(member: zipfile.ZipInfo, folder: Path, archive: Path) -> Path:
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(f"{archive} holds a link ({member.filename}), which is not unpacked.")
    return folder / check_image_name(member.filename, folder, f"{archive}")


def _check_space(members: list[tuple[zipfile.ZipInfo, Path]], folder: Path, archive: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(member.file_size for member, target in members if not target.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{folder} has {free / 1e9:.1f} GB free, but {archive.name} unpacks to {needed / 1e9:.1f} GB.")


def _unpack_one(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with opened.open(member) as source, part.open("wb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20)
    part.replace(target)
