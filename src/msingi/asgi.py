"""What the web server loads: the products named by MSINGI_PRODUCTS (all, if it is empty) and the console."""

import os
from typing import Any

from msingi import catalog
from msingi.console.routes import routes_for
from msingi.kit import config, observe
from msingi.kit.app import build

_products = catalog.products(catalog.wanted(os.environ))
_kinds: list[type[Any]] = [config.Settings, *(product.settings for product in _products if product.settings)]
_loaded = config.load_all(_kinds, os.environ)
_settings: config.Settings = _loaded.pop(config.Settings)
observe.configure(_settings)

app = build(_settings, _products, parts=_loaded, pages=routes_for(_products))
