"""Signing in, going on, signing out, and where one is signed in."""

from typing import Any

from litestar import Request
from litestar.datastructures import Cookie

from msingi.kit import csrf, tokens
from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging
from msingi.kit.errors import Busy, Stale
from msingi.kit.http import Body, Given, Path, delete, get, post
from msingi.kit.replies import KitResponse
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import sessions
from msingi.products.accounts.models.sessions import Kind, Session
from msingi.products.accounts.routes.visitors import remembering, visitor_of
from msingi.products.accounts.schemas.sessions import CookieView, CsrfView, Refresh, SessionView, SignIn, TokensView

AnyRequest = Request[Any, Any, Any]
Signed = KitResponse[TokensView | CookieView]
NOT_KEPT = {"Cache-Control": "no-store"}


@post(
    "/sign-in",
    public=True,
    status_code=200,
    limit="300/minute",
    idempotency="off",
    problems=[
        rules.sessions.WrongCredentials,
        rules.defence.TooManyTries,
        rules.defence.SignInLocked,
        rules.factors.SecondFactorNeeded,
        rules.addresses.EmailUnverified,
        rules.people.AccountDisabled,
        csrf.CrossSite,
        Busy,
    ],
)
async def sign_in(data: Body[SignIn], request: AnyRequest) -> Signed:
    """Show the password; get tokens, or a session cookie."""
    if data.session == "cookie":
        check_page(request)
    return await signed(await sessions.sign_in(data, visitor_of(request)))


def check_page(request: AnyRequest) -> None:
    """A browser that says where the request comes from must name one of our pages: nobody is signed in unawares."""
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        csrf.check_origin(dict(request.scope["headers"]))


@post("/refresh", public=True, status_code=200, idempotency="off", problems=[rules.sessions.BadRefreshToken])
async def refresh(data: Body[Refresh]) -> Signed:
    """Swap a refresh token for the next one and a new access token."""
    return await signed(await sessions.refresh(data.refresh_token))


async def signed(opened: sessions.Opened) -> Signed:
    """The reply that hands over a session: kept by nobody on the way."""
    if opened.session.kind == "cookie":
        view = CookieView(csrf_token=csrf.token_for(opened.secret), expires_in=opened.expires_in)
        return KitResponse(view, headers=NOT_KEPT, cookies=cookies_of(opened))
    token = await sessions.access_token(opened)
    answer = TokensView(access_token=token, refresh_token=opened.secret, expires_in=min(tokens.LIFETIME, opened.lasts))
    return KitResponse(answer, headers=NOT_KEPT, cookies=remembering(opened.device))


def cookies_of(opened: sessions.Opened) -> list[Cookie]:
    """What a browser keeps of a session that lives in a cookie: its secret, and by what the device is known again."""
    return [session_cookie(opened.secret), *remembering(opened.device)]


def session_cookie(value: str) -> Cookie:
    """The cookie that keeps a session; without a value, the one that takes it away."""
    name = csrf.cookie_name()
    return Cookie(
        key=name,
        value=value,
        path="/",
        secure=name == csrf.SECURE_COOKIE,
        httponly=True,
        samesite="lax",
        max_age=None if value else 0,
    )


@post("/sign-out", status_code=204, idempotency="off")
async def sign_out(actor: Given[Actor], request: AnyRequest) -> KitResponse[None]:
    """End this session."""
    await sessions.sign_out(actor)
    cookies = [session_cookie("")] if csrf.session_cookie(request.headers.get("cookie", "")) else []
    return KitResponse(None, status_code=204, cookies=cookies)


@post("/sign-out/everywhere", status_code=204, in_person=True, idempotency="off", problems=[Stale])
async def sign_out_everywhere(actor: Given[Actor], request: AnyRequest) -> KitResponse[None]:
    """End all of one's sessions, this one too."""
    await sessions.end_all(actor.id, actor)
    cookies = [session_cookie("")] if csrf.session_cookie(request.headers.get("cookie", "")) else []
    return KitResponse(None, status_code=204, cookies=cookies)


def kind_of(request: AnyRequest) -> Kind:
    """What kind of session this request came in."""
    return "token" if "authorization" in request.headers else "cookie"


@get("/csrf", problems=[rules.sessions.NoCookieSession])
async def show_csrf_token(request: AnyRequest) -> KitResponse[CsrfView]:
    """A token that a page of this session sends with whatever is no GET."""
    value = csrf.session_cookie(request.headers.get("cookie", ""))
    if value is None or "authorization" in request.headers:
        raise rules.sessions.NoCookieSession
    return KitResponse(CsrfView(csrf_token=csrf.token_for(value)), headers=NOT_KEPT)


# ---- sessions


async def session_in_path(session_id: Path[str], actor: Given[Actor]) -> Session:
    return await queries.sessions.my_session(session_id, actor)


@get("/sessions")
async def list_sessions(actor: Given[Actor], page: Given[Paging]) -> Page[SessionView]:
    """Where one is signed in, newest first."""
    found = await queries.sessions.my_sessions(actor, page)
    return found.map(lambda session: shown(session, actor))


def shown(session: Session, actor: Actor) -> SessionView:
    """A session as it is told of; `current` marks the one that asks."""
    view: SessionView = SessionView.of(
        session, expires_at=min(session.idle_at, session.ends_at), current=session.id == actor.session
    )
    return view


@delete("/sessions", in_person=True)
async def end_other_sessions(actor: Given[Actor]) -> None:
    """End all sessions but this one."""
    await sessions.end_others(actor)


@delete("/sessions/{session_id:str}", in_person=True)
async def end_session(session: Given[Session]) -> None:
    """End one of them."""
    await sessions.end(session)


routes = [
    sign_in,
    refresh,
    sign_out,
    sign_out_everywhere,
    show_csrf_token,
    list_sessions,
    end_other_sessions,
    end_session,
]
