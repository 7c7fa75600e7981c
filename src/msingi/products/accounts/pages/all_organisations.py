"""Every organisation, for those who look after others: who owns it, and taking away one that is abused."""

from typing import Any

from litestar import Response
from litestar.types import ControllerRouterHandler

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.errors import Problem
from msingi.kit.http import Given, Path, Query, form_at, page_at
from msingi.products.accounts import queries
from msingi.products.accounts.actions import organisations
from msingi.products.accounts.contract import PeopleAsked
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show

HERE = "/admin/organisations"
MANAGE = "organisations:manage"
REMOVE = Question(
    "Delete this organisation?",
    "Its members lose it, and in every product what belongs to it is deleted. This cannot be undone.",
    "Delete it",
)


@page_at("/admin/organisations", permission=MANAGE)
async def show_all_organisations(request: AnyRequest, page: Given[Paging], q: Query[str] = "") -> Response[str]:
    """The list; `q` searches names and short names."""
    found = await queries.organisations.all_organisations({}, q, page)
    return show("all_organisations", request, q=q, found=found)


@page_at("/admin/organisations/{organisation_id:str}", permission=MANAGE)
async def show_any_organisation_on_page(request: AnyRequest, organisation_id: Path[str]) -> Response[str]:
    """One of them, and who owns it."""
    found = await queries.organisations.any_organisation(organisation_id)
    owners = await queries.people.people(PeopleAsked(ids=found.owners))
    return show("any_organisation", request, organisation=found, owners=owners)


@page_at("/admin/organisations/{organisation_id:str}/removal", permission=MANAGE, step_up=True)
async def show_removal_of_any(request: AnyRequest, organisation_id: Path[str]) -> Response[str]:
    """Ask before it goes."""
    return await _removal(request, organisation_id)


@form_at("/admin/organisations/{organisation_id:str}/removal", permission=MANAGE, step_up=True)
async def remove_any_on_page(request: AnyRequest, organisation_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It is gone."""
    await pages.form_of(request, Nothing)
    try:
        await organisations.remove_any(organisation_id, actor, None)
    except Problem as problem:
        return await _removal(request, organisation_id, pages.to_show(problem))
    return pages.gone_well(HERE, "organisation_removed")


async def _removal(request: AnyRequest, organisation_id: str, problem: Problem | None = None) -> Response[str]:
    found = await queries.organisations.any_organisation(organisation_id)
    return ask(REMOVE, request, f"{HERE}/{organisation_id}", about=found.name, problem=problem)


routes: list[ControllerRouterHandler] = [
    show_all_organisations,
    show_any_organisation_on_page,
    show_removal_of_any,
    remove_any_on_page,
]
