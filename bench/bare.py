"""The measure of things: a handler on Litestar and Granian with nothing around it."""

from litestar import Litestar, get


@get("/hello", sync_to_thread=False)
def hello() -> dict[str, str]:
    return {"status": "ok"}


app = Litestar([hello], openapi_config=None, logging_config=None)
