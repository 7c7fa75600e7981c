"""Where a program's sign-in passes through the person's browser: being asked, typing a device's code, signing out."""

from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode

from litestar import Request, Response
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from msingi.kit import pages, state, tokens
from msingi.kit.auth import Actor
from msingi.kit.errors import Problem, SignInFirst
from msingi.kit.http import form_at, get
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import authorizations, devices, sessions
from msingi.products.accounts.models.clients import Client
from msingi.products.accounts.routes.sessions import session_cookie
from msingi.products.accounts.rules.openid import OAuthError, Wish, once, sent_to
from msingi.products.accounts.schemas.openid import IdClaims

AnyRequest = Request[Any, Any, Any]
Query = Annotated[str, Meta(max_length=8000)]
NOT_KEPT = {"Cache-Control": "no-store"}
SINCE = "since"
AUTHORIZE = "/oauth/authorize"


class Answer(Struct):
    """What the person says to a program; `asked` is its request, which is read anew."""

    asked: Query
    answer: Literal["allow", "deny"]


class Typed(Struct):
    """The code that a device shows; without an answer the person is asked for one."""

    user_code: Annotated[str, Meta(max_length=40)]
    answer: Literal["", "allow", "deny"] = ""


class Leaving(Struct):
    """The query of the sign-out."""

    asked: Query = ""


class IdHeader(Struct, frozen=True, forbid_unknown_fields=True):
    """The only header that an ID token of ours has."""

    alg: Literal["EdDSA"]
    typ: Literal["JWT"]
    kid: Annotated[str, Meta(min_length=1, max_length=64)]


def person_of(request: AnyRequest) -> Actor | None:
    """Who sits at the browser: a token in a header is no browser."""
    return None if "authorization" in request.headers else request.user


# ---- being asked


@get(AUTHORIZE, public=True, in_person=True, include_in_schema=False)
async def authorize(request: AnyRequest) -> Response[Any]:
    """Send the person back to a program with a code, once they are signed in and said yes."""
    given = once(list(request.query_params.multi_items()))
    client = await _client_to_send_back_to(given)
    try:
        return await _next(request, client, given)
    except OAuthError as error:
        return _sent_back(given, error=error.code, error_description=str(error))


async def _client_to_send_back_to(given: dict[str, str]) -> Client:
    return await queries.clients.place_to_send_back(given.get("client_id", ""), given.get("redirect_uri", ""))


def _sent_back(given: dict[str, str], **said: str) -> Redirect:
    """To an address that was found to be the program's; `iss` says who answers, against mix-up (RFC 9207)."""
    told = {**said, "state": given.get("state"), "iss": state.settings().base_url}
    return Redirect(sent_to(given["redirect_uri"], **told), status_code=303, headers=NOT_KEPT)


async def _next(request: AnyRequest, client: Client, given: dict[str, str]) -> Response[Any]:
    wish = _wish_of(client, given)
    actor = person_of(request)
    step = await authorizations.next_step(wish, actor)
    if actor is None or step == "sign_in":
        return _to_sign_in(given, client)
    if step == "ask":
        return _consent_page(request, wish, given)
    return _sent_back(given, code=await authorizations.allow(wish, actor, asked=False))


def _wish_of(client: Client, given: dict[str, str]) -> Wish:
    since = authorizations.since_of(given.get(SINCE, ""), client.id)
    return rules.openid.wish_of(client, given["redirect_uri"], given, since)


def _to_sign_in(given: dict[str, str], client: Client) -> Redirect:
    """Back from there leads over a page of its own, since Chromium holds a form to its policy through all redirects."""
    again = {**given, SINCE: authorizations.since_mark(client.id)}
    back = f"/oauth/continue?{urlencode(again)}"
    return Redirect(f"/sign-in?{urlencode({'back': back})}", status_code=303, headers=NOT_KEPT)


@get("/oauth/continue", public=True, identify=False, include_in_schema=False)
async def go_on(request: AnyRequest) -> Response[str]:
    """A page that goes on to what was asked before the sign-in."""
    onward = f"{AUTHORIZE}?{request.scope['query_string'].decode('latin-1')}"
    return pages.page("accounts/continue.html", request, onward=onward)


def _consent_page(request: AnyRequest, wish: Wish, given: dict[str, str]) -> Response[str]:
    origin = rules.openid.origin_of(wish.redirect_uri)
    return pages.page(
        "accounts/consent.html",
        request,
        policy=pages.policy_for(origin),
        client=wish.client,
        scopes=wish.scopes,
        origin=origin,
        asked=urlencode({**given, "prompt": " ".join(sorted(wish.prompts - {"login", "consent"}))}),
    )


