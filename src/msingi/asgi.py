"""What the web server loads: the products named by MSINGI_PRODUCTS (all, if it is empty) and the console."""

import os
from typing import Any

from msingi import catalog
from msingi.console.routes import routes_for
from msingi.kit import config, observe
from msingi.kit.app import build

products = catalog.products(catalog.wanted(os.environ))
_kinds: list[type[Any]] = [config.Settings, *(product.settings for product in products if product.settings)]
parts = config.load_all(_kinds, os.environ)
settings: config.Settings = parts.pop(config.Settings)
observe.configure(settings)

app = build(settings, products, parts=parts, pages=routes_for(products))
