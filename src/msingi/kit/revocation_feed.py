"""Revocations between processes that share no database: one side tells of them, the other asks twice a second.

Who asks knows of each within EVERY seconds and the time of an answer. Without this a token that was revoked elsewhere
is believed until it ends, ten minutes at most.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
import structlog
from litestar import Request, Response
from msgspec import Meta, Struct

from msingi.kit import fetch, revocations, service_tokens, state
from msingi.kit.clock import now
from msingi.kit.errors import Busy, InvalidFields
from msingi.kit.http import get

READING = "revocations:read"
EVERY = 0.5  # seconds between two questions
WITHIN = 2.0  # seconds for an answer
OVERLAP = timedelta(seconds=15)  # what began earlier may be committed later, by as long as a transaction may take
LONGEST_AWAY = timedelta(days=1)  # no revocation is kept as long as this
Time = Annotated[datetime, Meta(tz=True)]
log = structlog.get_logger("revocations")


class Told(Struct, frozen=True):
    """One revocation."""

    id: str
    actor: str
    session: str
    below: int


class Feed(Struct, frozen=True):
    """What was revoked of late, and what to ask `after` next time."""

    items: list[Told]
    next: datetime


@get("/revocations", permission=READING, scope=READING, limit="off", include_in_schema=False)
async def list_revocations(request: Request[Any, Any, Any]) -> Response[bytes]:
    """For processes of the house with databases of their own: what was revoked since `after`, else all that matters."""
    at, after = now(), _time_in(request.query_params.get("after", ""))
    rows = await revocations.since(max(after, at - LONGEST_AWAY) - OVERLAP if after else None)
    items = [Told(row.id, row.actor, row.session, row.below) for row in rows]
    return Response(msgspec.json.encode(Feed(items, at)), media_type="application/json")


def _time_in(text: str) -> datetime | None:
    try:
        return msgspec.convert(text, Time, strict=False) if text else None
    except msgspec.ValidationError as fault:
        raise InvalidFields(errors=[{"pointer": "/after", "in": "query", "message": str(fault)}]) from None


routes = [list_revocations]


# ---- the other side


class _Followed:
    """How far this process has read, and what it learned in the last while."""

    def __init__(self) -> None:
        self.after: datetime | None = None
        self.learned: set[str] = set()


async def ask() -> None:
    """Learn what was revoked elsewhere by now. Raises Busy (503) while nobody says."""
    followed = state.part(_Followed)
    feed = await _feed(followed.after)
    for each in feed.items:
        if each.id not in followed.learned:
            await revocations.learn(each.id, each.actor, each.session, each.below)
    followed.after, followed.learned = feed.next, {each.id for each in feed.items}
    revocations.heard_elsewhere()


async def _feed(after: datetime | None) -> Feed:
    query = f"?{urlencode({'after': after.isoformat()})}" if after else ""
    try:
        headers = await service_tokens.authorization()
        reply = await fetch.get(state.settings().revocations_url + query, headers=headers, within=WITHIN, tries=1)
        if reply.status == 200:
            return msgspec.json.decode(reply.body, type=Feed)
        if reply.status == 401:
            service_tokens.forget()
        log.warning("revocations_refused", status=reply.status)
    except (fetch.Unreachable, fetch.ReplyTooLarge, msgspec.MsgspecError) as fault:
        log.warning("revocations_not_to_be_had", error=type(fault).__name__)
    raise Busy(retry_after=2)


async def run_watch() -> None:
    """Ask for as long as the process lives."""
    while True:
        try:
            await ask()
        except Busy:
            await asyncio.sleep(EVERY)  # twice as long, while there is trouble
        await asyncio.sleep(EVERY)


revocations.ask_elsewhere_with(ask)
