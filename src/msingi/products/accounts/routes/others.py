"""Somebody's ways in, for those who look after others."""

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging
from msingi.kit.errors import Stale
from msingi.kit.http import Given, Path, delete, get, post
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import others
from msingi.products.accounts.routes.sessions import shown
from msingi.products.accounts.schemas.sessions import SessionView


@get("/users/{user_id:str}/sessions", permission="users:manage")
async def list_sessions_of_user(user_id: Path[str], actor: Given[Actor], page: Given[Paging]) -> Page[SessionView]:
    """Where somebody is signed in, newest first."""
    found = await queries.sessions.sessions_page(await queries.people.user(user_id), page)
    return found.map(lambda session: shown(session, actor))


@delete(
    "/users/{user_id:str}/sessions",
    permission="users:manage",
    step_up=True,
    problems=[rules.roles.AboveYou, Stale],
)
async def end_sessions_of_user(user_id: Path[str], actor: Given[Actor]) -> None:
    """Sign somebody out everywhere."""
    await others.end_sessions(user_id, actor)


@delete(
    "/users/{user_id:str}/sessions/{ended_id:str}",
    permission="users:manage",
    step_up=True,
    problems=[rules.roles.AboveYou],
)
async def end_session_of_user(user_id: Path[str], ended_id: Path[str], actor: Given[Actor]) -> None:
    """End one of somebody's sessions."""
    await others.end_session(user_id, ended_id, actor)


@post(
    "/users/{user_id:str}/password-reset",
    permission="users:manage",
    step_up=True,
    status_code=204,
    problems=[rules.people.AccountDisabled],
)
async def send_reset_letter(user_id: Path[str], actor: Given[Actor]) -> None:
    """Send somebody a letter with a link to set a new password."""
    await others.send_reset_letter(user_id, actor)


routes = [list_sessions_of_user, end_sessions_of_user, end_session_of_user, send_reset_letter]
