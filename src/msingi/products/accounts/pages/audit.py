"""The audit log, for those who may read all of it; and whether anything in it was changed."""

from datetime import UTC, datetime, time, timedelta
from typing import Annotated

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from msingi.kit import audit_chain, pages
from msingi.kit.db import Paging, Where
from msingi.kit.errors import InvalidFields, Problem
from msingi.kit.http import Given, page_at
from msingi.kit.reading import read_texts
from msingi.products.accounts import queries
from msingi.products.accounts.pages.entries import KINDS, lines_of
from msingi.products.accounts.pages.shell import AnyRequest, show

READ = "audit:read"
DAY = timedelta(days=1)
Text = Annotated[str, Meta(max_length=320)]


class Asked(Struct):
    """What the form above the list asks for. People are named by their address or their id."""

    kind: Text = ""
    actor: Text = ""
    about: Text = ""
    outcome: Text = ""
    since: Text = ""
    until: Text = ""


@page_at("/admin/audit", permission=READ)
async def show_audit(request: AnyRequest, page: Given[Paging]) -> Response[str]:
    """What happened, newest first."""
    given = {name: value for name, value in request.query_params.items() if name in Asked.__struct_fields__}
    try:
        asked = read_texts(Asked, given, "query")
        where = await _where(asked)
    except Problem as problem:
        return show("audit", request, pages.to_show(problem), asked=given, kinds=KINDS, lines=[], next=None)
    found = await queries.audit.entries(where, page)
    lines = await lines_of(found.items)
    return show("audit", request, asked=given, kinds=KINDS, lines=lines, next=found.next)


async def _where(asked: Asked) -> Where:
    """The filter: of two days both count whole, in UTC."""
    wanted: list[Where] = [{name: value} for name in ("kind", "outcome") if (value := getattr(asked, name).strip())]
    for name in ("actor", "about"):
        if value := getattr(asked, name).strip():
            wanted.append({name: await _id_of(value)})
    if asked.since:
        wanted.append({"created_at": {"$gte": _day(asked.since, "since")}})
    if asked.until:
        wanted.append({"created_at": {"$lt": _day(asked.until, "until") + DAY}})
    return {"$and": wanted} if wanted else {}


async def _id_of(text: str) -> str:
    account = await queries.people.account_by_email(text.lower()) if "@" in text else None
    return account.id if account else text


def _day(text: str, field: str) -> datetime:
    try:
        day = datetime.fromisoformat(text).date()
        return datetime.combine(day, time(), UTC) if day.year > 1 else datetime.min.replace(tzinfo=UTC)
    except ValueError:
        error = {"pointer": f"/{field}", "in": "query", "message": "this is no day"}
        raise InvalidFields(errors=[error]) from None


@page_at("/admin/audit/chain", permission=READ, limit="10/minute")
async def show_chain(request: AnyRequest) -> Response[str]:
    """Walk the whole chain, and say whether it is as it was written."""
    return show("chain", request, verdict=await audit_chain.verify())


routes: list[ControllerRouterHandler] = [show_audit, show_chain]