@form_at(AUTHORIZE, in_person=True, back="/account")
async def answer_program(request: AnyRequest) -> Response[Any]:
    """What the person said. All of the request is looked at anew: the form proves nothing but that they pressed."""
    said = await pages.form_of(request, Answer)
    given = once(parse_qsl(said.asked))
    client = await _client_to_send_back_to(given)
    actor = _signed_in(request)
    try:
        wish = _wish_of(client, given)
        if await authorizations.next_step(wish, actor) == "sign_in":
            return _to_sign_in(given, client)
        if said.answer == "deny":
            await authorizations.refuse(wish, actor)
            raise rules.openid.AccessDenied
        return _sent_back(given, code=await authorizations.allow(wish, actor, asked=True))
    except OAuthError as error:
        return _sent_back(given, error=error.code, error_description=str(error))


def _signed_in(request: AnyRequest) -> Actor:
    actor = person_of(request)
    if actor is None:
        raise SignInFirst
    return actor


# ---- a device's code


@get("/device", public=True, in_person=True, include_in_schema=False)
async def show_device(request: AnyRequest) -> Response[Any]:
    """Where the code of a device is typed."""
    code = request.query_params.get("user_code", "")[:40]
    if person_of(request) is None:
        back = f"/device?{urlencode({'user_code': code})}" if code else "/device"
        return Redirect(f"/sign-in?{urlencode({'back': back})}", status_code=303)
    return _device_page(request, code)


@form_at("/device", in_person=True, limit="20/minute")
async def answer_device(request: AnyRequest) -> Response[Any]:
    """The code, then what the person says to the program behind it."""
    said = await pages.form_of(request, Typed)
    actor = _signed_in(request)
    try:
        if said.answer:
            client = await devices.answer(said.user_code, said.answer, actor)
            return _device_page(request, "", client=client, answered=said.answer)
        grant, client = await devices.waiting(said.user_code)
    except rules.openid.WrongDeviceCode as problem:
        return _device_page(request, said.user_code, problem=problem)
    return _device_page(request, said.user_code, client=client, scopes=grant.scopes)


def _device_page(request: AnyRequest, code: str, problem: Problem | None = None, **more: Any) -> Response[str]:
    known: dict[str, Any] = {"code": code, "client": None, "scopes": [], "answered": "", "problem": problem, **more}
    return pages.page("accounts/device.html", request, status=problem.status if problem else 200, **known)


# ---- signing out at a program's wish


@get("/oauth/logout", public=True, in_person=True, include_in_schema=False)
async def show_leaving(request: AnyRequest) -> Response[Any]:
    """Ask whether to sign out here too (OpenID Connect RP-Initiated Logout): a link alone signs nobody out."""
    given = once(list(request.query_params.multi_items()))
    client, onward = await _place_after(given)
    if person_of(request) is None:
        return Redirect(onward or "/", status_code=303, headers=NOT_KEPT)
    policy = pages.policy_for(rules.openid.origin_of(onward)) if onward else None
    return pages.page("accounts/leaving.html", request, policy=policy, client=client, asked=urlencode(given))


@form_at("/oauth/logout", in_person=True, back="/account")
async def leave(request: AnyRequest) -> Redirect:
    """End the session, and on to where the program wants the person to go, if that is an address of its."""
    said = await pages.form_of(request, Leaving)
    _, onward = await _place_after(once(parse_qsl(said.asked)))
    await sessions.sign_out(_signed_in(request))
    return Redirect(onward or "/", status_code=303, headers=NOT_KEPT, cookies=[session_cookie("")])


async def _place_after(given: dict[str, str]) -> tuple[Client | None, str]:
    """The program that asks, and its address, if it is registered for just this."""
    client = await queries.clients.known_client(await _client_id_in(given))
    uri = given.get("post_logout_redirect_uri", "")
    if client is None or not any(rules.openid.redirect_fits(each, uri) for each in client.post_logout_redirect_uris):
        return client, ""
    return client, sent_to(uri, state=given.get("state"))


async def _client_id_in(given: dict[str, str]) -> str:
    """Which program asks: an ID token of ours says so even after its time."""
    hint = given.get("id_token_hint")
    if hint is None:
        return given.get("client_id", "")
    claims = await tokens.read_signed(hint, IdHeader, IdClaims)
    return claims.aud if claims and given.get("client_id", claims.aud) == claims.aud else ""


routes: list[ControllerRouterHandler] = [
    authorize,
    go_on,
    answer_program,
    show_device,
    answer_device,
    show_leaving,
    leave,
]
