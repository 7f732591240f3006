"""Reads an uploaded photo from a request, up to a size limit."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from captioner.errors import CaptionerError

MAX_BYTES = 20 * 1024 * 1024
BODY_SECONDS = 120.0  # in which a file is sent
TYPE = "application/octet-stream"


class UploadError(CaptionerError):
    """A request that is rejected, with this HTTP `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_upload(request: Request) -> bytes:
    """`read_body`; UploadError 408 where it takes longer than BODY_SECONDS."""
    try:
        return await asyncio.wait_for(read_body(request), BODY_SECONDS)
    except asyncio.TimeoutError as error:
        raise UploadError(408, f"The file did not arrive within {BODY_SECONDS:g} seconds.") from error


async def read_body(request: Request) -> bytes:
    """The body of the request, the bytes of an image file; it is kept in memory only.

    Raises UploadError before the body is read where Content-Length is missing or larger than MAX_BYTES, and for another
    Content-Type than TYPE. A page of another site cannot send TYPE without a CORS preflight, which is never answered.
    """
    if request.headers.get("content-type") != TYPE:
        raise UploadError(415, f"Expected the bytes of an image file, with Content-Type: {TYPE}.")
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise UploadError(411, "Expected Content-Length, the size of the file.")
    if int(length) > MAX_BYTES:
        raise too_large()
    parts, size = [], 0
    async for part in request.stream():  # a chunked body may be longer than its Content-Length says
        size += len(part)
        if size > MAX_BYTES:
            raise too_large()
        parts.append(part)
    return b"".join(parts)


def too_large() -> UploadError:
    """The error for a file of more than MAX_BYTES."""
    return UploadError(413, f"This file is too large: expected {MAX_BYTES // 1024**2} MB at most.")
