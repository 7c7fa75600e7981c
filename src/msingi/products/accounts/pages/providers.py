"""The way of a browser to another provider and back (A15)."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from litestar import Response
from litestar.datastructures import Cookie
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from msingi.kit import csrf, pages
from msingi.kit.actors import Actor
from msingi.kit.auth import STEP_UP, InPersonOnly, InsufficientUserAuthentication
from msingi.kit.errors import Problem, SignInFirst
from msingi.kit.http import Path, get, page_at
from msingi.products.accounts import rules
from msingi.products.accounts.actions import identities
from msingi.products.accounts.pages.shell import AnyRequest
from msingi.products.accounts.providers.dialogue import Answer
from msingi.products.accounts.routes.sessions import cookies_of
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.rules.factors import SecondFactorNeeded

LONGEST = 2048  # characters of each thing that a provider sends along
SECURE_COOKIE, PLAIN_COOKIE = "__Host-oauth", "oauth"

ShowSecondStep = Callable[[AnyRequest, SecondFactorNeeded, str], Response[Any]]
_second_step: list[ShowSecondStep] = []


def show_second_step_with(show: ShowSecondStep) -> None:
    """Register who has the page on which a second factor is shown, and which leads back from there."""
    _second_step[:] = [show]


@page_at("/sign-in/with/{provider:str}", public=True, limit="300/minute")
async def begin(provider: Path[str], request: AnyRequest) -> Response[Any]:
    """Go to a provider, and come back signed in; with `connect=<CSRF token>`, with one more way to sign in.

    With `fresh=1` the provider is to ask who it is, which counts as a fresh proof if it says that it did.
    """
    back = pages.own_path(request.query_params.get("back", "/"))
    token = request.query_params.get("connect")
    joining = None if token is None else _who_connects(request, token)
    language, fresh = pages.language_of(request), request.query_params.get("fresh") == "1"
    try:
        begun = await identities.begin(provider, back, _browser(request), joining, language, fresh=fresh)
    except Problem as problem:
        return _failed(request, problem, back)
    headers = {"Cache-Control": "no-store"}
    return Redirect(begun.url, status_code=303, headers=headers, cookies=[_cookie(begun.browser)])


def _who_connects(request: AnyRequest, token: str) -> Actor:
    """Whoever has just proved who they are, and followed a link of our own pages: only those know the token.

    Another page's link would connect whoever that page had signed the browser in as at the provider.
    """
    actor = request.user
    session = csrf.session_cookie(request.headers.get("cookie", ""))
    if not isinstance(actor, Actor) or session is None or "authorization" in request.headers:
        raise SignInFirst
    if not actor.in_person:
        raise InPersonOnly
    if not csrf.is_token(session, token):
        raise csrf.CrossSite(reason="connect= is no token of this session")
    if not actor.is_proven(STEP_UP):
        raise InsufficientUserAuthentication
    return actor


@get("/sign-in/with/{provider:str}/callback", public=True, include_in_schema=False, limit="300/minute")
async def come_back(provider: Path[str], request: AnyRequest) -> Response[Any]:
    """Back from a provider: with a session, or with a page that says why not."""
    actor = request.user if isinstance(request.user, Actor) else None
    try:
        finished = await identities.finish(provider, _answer(request), _browser(request), actor, visitor_of(request))
    except Problem as problem:
        return _failed(request, problem, "/")
    back = pages.own_path(finished.back)
    if finished.needed is not None:
        if not _second_step or not _reads_pages(request):
            raise finished.needed
        return _second_step[0](request, finished.needed, back)
    cookies = [_cookie(""), *(cookies_of(finished.opened) if finished.opened else [])]
    return Redirect(back, status_code=303, headers={"Cache-Control": "no-store"}, cookies=cookies)


def _failed(request: AnyRequest, problem: Problem, back: str) -> Response[str]:
    """What went wrong, and the way back to where one signs in; a problem to who reads no pages."""
    if not _reads_pages(request):
        raise problem
    query = urlencode({"back": back})
    reply = pages.page("accounts/provider.html", request, status=problem.status, problem=problem, query=query)
    reply.headers["Cache-Control"] = "no-store"
    return reply


def _reads_pages(request: AnyRequest) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _answer(request: AnyRequest) -> Answer:
    """What came along. Raises WrongState for what comes twice, or is longer than anything that a provider sends."""
    given = [(name, value) for name, value in request.query_params.multi_items() if name in Answer.__struct_fields__]
    if len(dict(given)) < len(given) or any(len(value) > LONGEST for _, value in given):
        raise rules.identities.WrongState
    return Answer(**dict(given))


def _browser(request: AnyRequest) -> str | None:
    return csrf.cookie_in(request.headers.get("cookie", ""), _cookie_name())


def _cookie(value: str) -> Cookie:
    """The browser's secret for as long as it is on its way; without a value, the cookie that takes it away."""
    name = _cookie_name()
    return Cookie(
        key=name,
        value=value,
        path="/",
        secure=name == SECURE_COOKIE,
        httponly=True,
        samesite="lax",
        max_age=int(identities.LIFETIME.total_seconds()) if value else 0,
    )


def _cookie_name() -> str:
    return SECURE_COOKIE if csrf.cookie_name() == csrf.SECURE_COOKIE else PLAIN_COOKIE


routes: list[ControllerRouterHandler] = [begin, come_back]
