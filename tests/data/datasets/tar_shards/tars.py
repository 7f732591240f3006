"""Archives for the tests of tar shards: valid ones, and headers that no tar program writes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path


def tar(files: Iterable[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    """An archive of these files, written by Python's tarfile."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write `tar(files)` to a file; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar(files))
    return path


def header(name: bytes = b"a.jpg", size: bytes = b"00000000000\0", kind: bytes = b"0") -> bytes:
    """One header block with a correct checksum, whatever its fields contain."""
    fields = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0") + b"00000000000\0"
    rest = kind + bytes(100) + b"ustar\x0000" + bytes(247)
    total = sum(fields) + 8 * ord(" ") + sum(rest)
    return fields + b"%06o\0 " % total + rest


END = bytes(1024)
"""The end marker."""
