"""One person, for those who look after others: what there is of them, and what can be done."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from litestar import Response
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages, state
from msingi.kit.actors import Actor
from msingi.kit.audit import Entry
from msingi.kit.db import Paging
from msingi.kit.errors import NotFound, Problem
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.kit.reading import strictly
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import erasing, factors, impersonation, others, people
from msingi.products.accounts.contract import BelongingsAsked
from msingi.products.accounts.key_secrets import beginning_of
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.models.sessions import Session
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.pages.entries import lines_of
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show
from msingi.products.accounts.pages.users import HERE, MANAGE
from msingi.products.accounts.routes.sessions import cookies_of
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.rules.roles import EVERYBODYS
from msingi.products.accounts.schemas.impersonation import Impersonation
from msingi.products.accounts.schemas.people import Name, Roles, UserPatch

LATEST = 8  # entries of the audit log on the page
SESSIONS = 20  # of the newest
END_SESSION = Question(
    "End this session?", "They are signed out there at once, and may sign in again.", "End the session"
)


class Person(Struct):
    """The form."""

    name: Name
    version: int
    roles: Roles = []


class Reason(Struct):
    """Why one acts in somebody's name."""

    reason: str


class Erasure(Struct):
    """The box that has to be ticked, and whether organisations get another owner."""

    sure: Literal["yes"]
    pass_on: bool = False


class Device(Struct, frozen=True):
    """A session as those see it who look after others."""

    session: Session
    browser: str
    system: str


# ---- looking


@page_at("/admin/users/{user_id:str}", permission=MANAGE)
async def show_person(request: AnyRequest, user_id: Path[str], actor: Given[Actor]) -> Response[str]:
    """All that there is of them here."""
    account = await queries.people.user(user_id)
    titles = {each.name: each.title for each in state.part(AccountsSettings).providers}
    return show(
        "user",
        request,
        account=account,
        ways=await queries.factors.ways(user_id),
        passkeys=await queries.factors.passkeys_of(user_id),
        devices=[_device(each) for each in await queries.sessions.sessions_of(account, SESSIONS)],
        belongings=await queries.organisations.belongings(BelongingsAsked(ids=[user_id])),
        connections=await queries.identities.connections_of(user_id),
        titles=titles,
        keys=await queries.api_keys.keys_of(user_id),
        begins=beginning_of,
        lines=await lines_of(await _entries(user_id)) if actor.may("audit:read") else None,
        may_act=actor.may(rules.impersonation.PERMISSION) and account.id != actor.id,
    )


def _device(session: Session) -> Device:
    agent = session.user_agent
    return Device(session, rules.agents.browser_of(agent), rules.agents.system_of(agent))


async def _entries(user_id: str) -> list[Entry]:
    theirs = {"$or": [{"actor": user_id}, {"about": user_id}]}
    return (await queries.audit.entries(theirs, Paging(limit=LATEST))).items


# ---- name and roles


@page_at("/admin/users/{user_id:str}/edit", permission=MANAGE, step_up=True)
async def show_edit(request: AnyRequest, user_id: Path[str]) -> Response[str]:
    """Change somebody's name and roles."""
    return await _edit(request, user_id)


