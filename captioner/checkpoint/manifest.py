"""The checksums of a checkpoint's files: `SHA256SUMS`, which `sha256sum -c` can check too.

They detect damage (by a disk, a transfer, an edit by hand), not forgery: a forger can write checksums as well. Against
forged checkpoints the protection is that nothing in a checkpoint is ever executed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import CheckpointError
from captioner.files import write_atomically

MANIFEST_FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([\w.-]+)")


@dataclass(frozen=True)
class Manifest:
    """File name → SHA-256, and the name of the file that these were read from."""

    file: str
    sums: Mapping[str, object]


def write_manifest(folder: Path) -> None:
    """Write the checksums of all files of `folder`."""
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_FILE)
    lines = [f"{sha256(folder / name)}  {name}\n" for name in names]
    write_atomically(folder / MANIFEST_FILE, "".join(lines).encode("utf-8"))


def read_manifest(folder: Path) -> Manifest | None:
    """The checksums of a checkpoint's files, None if there is no list; CheckpointError if it is altered."""
    path = folder / MANIFEST_FILE
    if not path.is_file():  # a pipe would be read forever
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from error
    matches = [_LINE.fullmatch(line) for line in lines]
    if not all(matches):
        raise CheckpointError(f"{path} was altered or damaged: expected lines in the format of sha256sum.")
    return Manifest(MANIFEST_FILE, {match[2]: match[1] for match in matches if match})


def verify(folder: Path, name: str, manifest: Manifest) -> None:
    """CheckpointError unless the file `name` exists and has its checksum."""
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"The checkpoint {folder} is incomplete: {name} is missing.")
    if sha256(path) != manifest.sums.get(name):
        raise CheckpointError(f"{path} was altered or damaged: its checksum is not the one in {manifest.file}.")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
