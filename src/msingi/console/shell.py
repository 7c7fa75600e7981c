"""The frame around every page: what it shows, and where its forms lead back to."""

from collections.abc import Sequence
from typing import Any

from litestar import Request

from msingi.kit import state
from msingi.kit.pages import own_path
from msingi.kit.product import Product

__all__ = ["THEMES", "own_path", "running", "shell"]

THEMES = ("auto", "light", "dark")


def shell(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """What `base.html` needs to know."""
    theme = request.cookies.get("theme", "auto")
    return {
        "products": running(),
        "theme": theme if theme in THEMES else "auto",
        "here": request.scope["path"],
        "can_sign_in": any(product.name == "accounts" for product in running()),
        "development": not state.settings().production,
    }


def running() -> Sequence[Product]:
    """The products of this process."""
    return state.current().products
