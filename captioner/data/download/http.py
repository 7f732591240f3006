"""One file over HTTP, as if the line never broke: resumed, checked, from the first mirror that has it.

The bytes go to `NAME.part`, which survives any interruption and is carried on by the next call; `NAME`
itself appears only when it is whole and its checksum is right.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from captioner.errors import ConfigError, DataError

CHUNK = 1 << 20  # bytes
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)  # HTTP status codes after which the same request may succeed


@dataclass(frozen=True)
class RemoteFile:
    """A file that mirrors offer at `mirror/path`.

    size: in bytes, where it is published. checksum: "md5:…" or "sha256:…" with hexadecimal digits, of
    which the first ones suffice (torchvision publishes eight); None where nobody publishes one.
    """

    path: str
    size: int | None = None
    checksum: str | None = None

    @property
    def name(self) -> str:
        """The name of the file on disk."""
        return PurePosixPath(self.path).name


class _ConnectionLostError(Exception):
    """The line broke; asking again may help."""


class _UnavailableError(Exception):
    """This mirror does not have the file; another may."""


def fetch(
    file: RemoteFile,
    folder: Path,
    mirrors: Sequence[str],
    *,
    progress: bool = True,
    timeout: float = 30.0,
    attempts: int = 3,
    pause: float = 2.0,
) -> Path:
    """The path of the whole, checked file in `folder`; downloaded unless it is there already.

    mirrors: http or https addresses that `file.path` is appended to, tried in turn. timeout: seconds
    of silence before a connection counts as broken. attempts: how often in a row a mirror is asked
    again without a byte having arrived; before the n-th time we wait n·`pause` seconds.

    Raises DataError where no mirror delivers, with what to fetch by hand and where to put it; where the
    disk is too small; and where another file of that name is there, which is left alone.
    """
    target = folder / file.name
    part = folder / f"{file.name}.part"
    _check_mirrors(mirrors)
    if target.exists():
        problem = mismatch(target, file, progress)
        if problem:
            raise DataError(f"{target} is there already but {problem}. Remove it, and it will be downloaded again.")
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_space(file, folder, part)
        failures = []
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{file.path}"
            problem = _fetch_from(url, file, part, progress, timeout, attempts, pause)
            if problem is None:
                part.replace(target)
                return target
            failures.append(f"{url}: {problem}")
    except OSError as error:
        raise DataError(f"{part} cannot be written: {error.strerror or error}.") from error
    raise DataError(
        f"{file.name} could not be downloaded ({'; '.join(failures)}). Run this again to carry on, or fetch "
        f"{failures[0].split(': ')[0]} on a machine with a connection and put it at {target}."
    )


def mismatch(path: Path, file: RemoteFile, progress: bool = True) -> str | None:
    """What tells the file at `path` from the published one, or None. Reads it whole."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size:,} bytes where {file.size:,} are published"
    if file.checksum is None:
        return None
    algorithm, _, digits = file.checksum.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream, _bar(progress, size, 0, f"checking {file.name}") as bar:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    found = digest.hexdigest()
    if not found.startswith(digits):
        return f"has the {algorithm} checksum {found} where {digits} is published"
    return None


def _fetch_from(
    url: str, file: RemoteFile, part: Path, progress: bool, timeout: float, attempts: int, pause: float
) -> str | None:
    """Complete `part` from one mirror. What went wrong, or None."""
    while True:
        resumed = part.exists()
        try:
            _resume(url, file, part, progress, timeout, attempts, pause)
        except (_UnavailableError, _ConnectionLostError) as error:
            return str(error)
        problem = mismatch(part, file, progress)
        if problem is None:
            return None
        part.unlink()
        if not resumed:  # all of it came from this mirror; otherwise once more, from the beginning
            return f"what it delivers {problem}"


def _resume(
    url: str, file: RemoteFile, part: Path, progress: bool, timeout: float, attempts: int, pause: float
) -> None:
    """Ask until `part` is as long as the mirror's file."""
    failed = 0
    while True:
        before = _size(part)
        try:
            _request(url, file, part, progress, timeout)
            return
        except _ConnectionLostError:
            failed = 0 if _size(part) > before else failed + 1
            if failed >= attempts:
                raise
            time.sleep(failed * pause)


def _request(url: str, file: RemoteFile, part: Path, progress: bool, timeout: float) -> None:
    """One request for what `part` lacks; all of it where the server cannot begin in the middle."""
    have = _size(part)
    if file.size is not None and have == file.size:
        return
    if file.size is not None and have > file.size:
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"User-Agent": "captioner", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            have, total = _offer(response, have)
            if file.size is not None and total not in (None, file.size):
                raise _UnavailableError(f"it offers {total:,} bytes where {file.size:,} are published")
            received = _receive(response, part, have, total, progress, file.name)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing after what we have: it is whole, or of another file
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            raise _ConnectionLostError("it cannot carry on from where the last download stopped") from error
        problem = f"HTTP {error.code} {error.reason}"
        raise (_ConnectionLostError if error.code in TRANSIENT else _UnavailableError)(problem) from error
    except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError) as error:
        raise _ConnectionLostError(str(getattr(error, "reason", "") or error or type(error).__name__)) from error
    expected = total if total is not None else file.size
    if expected is not None and received < expected:
        raise _ConnectionLostError(f"the connection ended after {received:,} of {expected:,} bytes")


def _offer(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where the answer begins (0, or `have`), and how long the whole file is, if the server says so."""
    if have and response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if not found or int(found.group(1)) != have:
            raise _UnavailableError("its answer to a request for the rest of the file makes no sense")
        return have, int(found.group(2)) if found.group(2) != "*" else None
    length = response.headers.get("Content-Length")
    return 0, int(length) if length is not None and length.isdecimal() else None


def _receive(
    response: http.client.HTTPResponse, part: Path, have: int, total: int | None, progress: bool, name: str
) -> int:
    """Append the answer to `part` (or begin anew, where `have` is 0); how many bytes it then holds."""
    with part.open("ab" if have else "wb") as stream, _bar(progress, total, have, name) as bar:
        while chunk := response.read(CHUNK):
            stream.write(chunk)
            have += len(chunk)
            bar.update(len(chunk))
    return have


def _bar(progress: bool, total: int | None, have: int, name: str) -> tqdm:
    return tqdm(
        total=total, initial=have, desc=name, disable=not progress, unit="B", unit_scale=True, unit_divisor=1024
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_mirrors(mirrors: Sequence[str]) -> None:
    if not mirrors:
        raise ConfigError("There is no mirror to download from. Give the address of one.")
    for mirror in mirrors:
        if not re.match(r"https?://[^/]", mirror):
            raise ConfigError(f"The mirror {mirror!r} is no http or https address.")


def _check_space(file: RemoteFile, folder: Path, part: Path) -> None:
    missing = (file.size or 0) - _size(part)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise DataError(f"{folder} has {free / 1e9:.1f} GB free, but {file.name} needs {missing / 1e9:.1f} GB more.")