@form_at("/admin/users/{user_id:str}/edit", permission=MANAGE, step_up=True)
async def edit_on_page(request: AnyRequest, user_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """They are changed."""
    try:
        form = await pages.form_of(request, Person)
        await people.edit_user(user_id, UserPatch(name=form.name, roles=form.roles), form.version, actor)
    except Problem as problem:
        return await _edit(request, user_id, pages.to_show(problem))
    return pages.gone_well(_page_of(user_id))


async def _edit(request: AnyRequest, user_id: str, problem: Problem | None = None) -> Response[str]:
    account = await queries.people.user(user_id)
    known = await queries.roles.role_names() | set(account.roles)
    return show("edit_user", request, problem, account=account, roles=sorted(known - {EVERYBODYS}))


def _page_of(user_id: str) -> str:
    return f"{HERE}/{user_id}"


# ---- acting in their name


@page_at("/admin/users/{user_id:str}/impersonation", permission=rules.impersonation.PERMISSION, step_up=True)
async def show_impersonation(request: AnyRequest, user_id: Path[str]) -> Response[str]:
    """Why?"""
    return await _why(request, user_id)


@form_at(
    "/admin/users/{user_id:str}/impersonation",
    permission=rules.impersonation.PERMISSION,
    step_up=True,
    limit="20/minute",
)
async def impersonate_on_page(request: AnyRequest, user_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """This browser is theirs, until the banner's button is pressed or half an hour is over."""
    try:
        form = await pages.form_of(request, Reason)
        asked = strictly(Impersonation, {"reason": form.reason.strip(), "session": "cookie"})
        opened = await impersonation.begin(user_id, asked, actor, visitor_of(request))
    except Problem as problem:
        return await _why(request, user_id, pages.to_show(problem))
    headers = {"Cache-Control": "no-store"}
    return Redirect("/account", status_code=303, headers=headers, cookies=cookies_of(opened))


async def _why(request: AnyRequest, user_id: str, problem: Problem | None = None) -> Response[str]:
    tells = state.part(AccountsSettings).tells_of_impersonation
    return show("impersonation", request, problem, account=await queries.people.user(user_id), tells=tells)


# ---- erasing


@page_at("/admin/users/{user_id:str}/erasure", permission=MANAGE, step_up=True)
async def show_user_erasure(request: AnyRequest, user_id: Path[str]) -> Response[str]:
    """What goes, and the box to tick."""
    return await _erasure(request, user_id)


@form_at("/admin/users/{user_id:str}/erasure", permission=MANAGE, step_up=True)
async def erase_user_on_page(request: AnyRequest, user_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """They are gone."""
    try:
        form = await pages.form_of(request, Erasure)
        await erasing.erase(user_id, actor, pass_on=form.pass_on)
    except Problem as problem:
        return await _erasure(request, user_id, pages.to_show(problem))
    return pages.gone_well(HERE, "user_erased")


async def _erasure(request: AnyRequest, user_id: str, problem: Problem | None = None) -> Response[str]:
    return show("erase_user", request, problem, account=await queries.people.user(user_id))


# ---- ending one session


@page_at("/admin/users/{user_id:str}/sessions/{session_id:str}", permission=MANAGE, step_up=True)
async def show_end_of_session(request: AnyRequest, user_id: Path[str], session_id: Path[str]) -> Response[str]:
    """Ask before it ends."""
    account = await queries.people.user(user_id)
    device = _device(await queries.sessions.session_of_account(session_id, account))
    about = " · ".join(filter(None, [account.name, device.browser, device.system]))
    return ask(END_SESSION, request, _page_of(user_id), about=about)


@form_at("/admin/users/{user_id:str}/sessions/{session_id:str}", permission=MANAGE, step_up=True)
async def end_session_of_user(
    request: AnyRequest, user_id: Path[str], session_id: Path[str], actor: Given[Actor]
) -> Response[Any]:
    """It has ended."""
    await pages.form_of(request, Nothing)
    try:
        await others.end_session(user_id, session_id, actor)
    except Problem as problem:
        return ask(END_SESSION, request, _page_of(user_id), problem=pages.to_show(problem))
    return pages.gone_well(_page_of(user_id), "session_ended")


# ---- what takes no more than a yes


class Act(Struct, frozen=True):
    """Something that is done to an account after one question."""

    question: Question
    done: str
    do: Callable[[str, Actor], Awaitable[object]]


async def _disable(user_id: str, actor: Actor) -> Account:
    return await people.edit_user(user_id, UserPatch(disabled=True), None, actor)


async def _enable(user_id: str, actor: Actor) -> Account:
    return await people.edit_user(user_id, UserPatch(disabled=False), None, actor)


ACTS = {
    "disable": Act(
        Question(
            "Disable this account?",
            "They are signed out everywhere at once, and nobody can sign in with it.",
            "Disable",
        ),
        "user_disabled",
        _disable,
    ),
    "enable": Act(
        Question("Enable this account?", "They may sign in again, with what they signed in with before.", "Enable"),
        "user_enabled",
        _enable,
    ),
    "factors": Act(
        Question(
            "Remove all second factors?",
            "For somebody who lost them: be sure that it is really them who asks. "
            "They are signed out everywhere, and a letter tells them.",
            "Remove them",
        ),
        "factors_reset",
        factors.reset,
    ),
    "reset-letter": Act(
        Question(
            "Send a letter to set a new password?",
            "It goes to the account's address, and its link is good for half an hour.",
            "Send the letter",
        ),
        "reset_letter",
        others.send_reset_letter,
    ),
    "sign-out": Act(
        Question("End all sessions?", "They are signed out everywhere at once, and may sign in again.", "End them all"),
        "sessions_ended",
        others.end_sessions,
    ),
}


@page_at("/admin/users/{user_id:str}/{act:str}", permission=MANAGE, step_up=True)
async def show_act(request: AnyRequest, user_id: Path[str], act: Path[str]) -> Response[str]:
    """Ask before it is done."""
    return await _question(request, user_id, act)


@form_at("/admin/users/{user_id:str}/{act:str}", permission=MANAGE, step_up=True)
async def do_act(request: AnyRequest, user_id: Path[str], act: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It is done."""
    await pages.form_of(request, Nothing)
    try:
        await _act(act).do(user_id, actor)
    except Problem as problem:
        return await _question(request, user_id, act, pages.to_show(problem))
    return pages.gone_well(_page_of(user_id), _act(act).done)


def _act(name: str) -> Act:
    if name not in ACTS:
        raise NotFound
    return ACTS[name]


async def _question(request: AnyRequest, user_id: str, act: str, problem: Problem | None = None) -> Response[str]:
    account = await queries.people.user(user_id)
    about = f"{account.name} · {account.email}"
    return ask(_act(act).question, request, _page_of(user_id), about=about, problem=problem)


routes: list[ControllerRouterHandler] = [
    show_person,
    show_edit,
    edit_on_page,
    show_impersonation,
    impersonate_on_page,
    show_user_erasure,
    erase_user_on_page,
    show_end_of_session,
    end_session_of_user,
    show_act,
    do_act,
]
