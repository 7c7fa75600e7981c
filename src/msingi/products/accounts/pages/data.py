"""One's own data: taken away, and erased."""

from typing import Any, Literal

from litestar import Response
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.errors import Problem
from msingi.kit.http import Given, form_at, page_at
from msingi.products.accounts import queries
from msingi.products.accounts.actions import erasing, exports
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, show
from msingi.products.accounts.routes.sessions import session_cookie

HERE = "/account/data"


class Sure(Struct):
    """The box that was ticked."""

    sure: Literal["yes"]


@page_at("/account/data", in_person=True)
async def show_data(request: AnyRequest, actor: Given[Actor], page: Given[Paging]) -> Response[str]:
    """What was asked for, and what can be fetched."""
    return show("data", request, exports=(await queries.exports.my_exports(actor, page)).items)


@form_at("/account/data", step_up=True, limit="10/hour")
async def ask_for_export_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Have it put together."""
    await pages.form_of(request, Nothing)
    await exports.ask(actor)
    return pages.gone_well(HERE, "export_asked")


@page_at("/account/data/erasure", step_up=True)
async def show_erasure(request: AnyRequest) -> Response[str]:
    """What goes, and the box to tick."""
    return show("erasure", request)


@form_at("/account/data/erasure", step_up=True)
async def erase_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """All of it is gone."""
    try:
        await pages.form_of(request, Sure)
        await erasing.erase(actor.id, actor)
    except Problem as problem:
        return show("erasure", request, pages.to_show(problem))
    return Redirect("/erased", status_code=303, cookies=[session_cookie("")])


@page_at("/erased", public=True)
async def show_erased(request: AnyRequest) -> Response[str]:
    """What is left to say."""
    return pages.page("accounts/erased.html", request)


routes: list[ControllerRouterHandler] = [
    show_data,
    ask_for_export_on_page,
    show_erasure,
    erase_on_page,
    show_erased,
]
