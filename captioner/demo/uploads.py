"""A photo from the page: taken in only if it says how large it is, and no further than the limit."""

from __future__ import annotations

from starlette.requests import Request

from captioner.errors import CaptionerError

MOST_BYTES = 20 * 1024 * 1024
TYPE = "application/octet-stream"


class UploadError(CaptionerError):
    """A request that is refused; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_upload(request: Request) -> bytes:
    """The body of the request: the bytes of an image file, kept in memory only.

    UploadError, before the body is read, without Content-Length or beyond MOST_BYTES. A page of another site could
    not send TYPE without asking first, which nobody answers: this one is the only one that can have photos captioned.
    """
    if request.headers.get("content-type") != TYPE:
        raise UploadError(415, f"Expected the bytes of an image file, with Content-Type: {TYPE}.")
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise UploadError(411, "Expected Content-Length, the size of the file.")
    if int(length) > MOST_BYTES:
        raise too_large()
    parts, size = [], 0
    async for part in request.stream():  # a chunked body may be longer than its Content-Length says
        size += len(part)
        if size > MOST_BYTES:
            raise too_large()
        parts.append(part)
    return b"".join(parts)


def too_large() -> UploadError:
    """The same sentence wherever it is noticed."""
    return UploadError(413, f"This file is too large: expected {MOST_BYTES // 1024**2} MB at most.")
