"""The measure of things: an answer without any framework, as long as the others', straight to the server's protocol."""

from typing import Any

from msingi.kit.edge import API_SECURITY

BODY = b'{"status":"ok"}'
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(BODY)).encode()),
        (b"x-request-id", b"0" * 32),
        *API_SECURITY,
    ],
}
END = {"type": "http.response.body", "body": BODY}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application."""
    await send(START)
    await send(END)
