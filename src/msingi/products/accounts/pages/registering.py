"""Making one's own account in a browser."""

from typing import Any

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages, state
from msingi.kit.errors import Problem
from msingi.kit.http import form_at, page_at
from msingi.kit.reading import read_texts
from msingi.products.accounts.actions import arrivals, letters, people
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.pages.shell import AnyRequest, faults_of
from msingi.products.accounts.routes.sessions import NOT_KEPT
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.people import Registration


class Newcomer(Struct):
    """The form; what is wrong with it is said as the API says it."""

    name: str = ""
    email: str = ""
    password: str = ""
    back: str = "/"


@page_at("/register", public=True)
async def show_register(request: AnyRequest) -> Response[str]:
    """The form."""
    return _form(request, Newcomer(back=pages.own_path(request.query_params.get("back", "/"))))


@form_at("/register", public=True, limit="60/minute")
async def register_on_page(request: AnyRequest) -> Response[Any]:
    """An account, or a letter to the address where addresses are verified first."""
    given = await pages.form_of(request, Newcomer)
    given.back = pages.own_path(given.back)
    try:
        await _register(given, visitor_of(request))
    except Problem as problem:
        return _form(request, given, pages.to_show(problem))
    return _form(request, given, done=True)


async def _register(given: Newcomer, visitor: Visitor) -> None:
    said = {"name": given.name, "email": given.email, "password": given.password}
    form = read_texts(Registration, said, "body")
    if state.part(AccountsSettings).verifies:
        await arrivals.register(form, visitor)
        return
    await letters.check_caller(visitor)
    await people.register(form, visitor.language)


def _form(request: AnyRequest, given: Newcomer, problem: Problem | None = None, *, done: bool = False) -> Response[str]:
    reply = pages.page(
        "accounts/register.html",
        request,
        status=problem.status if problem else 200,
        given=given,
        problem=problem,
        faults=list(faults_of(problem, pages.language_of(request))),
        done=done,
        by_letter=state.part(AccountsSettings).verifies,
    )
    reply.headers.update(NOT_KEPT)
    return reply


routes: list[ControllerRouterHandler] = [show_register, register_on_page]
