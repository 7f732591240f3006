"""Downloads one file over HTTP: resumed after interruptions, verified, from the first mirror that has it.

The data is written to `NAME.part`, which survives interruptions and which the next call continues. `NAME` exists only
when the file is complete and its checksum is correct.
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

    size: in bytes; None if it is not published. checksum: "md5:…" or "sha256:…" with at least the first hexadecimal
    digits (torchvision publishes eight); None if it is not published.
    """

    path: str
    size: int | None = None
    checksum: str | None = None

    @property
    def name(self) -> str:
        """The name of the file on disk."""
        return PurePosixPath(self.path).name


class _ConnectionLostError(Exception):
    """The connection failed; another attempt may succeed."""


class _UnavailableError(Exception):
    """This mirror does not offer the file; another may."""


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
    """The path of the complete, verified file in `folder`. Downloads it unless it exists.

    mirrors: http or https addresses to which `file.path` is appended, tried in order. timeout: seconds without data
    after which a connection counts as lost. attempts: number of consecutive attempts per mirror that receive no data;
    the wait before the n-th repetition is n·`pause` seconds.

    DataError if no mirror delivers the file (the message says what to download by hand and where to put it), if the
    disk is too small, or if another file has its name. That file is not changed.
    """
    target = folder / file.name
    part = folder / f"{file.name}.part"
    _check_mirrors(mirrors)
    if target.exists():
        problem = mismatch(target, file, progress)
        if problem:
            raise DataError(f"{target} exists, but {problem}. Remove it to download it again.")
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
        f"{file.name} could not be downloaded ({'; '.join(failures)}). Run this again to resume, or download "
        f"{failures[0].split(': ')[0]} on another machine and put it at {target}."
    )


def mismatch(path: Path, file: RemoteFile, progress: bool = True) -> str | None:
    """How the file at `path` differs from the published one; None if it does not. Reads the whole file."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"it has {size:,} bytes instead of the published {file.size:,}"
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
        return f"its {algorithm} checksum is {found} instead of the published {digits}"
    return None


def _fetch_from(
    url: str, file: RemoteFile, part: Path, progress: bool, timeout: float, attempts: int, pause: float
) -> str | None:
    """Complete `part` from one mirror. Returns what went wrong, or None."""
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
        if not resumed:  # the whole file came from this mirror; otherwise start again from the beginning
            return f"the downloaded file is wrong: {problem}"


def _resume(
    url: str, file: RemoteFile, part: Path, progress: bool, timeout: float, attempts: int, pause: float
) -> None:
    """Send requests until `part` is as long as the mirror's file."""
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
    """Send one request for the missing rest of `part`, or for the whole file if the server cannot send a part."""
    received = _size(part)
    if file.size is not None and received == file.size:
        return
    if file.size is not None and received > file.size:
        part.unlink()
        received = 0
    request = urllib.request.Request(url, headers={"User-Agent": "captioner", "Accept-Encoding": "identity"})
    if received:
        request.add_header("Range", f"bytes={received}-")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            received, total = _start_and_total(response, received)
            if file.size is not None and total not in (None, file.size):
                raise _UnavailableError(f"it offers {total:,} bytes instead of the published {file.size:,}")
            received = _receive(response, part, received, total, progress, file.name)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and received:  # no data after `received` bytes: the file is complete, or another one
            if error.headers.get("Content-Range") == f"bytes */{received}":
                return
            part.unlink()
            raise _ConnectionLostError("it cannot resume the last download") from error
        problem = f"HTTP {error.code} {error.reason}"
        raise (_ConnectionLostError if error.code in TRANSIENT else _UnavailableError)(problem) from error
    except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError) as error:
        raise _ConnectionLostError(str(getattr(error, "reason", "") or error or type(error).__name__)) from error
    expected = total if total is not None else file.size
    if expected is not None and received < expected:
        raise _ConnectionLostError(f"the connection ended after {received:,} of {expected:,} bytes")


def _start_and_total(response: http.client.HTTPResponse, received: int) -> tuple[int, int | None]:
    """(the byte at which the response begins: 0 or `received`, the size of the file or None if it is unknown)."""
    if received and response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if not match or int(match.group(1)) != received:
            raise _UnavailableError("its response to a request for the rest of the file is invalid")
        return received, int(match.group(2)) if match.group(2) != "*" else None
    length = response.headers.get("Content-Length")
    return 0, int(length) if length is not None and length.isdecimal() else None


def _receive(
    response: http.client.HTTPResponse, part: Path, received: int, total: int | None, progress: bool, name: str
) -> int:
    """Append the response to `part`, or overwrite it if `received` is 0. Returns the bytes that it then holds."""
    with part.open("ab" if received else "wb") as stream, _bar(progress, total, received, name) as bar:
        while chunk := response.read(CHUNK):
            stream.write(chunk)
            received += len(chunk)
            bar.update(len(chunk))
    return received


def _bar(progress: bool, total: int | None, received: int, name: str) -> tqdm:
    return tqdm(
        total=total, initial=received, desc=name, disable=not progress, unit="B", unit_scale=True, unit_divisor=1024
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_mirrors(mirrors: Sequence[str]) -> None:
    if not mirrors:
        raise ConfigError("No mirror to download from. Give the address of at least one.")
    for mirror in mirrors:
        if not re.match(r"https?://[^/]", mirror):
            raise ConfigError(f"The mirror {mirror!r} is not an http or https address.")


def _check_space(file: RemoteFile, folder: Path, part: Path) -> None:
    missing = (file.size or 0) - _size(part)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise DataError(f"{folder} has {free / 1e9:.1f} GB free, but {file.name} needs another {missing / 1e9:.1f} GB.")
