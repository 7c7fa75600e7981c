"""Everybody, for those who look after them: the list, and new accounts."""

from typing import Any

from litestar import Response
from litestar.datastructures import FormMultiDict
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.db import Paging, Where
from msingi.kit.errors import Problem
from msingi.kit.http import Given, Query, form_at, page_at
from msingi.products.accounts import queries
from msingi.products.accounts.actions import people
from msingi.products.accounts.pages.shell import AnyRequest, show
from msingi.products.accounts.rules.roles import EVERYBODYS
from msingi.products.accounts.schemas.people import BroughtUser, Email, Name, NewPassword, NewUser, Roles

HERE = "/admin/users"
MANAGE = "users:manage"
SORTS = {"-created_at": "Newest first", "created_at": "Oldest first", "name": "By name"}


class NewPerson(Struct):
    """Somebody new, as the form has them; what was typed stays there when something is wrong."""

    email: Email
    name: Name
    password: NewPassword
    roles: Roles = []


@page_at("/admin/users", permission=MANAGE)
async def show_users(
    request: AnyRequest, page: Given[Paging], q: Query[str] = "", role: Query[str] = "", access: Query[str] = ""
) -> Response[str]:
    """The list; `q` searches names and addresses."""
    where: Where = {"roles": role} if role else {}
    if access in ("open", "closed"):
        where = {**where, "disabled": access == "closed"}
    return show(
        "users",
        request,
        asked={"q": q, "role": role, "access": access, "sort": page.sort or ""},
        roles=sorted(await queries.roles.role_names() - {EVERYBODYS}),
        sorts=SORTS,
        found=await queries.people.users(where, q, page),
    )


@page_at("/admin/users/new", permission=MANAGE, step_up=True)
async def show_new_user(request: AnyRequest) -> Response[str]:
    """Add somebody."""
    return await _new(request)


@form_at("/admin/users/new", permission=MANAGE, step_up=True)
async def add_user_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """They are there."""
    try:
        form = await pages.form_of(request, NewPerson)
        asked = NewUser(email=form.email, password=form.password, name=form.name, roles=form.roles)
        account = await people.add_user(asked, actor)
    except Problem as problem:
        return await _new(request, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{account.id}", "user_added")


async def _new(request: AnyRequest, problem: Problem | None = None) -> Response[str]:
    known = sorted(await queries.roles.role_names() - {EVERYBODYS})
    typed = await request.form() if problem else FormMultiDict({})
    held = typed.getall("roles", [])
    return show("new_user", request, problem, roles=known, typed=typed, held=held)


@page_at("/admin/users/import", permission=MANAGE, step_up=True)
async def show_import(request: AnyRequest) -> Response[str]:
    """Bring somebody from another system, with the hash of their password."""
    return show("import_user", request, typed={})


@form_at("/admin/users/import", permission=MANAGE, step_up=True)
async def import_user_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """They are there."""
    try:
        account = await people.import_user(await pages.form_of(request, BroughtUser), actor)
    except Problem as problem:
        return show("import_user", request, pages.to_show(problem), typed=await request.form())
    return pages.gone_well(f"{HERE}/{account.id}", "user_added")


routes: list[ControllerRouterHandler] = [
    show_users,
    show_new_user,
    add_user_on_page,
    show_import,
    import_user_on_page,
]
