"""Signing in and out on a page: a form, a second step for who has one, a session cookie, and back to where one was."""

from typing import Any

import msgspec
from litestar import Request, Response
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.console.shell import own_path, shell
from msingi.kit import pages, state
from msingi.kit.auth import Actor
from msingi.kit.errors import InvalidFields, Problem
from msingi.kit.http import Given, form_at, get, page_at
from msingi.products.accounts.actions import proofs, sessions, step_up
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.pages.providers import show_second_step_with
from msingi.products.accounts.routes.sessions import cookies_of, session_cookie
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.rules.factors import SecondFactorNeeded
from msingi.products.accounts.rules.tickets import BadTicket
from msingi.products.accounts.schemas.factors import PasskeySignIn, SecondFactor, StepUp
from msingi.products.accounts.schemas.sessions import SignIn

AnyRequest = Request[Any, Any, Any]


class Credentials(Struct):
    """What the form holds."""

    email: str
    password: str
    back: str = "/"


class Shown(Struct):
    """What a form holds that asks for a proof; fields that were left empty say nothing."""

    ticket: str = ""
    password: str = ""
    code: str = ""
    recovery_code: str = ""
    credential: str = ""  # as JSON
    back: str = "/"

    def of(self, *names: str) -> dict[str, Any]:
        """The proofs that were filled in. Raises InvalidFields for a credential that is no JSON."""
        found = {name: value for name in names if (value := getattr(self, name).strip(" "))}
        if "credential" in found:
            found["credential"] = _decoded(found["credential"])
        return found


class Nothing(Struct):
    """A form with nothing but its token."""


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise InvalidFields(errors=[{"pointer": "/credential", "in": "body", "message": "it is no JSON"}]) from None


def _form_as(kind: Any, given: dict[str, Any]) -> Any:
    """A form of the API from what a page's form said. Raises InvalidFields."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as fault:
        raise InvalidFields(errors=[{"pointer": "/", "in": "body", "message": str(fault)}]) from None


# ---- signing in


@get("/sign-in", public=True, include_in_schema=False)
async def show_sign_in(request: AnyRequest) -> Response[str]:
    """The form."""
    return _form(request, "", own_path(request.query_params.get("back", "/")), None)


@form_at("/sign-in", public=True, limit="120/minute")
async def sign_in_on_page(request: AnyRequest) -> Response[Any]:
    """A session cookie for who knows the password; the form again, with the reason, for who does not."""
    given = await pages.form_of(request, Credentials)
    form = SignIn(email=given.email, password=given.password, session="cookie")
    try:
        opened = await sessions.sign_in(form, visitor_of(request))
    except SecondFactorNeeded as needed:
        return _second_step(request, needed, given.back)
    except Problem as problem:
        return _form(request, given.email, given.back, _to_show(problem))
    return _entered(opened, given.back)


@form_at("/sign-in/second-factor", public=True, limit="60/minute")
async def finish_sign_in_on_page(request: AnyRequest) -> Response[Any]:
    """The second step: it may be tried again while its ticket is good."""
    given = await pages.form_of(request, Shown)
    try:
        proof = given.of("code", "recovery_code", "credential")
        form = _form_as(SecondFactor, {"ticket": given.ticket, **proof})
        opened = await step_up.finish_sign_in(form, visitor_of(request))
    except BadTicket as problem:
        return _form(request, "", given.back, problem)
    except Problem as problem:
        return _second_step(request, await proofs.needed_still(given.ticket), given.back, _to_show(problem))
    return _entered(opened, given.back)


@form_at("/sign-in/passkey", public=True, limit="60/minute")
async def sign_in_with_passkey_on_page(request: AnyRequest) -> Response[Any]:
    """A session cookie for who holds a passkey."""
    given = await pages.form_of(request, Shown)
    try:
        form = _form_as(PasskeySignIn, {"ticket": given.ticket, "session": "cookie", **given.of("credential")})
        opened = await step_up.sign_in_with_passkey(form, visitor_of(request))
    except Problem as problem:
        return _form(request, "", given.back, _to_show(problem))
    return _entered(opened, given.back)


@form_at("/sign-out")
async def sign_out_on_page(request: AnyRequest) -> Redirect:
    """End the session."""
    await pages.form_of(request, Nothing)
    await sessions.sign_out(request.user)
    return Redirect("/", status_code=303, cookies=[session_cookie("")])


def _entered(opened: sessions.Opened, back: str) -> Response[Any]:
    return Redirect(own_path(back), status_code=303, cookies=cookies_of(opened))


def _to_show(problem: Problem) -> Problem:
    """A problem that the form shows; what is ours is raised again."""
    if problem.status >= 500:
        raise problem
    return problem


def _form(request: AnyRequest, email: str, back: str, problem: Problem | None) -> Response[str]:
    context: dict[str, Any] = {"email": email, "back": back, "problem": problem}
    context["providers"] = state.part(AccountsSettings).providers
    status = problem.status if problem else 200
    page = pages.page("console/sign_in.html", request, status=status, **shell(request), **context)
    if problem:
        page.headers.update(problem.headers)  # when to try again
    return page


def _second_step(
    request: AnyRequest, needed: SecondFactorNeeded, back: str, problem: Problem | None = None
) -> Response[str]:
    details = needed.details
    context: dict[str, Any] = {"ticket": details["ticket"], "methods": details["methods"], "back": back}
    context |= {"options": details.get("passkey"), "problem": problem, "to": "/sign-in/second-factor"}
    return _proving(request, "console/second_factor.html", context, problem)


show_second_step_with(_second_step)


# ---- once more


@page_at("/step-up", in_person=True)
async def show_step_up(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """Ask once more who it is, for a page that needs to be sure."""
    return await _step_up(request, actor, own_path(request.query_params.get("back", "/")), None)


@form_at("/step-up", in_person=True, limit="60/minute")
async def step_up_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Back to the page that asked."""
    given = await pages.form_of(request, Shown)
    try:
        # The form holds a ticket for the passkey, which says nothing without one.
        names = ("credential", "ticket") if given.credential else ("password", "code", "recovery_code")
        await step_up.step_up(actor, _form_as(StepUp, given.of(*names)))
    except Problem as problem:
        return await _step_up(request, actor, given.back, _to_show(problem))
    return Redirect(own_path(given.back), status_code=303)


async def _step_up(request: AnyRequest, actor: Actor, back: str, problem: Problem | None) -> Response[str]:
    methods, issued, options = await step_up.options(actor)
    context: dict[str, Any] = {"ticket": issued.secret if issued else "", "methods": methods, "back": back}
    context |= {"options": options or None, "problem": problem, "to": "/step-up"}
    context["providers"] = [each for each in state.part(AccountsSettings).providers if each.kind == "openid"]
    return _proving(request, "console/step_up.html", context, problem)


def _proving(request: AnyRequest, name: str, context: dict[str, Any], problem: Problem | None) -> Response[str]:
    status = problem.status if problem else 200
    reply = pages.page(name, request, status=status, **shell(request), **context)
    reply.headers["Cache-Control"] = "no-store"
    return reply


routes: list[ControllerRouterHandler] = [
    show_sign_in,
    sign_in_on_page,
    finish_sign_in_on_page,
    sign_in_with_passkey_on_page,
    sign_out_on_page,
    show_step_up,
    step_up_on_page,
]
