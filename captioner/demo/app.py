"""The page and its answers behind HTTP: what there is to ask for, and what is answered when something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from captioner.demo.answers import ShownModel, caption_photo, preview, read_search
from captioner.demo.examples import EXAMPLES, draw_example
from captioner.demo.guard import Guard
from captioner.demo.uploads import MOST_BYTES, UploadError, read_upload
from captioner.errors import CaptionerError, ConfigError

PAGE = Path(__file__).parent / "page"


def build_app(models: Sequence[ShownModel], host: str = "127.0.0.1") -> Starlette:
    """The page as an ASGI application; `host`: the name or address that it will be served at.

    GET /                        the page
    GET /models                  the models' names, the first one's search, the limits, how many examples there are
    GET /examples/N              a drawn image
    POST /preview                an image file → a JPEG of what was decoded
    POST /caption?model=N&search=beam&beam_width=5…   an image file → `answers.caption_photo`

    A request that cannot be answered gets {"error": a sentence} and a status of 4xx.
    """
    turn = asyncio.Lock()  # one image at a time: more would only share the same cores and the same memory

    async def get_models(request: Request) -> Response:
        usual = models[0].captioner.decode
        search = {"search": usual.name, "beam_width": usual.beam_width, "length_penalty": usual.length_penalty}
        return JSONResponse(
            {
                "models": [model.describe() for model in models],
                "search": {**search, "temperature": usual.temperature, "seed": usual.seed},
                "examples": len(EXAMPLES),
                "most_bytes": MOST_BYTES,
            }
        )

    async def get_example(request: Request) -> Response:
        number = int(request.path_params["number"])
        if number >= len(EXAMPLES):
            raise UploadError(404, f"There is no example {number}.")
        return Response(await run_in_threadpool(draw_example, number), media_type="image/png")

    async def post_preview(request: Request) -> Response:
        photo = await read_upload(request)
        async with turn:
            return Response(await run_in_threadpool(preview, photo), media_type="image/jpeg")

    async def post_caption(request: Request) -> Response:
        settings = dict(request.query_params)
        chosen = settings.pop("model", "0")
        if chosen not in [str(number) for number in range(len(models))]:
            raise ConfigError(f"model={chosen} does not exist: expected 0 to {len(models) - 1}.")
        captioner = models[int(chosen)].captioner
        search = read_search(settings, captioner.decode)
        photo = await read_upload(request)
        async with turn:
            if await request.is_disconnected():  # while it waited
                raise ClientDisconnect
            return JSONResponse(await run_in_threadpool(caption_photo, captioner, photo, search))

    return Starlette(
        routes=[
            Route("/models", get_models),
            Route("/examples/{number:int}", get_example),
            Route("/preview", post_preview, methods=["POST"]),
            Route("/caption", post_caption, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={CaptionerError: _refuse, ClientDisconnect: _give_up, Exception: _apologise},
    )


async def _refuse(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, error.status if isinstance(error, UploadError) else 400)


async def _give_up(request: Request, error: Exception) -> Response:
    """The page has another question by now; nobody reads this."""
    return Response(status_code=204)


async def _apologise(request: Request, error: Exception) -> Response:
    """The traceback goes to the terminal, the name of what happened to the page."""
    return JSONResponse({"error": f"This is a bug in captioner ({type(error).__name__}); the terminal says more."}, 500)
