"""The only list of products."""

from collections.abc import Iterable, Mapping
from importlib import import_module

from msingi.kit.product import Product

NAMES = ("accounts", "notes", "tasks", "shop")


class UnknownProduct(Exception):
    """A product that is in no catalogue was asked for."""


def wanted(environ: Mapping[str, str]) -> list[str] | None:
    """The products that MSINGI_PRODUCTS names; None, which is all, if it names none."""
    return [name.strip() for name in environ.get("MSINGI_PRODUCTS", "").split(",") if name.strip()] or None


def products(names: Iterable[str] | None = None) -> list[Product]:
    """These products, or all of them. Raises UnknownProduct, which says what there is."""
    chosen = list(names) if names is not None else list(NAMES)
    for name in chosen:
        if name not in NAMES:
            raise UnknownProduct(f"there is no product {name!r}; there are {', '.join(NAMES)}")
    return [import_module(f"msingi.products.{name}.product").product for name in chosen]
