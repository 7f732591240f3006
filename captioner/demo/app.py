"""The demo as an ASGI application: its routes, and its responses to errors."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from captioner.demo.answers import DemoModel, caption_photo, parse_search, preview
from captioner.demo.examples import EXAMPLES, example_image
from captioner.demo.guard import Guard
from captioner.demo.line import RETRY_AFTER, Line
from captioner.demo.uploads import MAX_BYTES, UploadError, read_upload
from captioner.errors import CaptionerError, ConfigError

PAGE = Path(__file__).parent / "page"


def build_app(models: Sequence[DemoModel], host: str = "127.0.0.1") -> Starlette:
    """The application. host: the name or address that it is served at.

    GET /                        the page
    GET /models                  names of the models, default search settings, size limit, number of examples
    GET /examples/N              an example image
    POST /preview                an image file → a JPEG file of the decoded image
    POST /caption?model=N&search=beam&beam_width=5…   an image file → `answers.caption_photo`; &ticket=T names it
    GET /line?ticket=T           {"ahead": how many photos are before the one with this ticket}

    A request with an error gets {"error": message} and a status of 4xx, or 503 with Retry-After where too many wait.
    """
    line = Line()

    async def get_models(request: Request) -> Response:
        default = models[0].captioner.decode
        search = {"search": default.name, "beam_width": default.beam_width, "length_penalty": default.length_penalty}
        return JSONResponse(
            {
                "models": [model.describe() for model in models],
                "search": {**search, "temperature": default.temperature, "seed": default.seed},
                "examples": len(EXAMPLES),
                "max_bytes": MAX_BYTES,
            }
        )

    async def get_example(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in [str(index) for index in range(len(EXAMPLES))]:
            raise UploadError(404, f"There is no example {name[:20]}.")
        content, media_type = await run_in_threadpool(example_image, int(name))
        return Response(content, media_type=media_type)

    async def post_preview(request: Request) -> Response:
        photo = await line.until_closed(read_upload(request))
        return Response(await line.work(new_ticket(), still_there(request), preview, photo), media_type="image/jpeg")

    async def post_caption(request: Request) -> Response:
        settings = dict(request.query_params)
        chosen, ticket = settings.pop("model", "0"), settings.pop("ticket", "") or new_ticket()
        if chosen not in [str(index) for index in range(len(models))]:
            raise ConfigError(f"model={chosen} does not exist: expected 0 to {len(models) - 1}.")
        captioner = models[int(chosen)].captioner
        search = parse_search(settings, captioner.decode)
        photo = await line.until_closed(read_upload(request))
        return JSONResponse(await line.work(ticket, still_there(request), caption_photo, captioner, photo, search))

    async def get_line(request: Request) -> Response:
        ahead = line.ahead(request.query_params.get("ticket", ""))
        if ahead is None:
            raise UploadError(404, "No photo with this ticket waits.")
        return JSONResponse({"ahead": ahead})

    app = Starlette(
        routes=[
            Route("/models", get_models),
            Route("/examples/{name}", get_example),
            Route("/line", get_line),
            Route("/preview", post_preview, methods=["POST"]),
            Route("/caption", post_caption, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={
            CaptionerError: _answer_error,
            ClientDisconnect: _answer_disconnected,
            HTTPException: _answer_http_error,
            Exception: _answer_bug,
        },
    )
    app.state.line = line
    return app


def new_ticket() -> str:
    """A ticket for a photo whose sender does not ask for its place."""
    return uuid.uuid4().hex


def still_there(request: Request) -> Callable[[], Awaitable[None]]:
    """A check that raises ClientDisconnect where nobody waits for the answer any more."""

    async def check() -> None:
        if await request.is_disconnected():
            raise ClientDisconnect

    return check


async def _answer_error(request: Request, error: Exception) -> Response:
    """A mistake in the request, such as a file that is no image."""
    status = error.status if isinstance(error, UploadError) else 400
    headers = {"retry-after": str(RETRY_AFTER)} if status == 503 else None
    return JSONResponse({"error": str(error)}, status, headers)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """A path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    return JSONResponse(
        {"error": f"{request.method} {request.url.path:.200}: {error.detail}"}, error.status_code, error.headers
    )


async def _answer_disconnected(request: Request, error: Exception) -> Response:
    """The browser has canceled the request, so nobody reads this response."""
    return Response(status_code=204)


async def _answer_bug(request: Request, error: Exception) -> Response:
    """Any other exception: the server prints the traceback, the page gets the exception's name only."""
    return JSONResponse(
        {"error": f"This is a bug in captioner ({type(error).__name__}); the terminal shows the traceback."}, 500
    )
