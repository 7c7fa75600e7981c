"""Signing in and out on a page: a form, a session cookie, and back to where one was."""

from typing import Any

from litestar import Request, Response
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.console.shell import own_path, shell
from msingi.kit import pages
from msingi.kit.errors import Problem
from msingi.kit.http import get, post
from msingi.products.accounts.actions import sessions
from msingi.products.accounts.routes.sessions import session_cookie
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.sessions import SignIn

AnyRequest = Request[Any, Any, Any]


class Credentials(Struct):
    """What the form holds."""

    email: str
    password: str
    back: str = "/"


class Nothing(Struct):
    """A form with nothing but its token."""


@get("/sign-in", public=True, include_in_schema=False)
async def show_sign_in(request: AnyRequest) -> Response[str]:
    """The form."""
    return _form(request, "", own_path(request.query_params.get("back", "/")), None)


@post("/sign-in", public=True, include_in_schema=False, page=True, idempotency="off", limit="120/minute")
async def sign_in_on_page(request: AnyRequest) -> Response[Any]:
    """A session cookie for who knows the password; the form again, with the reason, for who does not."""
    given = await pages.form_of(request, Credentials)
    form = SignIn(email=given.email, password=given.password, session="cookie")
    try:
        opened = await sessions.sign_in(form, visitor_of(request))
    except Problem as problem:
        if problem.status >= 500:
            raise
        return _form(request, given.email, given.back, problem)
    return Redirect(own_path(given.back), status_code=303, cookies=[session_cookie(opened.secret)])


@post("/sign-out", include_in_schema=False, page=True, idempotency="off")
async def sign_out_on_page(request: AnyRequest) -> Redirect:
    """End the session."""
    await pages.form_of(request, Nothing)
    await sessions.sign_out(request.user)
    return Redirect("/", status_code=303, cookies=[session_cookie("")])


def _form(request: AnyRequest, email: str, back: str, problem: Problem | None) -> Response[str]:
    context: dict[str, Any] = {"email": email, "back": back, "problem": problem}
    status = problem.status if problem else 200
    return pages.page("console/sign_in.html", request, status=status, **shell(request), **context)


routes: list[ControllerRouterHandler] = [show_sign_in, sign_in_on_page, sign_out_on_page]
