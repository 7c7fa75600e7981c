"""A small application that takes and serves files, on a real Granian."""

import os
from typing import Any

from litestar import Request

from msingi.kit import app, edge, files, pictures
from msingi.kit.config import Settings, load
from msingi.kit.files import File
from msingi.kit.http import get, post

AnyRequest = Request[Any, Any, Any]
MEGABYTE = 10**6
OPEN: dict[str, Any] = {"public": True, "limit": "off", "idempotency": "off"}


@post("/shelf", upload=tuple(files.KINDS), max_body=60 * MEGABYTE, **OPEN)
async def add_file(request: AnyRequest) -> File:
    async with files.arriving(request) as arrival:
        return await arrival.keep()


@post("/reports", upload=("application/pdf", "text/plain"), **OPEN)
async def add_report(request: AnyRequest) -> File:
    async with files.arriving(request) as arrival:
        return await arrival.keep()


@post("/broken", upload=tuple(files.KINDS), **OPEN)
async def fail(request: AnyRequest) -> None:
    async with files.arriving(request):
        raise RuntimeError("the handler fails")


@post("/pictures", upload=pictures.KINDS, max_body=20 * MEGABYTE, **OPEN)
async def add_picture(request: AnyRequest) -> dict[str, Any]:
    async with files.arriving(request) as arrival:
        made = await pictures.make(arrival)
        await pictures.keep(made, arrival.digest)
    sizes = {str(width): piece.name for width, piece in made.sizes.items()}
    return {"width": made.width, "height": made.height, "file": made.largest.name, "sizes": sizes}


@get("/quick", public=True, limit="off")
async def quick() -> dict[str, int]:
    return {"pid": os.getpid()}


ROUTES = [add_file, add_report, fail, add_picture, quick]


def build() -> edge.Edge:
    """What Granian loads."""
    edge.BODY_SECONDS = float(os.environ.get("BODY_SECONDS", edge.BODY_SECONDS))
    return app.build(load(Settings, os.environ), [], pages=ROUTES)
