"""The house as `make up` serves it, and beside it one more handler: the bare one, behind the whole chain."""

import os
from typing import Any

from litestar import get

from msingi import catalog
from msingi.console.routes import routes_for
from msingi.kit import config, observe
from msingi.kit.app import build


@get("/hello", public=True, sync_to_thread=False)
def hello() -> dict[str, str]:
    return {"status": "ok"}


_products = catalog.products()
_kinds: list[type[Any]] = [config.Settings, *(product.settings for product in _products if product.settings)]
_parts = config.load_all(_kinds, os.environ)
_settings = _parts.pop(config.Settings)
observe.configure(_settings)
app = build(_settings, _products, parts=_parts, pages=[hello, *routes_for(_products)])
