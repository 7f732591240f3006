"""Archives on a server, read by byte ranges with fsspec (`pip install 'captioner[remote]'`).

Every range is requested again with growing pauses if the connection fails, so a lost connection costs only the range.
Nothing depends on the order of requests: an image that is read alone has the bytes that a pass over the archive gives.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, TypeVar

from captioner.errors import DataError

PACKAGES: Mapping[str, str] = MappingProxyType(
    {"https": "fsspec[http]", "http": "fsspec[http]", "s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}
)
"""Protocol → the package that reads it."""

ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled for each further one
TIMEOUT = 60.0  # seconds without a byte
CHUNK = 1 << 22  # bytes of a request while an archive is read from its start to its end
CHUNKS_AHEAD = 2  # requested before they are needed
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_STATES = ("ETag", "etag", "md5Hash", "blob_id", "LastModified", "Last-Modified", "last_modified", "updated", "mtime")
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # HTTP status codes

T = TypeVar("T")


def is_url(path: str) -> bool:
    """Whether `path` names something on a server; DataError for a protocol that is not supported."""
    match = _URL.match(path)
    if match is not None and match[1].lower() not in PACKAGES:
        raise DataError(f"{path}: archives cannot be read from {match[1]}:. Supported: {', '.join(PACKAGES)}.")
    return match is not None


@dataclass(frozen=True)
class RemoteArchive:
    """An archive on a server. Used like a path: by `name`, `stem` and `str`."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL's path."""
        return PurePosixPath(re.split(r"[?#]", self.url)[0]).name

    @property
    def stem(self) -> str:
        """`name` without its suffix."""
        return PurePosixPath(self.name).stem

    def identity(self) -> dict[str, Any]:
        """Values that differ between archives, and before and after a change: URL, size, and tag or time.

        DataError if the server does not have the archive, or cannot send parts of it.
        """
        found = self._repeat("looked up", lambda: self._info())
        if found.get("partial") is False:
            raise self._no_ranges()
        if found.get("size") is None:
            raise DataError(f"{self.url}: the server does not tell its size, without which parts cannot be read.")
        state = next((str(found[key]) for key in _STATES if found.get(key)), "")
        return {"path": self.url, "size": int(found["size"]), "time": state}

    def read_range(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`; DataError if the server does not send them, after several attempts."""
        return self._repeat("read", lambda: self._read(start, size)) if size else b""

    def _info(self) -> dict[str, Any]:
        try:
            return dict(_filesystem(self.url).info(self.url))
        except FileNotFoundError as error:  # by fsspec's HTTP, for every failure; the cause tells which
            cause = error.__cause__
            if cause is not None and getattr(cause, "status", None) != 404:
                raise cause from None
            raise

    def _read(self, start: int, size: int) -> bytes:
        files = _filesystem(self.url)
        if self.url.lower().startswith("http"):  # where `cat_file` returns the whole file if ranges are ignored
            with files.open(self.url, cache_type="none", size=start + size) as file:
                file.seek(start)
                content = bytes(file.read(size))
        else:
            content = bytes(files.cat_file(self.url, start=start, end=start + size))
        if len(content) != size:
            raise ConnectionError(f"{len(content):,} of {size:,} bytes came")
        return content

    def _repeat(self, what: str, attempt: Callable[[], T]) -> T:
        """The result of `attempt`, which is repeated if the failure may pass."""
        for number in range(1, ATTEMPTS + 1):
            try:
                return attempt()
            except FileNotFoundError:
                raise DataError(f"{self.url} does not exist (404). Check data.root and the pattern.") from None
            except ValueError as error:
                if "range requests" in str(error):
                    raise self._no_ranges() from None
                raise
            except OSError as error:
                failure: Exception = error
            except Exception as error:  # the classes of errors depend on the protocol's package
                status = getattr(error, "status", None)
                if status is not None and status not in _TRY_AGAIN:
                    what_is_wrong = "access is denied" if status in (401, 403) else "the server refuses"
                    raise DataError(f"{self.url} cannot be {what}: {what_is_wrong} ({status}).") from error
                failure = error
            if number < ATTEMPTS:
                time.sleep(FIRST_PAUSE * 2 ** (number - 1))
        reason = str(failure) or type(failure).__name__
        raise DataError(
            f"{self.url} cannot be {what}: {reason}, {ATTEMPTS} times. Check the connection and try again: a training "
            "continues with resume=."
        ) from failure

    def _no_ranges(self) -> DataError:
        return DataError(
            f"{self.url}: the server sends whole files only (it does not support range requests), so single images "
            "cannot be read. Download the archives and give their folder as data.root, or use another server."
        )


class RemoteFile(io.RawIOBase):
    """An archive as a file that is read from its start to its end: the next chunks are requested ahead."""

    def __init__(self, archive: RemoteArchive, size: int) -> None:
        super().__init__()
        self._archive, self._size, self._position = archive, size, 0
        self._chunks: dict[int, Future[bytes]] = {}
        self._requests = ThreadPoolExecutor(CHUNKS_AHEAD + 1)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position; returns it."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        end = self._size if size < 0 else min(self._position + size, self._size)
        parts = []
        while self._position < end:
            number, start = divmod(self._position, CHUNK)
            part = self._chunk(number)[start : start + end - self._position]
            parts.append(part)
            self._position += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Cancel what was requested ahead."""
        self._requests.shutdown(wait=True, cancel_futures=True)
        super().close()

    def _chunk(self, number: int) -> bytes:
        for old in [other for other in self._chunks if not number <= other <= number + CHUNKS_AHEAD]:
            self._chunks.pop(old).cancel()
        for other in range(number, number + CHUNKS_AHEAD + 1):
            start = other * CHUNK
            if other not in self._chunks and start < self._size:
                length = min(CHUNK, self._size - start)
                self._chunks[other] = self._requests.submit(self._archive.read_range, start, length)
        return self._chunks[number].result()


def _filesystem(url: str) -> Any:
    """fsspec's file system of a URL; DataError if a package is missing. fsspec keeps one per process and thread."""
    protocol = url.partition("://")[0].lower()
    try:
        import fsspec

        return fsspec.filesystem(protocol, **(_http_options() if protocol.startswith("http") else {}))
    except ImportError as error:
        package = "captioner[remote]" if PACKAGES[protocol].startswith("fsspec") else PACKAGES[protocol]
        missing = f" ({error.name} is missing)" if error.name else ""
        raise DataError(f"{url} needs a package that is not installed{missing}: pip install '{package}'.") from error


@cache
def _http_options() -> dict[str, Any]:
    import aiohttp

    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)}}
