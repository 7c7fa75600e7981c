"""Where one is signed in, and ending it."""

from typing import Any

from litestar import Response
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import sessions
from msingi.products.accounts.models.sessions import Session
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show
from msingi.products.accounts.routes.sessions import session_cookie

HERE = "/account/sessions"
END_ALL = Question(
    "Sign out everywhere",
    "Every session ends, this one too: in all browsers, and of all programs that you let in.",
    "Sign out everywhere",
)


class Device(Struct, frozen=True):
    """A session as its person sees it."""

    session: Session
    browser: str
    system: str
    current: bool
    acting: str  # the name of who acts for them, if somebody does


@page_at("/account/sessions")
async def show_sessions(request: AnyRequest, actor: Given[Actor], page: Given[Paging]) -> Response[str]:
    """The list, newest first."""
    found = await queries.sessions.my_sessions(actor, page)
    devices = [await _device(each, actor) for each in found.items]
    return show("sessions", request, devices=devices, next=found.next)


async def _device(session: Session, actor: Actor) -> Device:
    acting = await queries.people.account_by_id(session.acting) if session.acting else None
    agent = session.user_agent
    return Device(
        session=session,
        browser=rules.agents.browser_of(agent),
        system=rules.agents.system_of(agent),
        current=session.id == actor.session,
        acting=acting.name if acting else session.acting,
    )


@form_at("/account/sessions/{session_id:str}/end", in_person=True)
async def end_session_on_page(request: AnyRequest, session_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """End one of them."""
    await pages.form_of(request, Nothing)
    await sessions.end(await queries.sessions.my_session(session_id, actor))
    return pages.gone_well(HERE, "session_ended")


@form_at("/account/sessions", in_person=True)
async def end_others_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """End all but this one."""
    await pages.form_of(request, Nothing)
    await sessions.end_others(actor)
    return pages.gone_well(HERE, "others_ended")


@page_at("/account/sessions/all", in_person=True)
async def show_end_of_all(request: AnyRequest) -> Response[str]:
    """Ask before this one ends, too."""
    return ask(END_ALL, request, HERE)


@form_at("/account/sessions/all", in_person=True)
async def end_all_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """End all, and this one with them."""
    await pages.form_of(request, Nothing)
    await sessions.end_all(actor.id, actor)
    return Redirect("/", status_code=303, cookies=[session_cookie("")])


routes: list[ControllerRouterHandler] = [
    show_sessions,
    end_session_on_page,
    end_others_on_page,
    show_end_of_all,
    end_all_on_page,
]
