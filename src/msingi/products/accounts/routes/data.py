"""One's own data: taken away, and erased; and the log of what happened to it."""

from datetime import datetime

from litestar.response import Stream

from msingi.kit.audit import Entry
from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.http import Filters, Given, Path, Query, delete, get, post
from msingi.kit.replies import KitResponse
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import erasing, exports
from msingi.products.accounts.models.exports import Export
from msingi.products.accounts.routes.sessions import session_cookie
from msingi.products.accounts.schemas.audit import EntryView
from msingi.products.accounts.schemas.exports import ExportView

ENTRIES = Filters(kind=str, actor=str, about=str, outcome=str, created_at=datetime)
MINE = Filters(kind=str, outcome=str, created_at=datetime)


# ---- taking it away


def _export(export: Export) -> ExportView:
    view: ExportView = ExportView.of(export)
    return view


@post("/me/export", status_code=202, limit="10/hour", step_up=True)
async def ask_for_export(actor: Given[Actor]) -> KitResponse[ExportView]:
    """Ask for all that the house has of one; a letter says when it is ready."""
    export = await exports.ask(actor)
    return KitResponse(_export(export), status_code=202, headers={"Location": f"/v1/accounts/me/exports/{export.id}"})


@get("/me/exports", in_person=True)
async def list_exports(actor: Given[Actor], page: Given[Paging]) -> Page[ExportView]:
    """What one asked for in the last seven days, newest first."""
    return (await queries.exports.my_exports(actor, page)).map(_export)


@get("/me/exports/{export_id:str}", in_person=True, problems=[rules.exports.ExportNotReady])
async def fetch_export(export_id: Path[str], actor: Given[Actor]) -> Stream:
    """A zip: for each product a JSON file."""
    found = await queries.exports.my_export(export_id, actor)
    name = f"export-{found.created_at:%Y-%m-%d}.zip"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(found.size),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Stream(queries.exports.content(found), media_type="application/zip", headers=headers)


# ---- erasing


@delete("/me", status_code=204, step_up=True, problems=[rules.people.LastAdmin, rules.organisations.LastOwner])
async def erase_me(actor: Given[Actor]) -> KitResponse[None]:
    """Erase one's own account and all that is one's own, for good."""
    await erasing.erase(actor.id, actor)
    return KitResponse(None, status_code=204, cookies=[session_cookie("")])


@delete(
    "/users/{user_id:str}",
    status_code=204,
    permission="users:manage",
    step_up=True,
    problems=[rules.people.LastAdmin, rules.organisations.LastOwner, rules.roles.AboveYou],
)
async def erase_user(user_id: Path[str], actor: Given[Actor], pass_on: Query[bool] = False) -> None:
    """Erase somebody, for good. `pass_on=true`: organisations that only they own get another owner."""
    await erasing.erase(user_id, actor, pass_on=pass_on)


# ---- what happened


def _entry(entry: Entry) -> EntryView:
    view: EntryView = EntryView.of(entry)
    return view


@get("/audit", permission="audit:read", filters=ENTRIES)
async def list_audit(page: Given[Paging], where: Given[Where]) -> Page[EntryView]:
    """What happened to people's access, newest first."""
    return (await queries.audit.entries(where, page)).map(_entry)


@get("/me/audit", filters=MINE)
async def list_my_audit(actor: Given[Actor], page: Given[Paging], where: Given[Where]) -> Page[EntryView]:
    """What happened to one's own account, newest first: what one did oneself, and what others did to it."""
    return (await queries.audit.my_entries(actor, where, page)).map(_entry)


routes = [ask_for_export, list_exports, fetch_export, erase_me, erase_user, list_audit, list_my_audit]
