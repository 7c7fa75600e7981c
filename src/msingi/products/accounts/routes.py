"""The HTTP face: registering, signing in, one's own account and sessions, and looking after others."""

from datetime import datetime
from typing import Any

from litestar import Request
from litestar.datastructures import Cookie

from msingi.kit import csrf, tokens
from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import Busy, Stale
from msingi.kit.http import Body, Filters, Given, Path, Query, delete, get, patch, post
from msingi.kit.replies import KitResponse, created
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import people, sessions
from msingi.products.accounts.models import Account, Kind, Session
from msingi.products.accounts.schemas import (
    AccountView,
    CookieView,
    CsrfView,
    KeysView,
    KeyView,
    NewUser,
    PasswordChange,
    ProfilePatch,
    Refresh,
    Registration,
    SessionView,
    SignIn,
    TokensView,
    UserPatch,
)

AnyRequest = Request[Any, Any, Any]
Signed = KitResponse[TokensView | CookieView]
NOT_KEPT = {"Cache-Control": "no-store"}
USERS = Filters(email=str, role=("roles", str), disabled=bool, created_at=datetime)


# ---- coming in


@post("/register", public=True, limit="300/minute", problems=[rules.EmailTaken, rules.WeakPassword, Busy])
async def register(data: Body[Registration]) -> KitResponse[AccountView]:
    """Make an account."""
    account = await people.register(data)
    return created(_account(account), "/v1/accounts/me")


@post(
    "/sign-in",
    public=True,
    status_code=200,
    limit="300/minute",
    idempotency="off",
    problems=[rules.WrongCredentials, rules.AccountDisabled, csrf.CrossSite, Busy],
)
async def sign_in(data: Body[SignIn], request: AnyRequest) -> Signed:
    """Show the password; get tokens, or a session cookie."""
    if data.session == "cookie":
        _check_page(request)
    return await signed(await sessions.sign_in(data, request.headers.get("user-agent", "")))


def _check_page(request: AnyRequest) -> None:
    """A browser that says where the request comes from must name one of our pages: nobody is signed in unawares."""
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        csrf.check_origin(dict(request.scope["headers"]))


@post("/refresh", public=True, status_code=200, idempotency="off", problems=[rules.BadRefreshToken])
async def refresh(data: Body[Refresh]) -> Signed:
    """Swap a refresh token for the next one and a new access token."""
    return await signed(await sessions.refresh(data.refresh_token))


async def signed(opened: sessions.Opened) -> Signed:
    """The reply that hands over a session: kept by nobody on the way."""
    if opened.session.kind == "cookie":
        view = CookieView(csrf_token=csrf.token_for(opened.secret), expires_in=opened.expires_in)
        return KitResponse(view, headers=NOT_KEPT, cookies=[session_cookie(opened.secret)])
    token = await sessions.access_token(opened)
    answer = TokensView(access_token=token, refresh_token=opened.secret, expires_in=tokens.LIFETIME)
    return KitResponse(answer, headers=NOT_KEPT)


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


def _account(account: Account) -> AccountView:
    view: AccountView = AccountView.of(account)
    return view


# ---- oneself


@get("/me")
async def show_me(actor: Given[Actor]) -> AccountView:
    """One's own account."""
    return _account(await queries.me(actor))


@patch("/me", problems=[Stale])
async def edit_me(data: Body[ProfilePatch], actor: Given[Actor], if_match: Given[int | None]) -> AccountView:
    """Change one's name."""
    return _account(await people.rename(await queries.me(actor), data, if_match))


@post(
    "/me/password",
    status_code=200,
    limit="20/minute",
    idempotency="off",
    problems=[rules.WrongPassword, rules.WeakPassword, Stale, Busy],
)
async def change_password(data: Body[PasswordChange], actor: Given[Actor], request: AnyRequest) -> Signed:
    """Change one's password. All sessions end; the answer opens a new one, of the same kind as this."""
    account = await people.change_password(actor, data)
    kind: Kind = "token" if "authorization" in request.headers else "cookie"
    return await signed(await sessions.open_session(account, kind, request.headers.get("user-agent", "")))


@get("/csrf", problems=[rules.NoCookieSession])
async def show_csrf_token(request: AnyRequest) -> KitResponse[CsrfView]:
    """A token that a page of this session sends with whatever is no GET."""
    value = csrf.session_cookie(request.headers.get("cookie", ""))
    if value is None or "authorization" in request.headers:
        raise rules.NoCookieSession
    return KitResponse(CsrfView(csrf_token=csrf.token_for(value)), headers=NOT_KEPT)


# ---- sessions


async def session_in_path(session_id: Path[str], actor: Given[Actor]) -> Session:
    return await queries.my_session(session_id, actor)


@get("/sessions")
async def list_sessions(actor: Given[Actor], page: Given[Paging]) -> Page[SessionView]:
    """Where one is signed in, newest first."""
    found = await queries.my_sessions(actor, page)
    return found.map(lambda session: _shown(session, actor))


def _shown(session: Session, actor: Actor) -> SessionView:
    view: SessionView = SessionView.of(
        session, expires_at=min(session.idle_at, session.ends_at), current=session.id == actor.session
    )
    return view


@delete("/sessions")
async def end_other_sessions(actor: Given[Actor]) -> None:
    """End all sessions but this one."""
    await sessions.end_others(actor)


@delete("/sessions/{session_id:str}")
async def end_session(session: Given[Session]) -> None:
    """End one of them."""
    await sessions.end(session)


# ---- others


@get("/users", permission="users:manage", filters=USERS, also=("q",))
async def list_users(page: Given[Paging], where: Given[Where], q: Query[str] = "") -> Page[AccountView]:
    """Everybody. `q`: whole words of names and addresses, all of them."""
    found = await queries.users(where, q, page)
    return found.map(_account)


@post("/users", permission="users:manage", problems=[rules.EmailTaken, rules.WeakPassword, Busy])
async def add_user(data: Body[NewUser]) -> KitResponse[AccountView]:
    """Make an account for somebody."""
    account = await people.add_user(data)
    return created(_account(account), f"/v1/accounts/users/{account.id}")


@get("/users/{user_id:str}", permission="users:manage")
async def show_user(user_id: Path[str]) -> AccountView:
    """Somebody's account."""
    return _account(await queries.user(user_id))


@patch("/users/{user_id:str}", permission="users:manage", problems=[rules.LastAdmin, Stale])
async def edit_user(user_id: Path[str], data: Body[UserPatch], if_match: Given[int | None]) -> AccountView:
    """Change somebody's name, roles, or whether they may come in."""
    return _account(await people.edit_user(user_id, data, if_match))


# ---- everybody


@get("/.well-known/jwks.json", public=True)
async def show_keys() -> KitResponse[KeysView]:
    """The keys that check access tokens."""
    keys = [KeyView(**key.jwk()) for key in await queries.published_keys()]
    return KitResponse(KeysView(keys=keys), headers={"Cache-Control": "public, max-age=300"})


routes = [
    register,
    sign_in,
    refresh,
    sign_out,
    show_me,
    edit_me,
    change_password,
    show_csrf_token,
    list_sessions,
    end_other_sessions,
    end_session,
    list_users,
    add_user,
    show_user,
    edit_user,
]
root_routes = [show_keys]
