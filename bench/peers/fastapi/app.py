"""The application, behind what every request passes: its id, the security headers, a line in the log."""

import logging
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import others
import problems
import socketio
import tasks
from auth import limited, redis
from fastapi import Depends, FastAPI, Response
from live import sockets
from models import client, connect

ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
SECURITY = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"origin-agent-cluster", b"?1"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-dns-prefetch-control", b"off"),
    (b"x-download-options", b"noopen"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-permitted-cross-domain-policies", b"none"),
    (b"x-xss-protection", b"0"),
]
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
access = logging.getLogger("access")
access.setLevel(logging.INFO)


class Edge:
    """Plain ASGI: `@app.middleware` would cost a task for every request."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        id = given if ID.fullmatch(given) else uuid4().hex.encode()
        scope.setdefault("state", {})["request_id"] = id.decode()

        async def send_with_headers(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *SECURITY, (b"x-request-id", id)]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            took = (time.perf_counter() - began) * 1000
            client = (scope.get("client") or ("",))[0]
            access.info(
                '{"at":%.3f,"id":"%s","ip":"%s","method":"%s","path":"%s","status":%d,"ms":%.2f}',
                time.time(), id.decode(), client, scope["method"], scope["path"], status, took,
            )  # fmt: skip


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await connect()
    yield
    await redis.aclose()
    await client.close()


api = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
problems.handle(api)
api.include_router(tasks.router, dependencies=[Depends(limited)])
api.include_router(others.router, dependencies=[Depends(limited)])


@api.get("/health")
async def show_health(response: Response) -> dict[str, str]:
    response.headers["Cache-Control"] = "no-store"
    return {"status": "ok"}


app = Edge(socketio.ASGIApp(sockets, other_asgi_app=api))
