"""What every file of a checkpoint was when it was written: `SHA256SUMS`, which `sha256sum -c` understands too.

It finds damage (a disk, a transfer, an edit by hand), not a forger, who can write sums as well; against forgers
stands that nothing in a checkpoint is ever executed.
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
    """File name → sum, and in which file that was said."""

    file: str
    sums: Mapping[str, object]


def write_manifest(folder: Path) -> None:
    """Write down the sum of every file that `folder` holds."""
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_FILE)
    lines = [f"{sha256(folder / name)}  {name}\n" for name in names]
    write_atomically(folder / MANIFEST_FILE, "".join(lines).encode("utf-8"))


def read_manifest(folder: Path) -> Manifest | None:
    """The sums of a checkpoint's files, or None where there are none; CheckpointError where it is no such list."""
    path = folder / MANIFEST_FILE
    if not path.is_file():  # nor a pipe or the like, which would be read for ever
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from error
    matches = [_LINE.fullmatch(line) for line in lines]
    if not all(matches):
        raise CheckpointError(f"{path} was altered or damaged: expected lines such as those of sha256sum.")
    return Manifest(MANIFEST_FILE, {match[2]: match[1] for match in matches if match})


def verify(folder: Path, name: str, manifest: Manifest) -> None:
    """CheckpointError unless the file `name` is there and is the one that was written."""
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"The checkpoint {folder} is incomplete: {name} is missing.")
    if sha256(path) != manifest.sums.get(name):
        raise CheckpointError(f"{path} was altered or damaged: its checksum is not the one in {manifest.file}.")


def sha256(path: Path) -> str:
    """The sum of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
