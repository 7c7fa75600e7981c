"""Registering, one's own account, and looking after others'."""

from datetime import datetime
from typing import Any

from litestar import Request
from litestar.openapi.datastructures import ResponseSpec

from msingi.kit import state
from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import Busy, Stale
from msingi.kit.http import Body, Filters, Given, Path, Query, get, patch, post
from msingi.kit.replies import KitResponse, created
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import arrivals, letters, people, sessions
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.routes.sessions import Signed, kind_of, signed
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.addresses import AskedView
from msingi.products.accounts.schemas.people import (
    AccountView,
    BroughtUser,
    NewUser,
    PasswordChange,
    ProfilePatch,
    Registration,
    UserPatch,
)

AnyRequest = Request[Any, Any, Any]
USERS = Filters(role=("roles", str), disabled=bool, created_at=datetime)


@post(
    "/register",
    public=True,
    limit="300/minute",
    problems=[rules.people.EmailTaken, rules.people.WeakPassword, Busy],
    responses={202: ResponseSpec(AskedView, description="A letter is on its way", generate_examples=False)},
)
async def register(data: Body[Registration], request: AnyRequest) -> KitResponse[AccountView | AskedView]:
    """Make an account; where addresses are verified first, ask for one, and a letter goes to the address (202)."""
    visitor = visitor_of(request)
    if state.part(AccountsSettings).verifies:
        await arrivals.register(data, visitor)
        return KitResponse(AskedView(), status_code=202)
    await letters.check_caller(visitor)
    account = await people.register(data, visitor.language)
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
    """Change one's name or language."""
    return _account(await people.rename(await queries.people.me(actor), data, if_match))


@post(
    "/me/password",
    status_code=200,
    limit="20/minute",
    idempotency="off",
    in_person=True,
    problems=[
        rules.people.WrongPassword,
        rules.people.WeakPassword,
        rules.defence.TooManyTries,
        Stale,
        Busy,
    ],
)
async def change_password(data: Body[PasswordChange], actor: Given[Actor], request: AnyRequest) -> Signed:
    """Change one's password. All sessions end; the answer opens a new one, of the same kind as this."""
    account = await people.change_password(actor, data)
    visitor, methods = visitor_of(request), sorted({*actor.methods, "pwd"})
    proof = rules.sessions.proof_by_password(methods, actor.signed_in_at)
    return await signed(await sessions.open_session(account, kind_of(request), visitor, methods, **proof))


# ---- others


@get("/users", permission="users:manage", filters=USERS, also=("q", "email"))
async def list_users(
    page: Given[Paging], where: Given[Where], q: Query[str] = "", email: Query[str] = ""
) -> Page[AccountView]:
    """Everybody. `q`: whole words of names and addresses, all of them; `email`: one whole address."""
    found = await queries.people.users(where, q, page, email)
    return found.map(_account)


@post(
    "/users",
    permission="users:manage",
    step_up=True,
    problems=[
        rules.people.EmailTaken,
        rules.people.WeakPassword,
        rules.roles.UnknownRole,
        rules.roles.AboveYou,
        Busy,
    ],
)
async def add_user(data: Body[NewUser], actor: Given[Actor]) -> KitResponse[AccountView]:
    """Make an account for somebody."""
    account = await people.add_user(data, actor)
    return created(_account(account), f"/v1/accounts/users/{account.id}")


@post("/users/import", permission="users:manage", step_up=True, problems=[rules.people.EmailTaken])
async def import_user(data: Body[BroughtUser], actor: Given[Actor]) -> KitResponse[AccountView]:
    """Make the account of somebody who brings the hash of their password from another system."""
    account = await people.import_user(data, actor)
    return created(_account(account), f"/v1/accounts/users/{account.id}")


@get("/users/{user_id:str}", permission="users:manage")
async def show_user(user_id: Path[str]) -> AccountView:
    """Somebody's account."""
    return _account(await queries.people.user(user_id))


@patch(
    "/users/{user_id:str}",
    permission="users:manage",
    step_up=True,
    problems=[rules.people.LastAdmin, rules.roles.UnknownRole, rules.roles.AboveYou, Stale],
)
async def edit_user(
    user_id: Path[str], data: Body[UserPatch], actor: Given[Actor], if_match: Given[int | None]
) -> AccountView:
    """Change somebody's name, roles, or whether they may come in."""
    return _account(await people.edit_user(user_id, data, if_match, actor))


routes = [register, show_me, edit_me, change_password, list_users, add_user, import_user, show_user, edit_user]
