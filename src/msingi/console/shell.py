"""The frame around every page: what it shows, and where its forms lead back to."""

from collections.abc import Sequence
from typing import Any

from litestar import Request

from msingi.kit import state
from msingi.kit.actors import Actor
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
        "desks": desks(request.scope.get("user")),
        "development": not state.settings().production,
    }


def desks(actor: Actor | None) -> list[tuple[str, str]]:
    """Where somebody works: the title of each product whose desk they may see, and where that is."""
    found = [(each.title, each.desk) for each in running() if each.desk]
    return [(title, path) for title, (path, permission) in found if actor is not None and actor.may(permission)]


def running() -> Sequence[Product]:
    """The products of this process."""
    return state.current().products
