"""Registering, one's own account, and looking after others'."""

from datetime import datetime
from typing import Any

from litestar import Request

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import Busy, Stale
from msingi.kit.http import Body, Filters, Given, Path, Query, get, patch, post
from msingi.kit.replies import KitResponse, created
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import people, sessions
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.routes.sessions import Signed, kind_of, signed
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.people import (
    AccountView,
    NewUser,
    PasswordChange,
    ProfilePatch,
    Registration,
    UserPatch,
)

AnyRequest = Request[Any, Any, Any]
USERS = Filters(email=str, role=("roles", str), disabled=bool, created_at=datetime)


@post("/register", public=True, limit="300/minute", problems=[rules.people.EmailTaken, rules.people.WeakPassword, Busy])
async def register(data: Body[Registration]) -> KitResponse[AccountView]:
    """Make an account."""
    account = await people.register(data)
    return created(_account(account), "/v1/accounts/me")


def _account(account: Account) -> AccountView:
    view: AccountView = AccountView.of(account)
    return view


# ---- oneself


@get("/me")
async def show_me(actor: Given[Actor]) -> AccountView:
    """One's own account."""
    return _account(await queries.people.me(actor))


@patch("/me", problems=[Stale])
async def edit_me(data: Body[ProfilePatch], actor: Given[Actor], if_match: Given[int | None]) -> AccountView:
    """Change one's name."""
    return _account(await people.rename(await queries.people.me(actor), data, if_match))


@post(
    "/me/password",
    status_code=200,
    limit="20/minute",
    idempotency="off",
    in_person=True,
    problems=[rules.people.WrongPassword, rules.people.WeakPassword, Stale, Busy],
)
async def change_password(data: Body[PasswordChange], actor: Given[Actor], request: AnyRequest) -> Signed:
    """Change one's password. All sessions end; the answer opens a new one, of the same kind as this."""
    account = await people.change_password(actor, data)
    return await signed(
        await sessions.open_session(account, kind_of(request), visitor_of(request), sorted(actor.methods))
    )


# ---- others


@get("/users", permission="users:manage", filters=USERS, also=("q",))
async def list_users(page: Given[Paging], where: Given[Where], q: Query[str] = "") -> Page[AccountView]:
    """Everybody. `q`: whole words of names and addresses, all of them."""
    found = await queries.people.users(where, q, page)
    return found.map(_account)


@post("/users", permission="users:manage", problems=[rules.people.EmailTaken, rules.people.WeakPassword, Busy])
async def add_user(data: Body[NewUser]) -> KitResponse[AccountView]:
    """Make an account for somebody."""
    account = await people.add_user(data)
    return created(_account(account), f"/v1/accounts/users/{account.id}")


@get("/users/{user_id:str}", permission="users:manage")
async def show_user(user_id: Path[str]) -> AccountView:
    """Somebody's account."""
    return _account(await queries.people.user(user_id))


@patch("/users/{user_id:str}", permission="users:manage", problems=[rules.people.LastAdmin, Stale])
async def edit_user(user_id: Path[str], data: Body[UserPatch], if_match: Given[int | None]) -> AccountView:
    """Change somebody's name, roles, or whether they may come in."""
    return _account(await people.edit_user(user_id, data, if_match))


routes = [register, show_me, edit_me, change_password, list_users, add_user, show_user, edit_user]
