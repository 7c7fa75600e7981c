"""What is no longer to be believed although it is signed: known to every process within moments.

A revocation is a row, written in the transaction that ends the session or changes the account. Each process follows
the collection by a change stream and answers from memory, for 0.1 µs a request. A row outlives every token that it
concerns, so a process that starts, or that lost its database for a while, reads what there is and knows all.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from time import monotonic
from typing import Any

import pymongo
import structlog

from msingi.kit import state, unit
from msingi.kit.actors import Actor
from msingi.kit.clock import now, seconds
from msingi.kit.db import Collection, Doc, Index, Row
from msingi.kit.followed import follow
from msingi.kit.ids import new_id

KEPT = 20 * 60  # seconds: twice the life of a token
BEAT = 2.0  # seconds of silence after which a process makes the stream say something
STALE = 5.0  # seconds of silence after which nobody can be sure
HEARTBEAT = "heartbeat"
log = structlog.get_logger("revocations")


class Revocation(Doc):
    """Tokens of a session, or all tokens of an actor that carry an older token version."""

    actor: str
    session: str = ""
    below: int = 0


revocations = Collection(Revocation, "revocations", indexes=[Index("created_at", expires_after=KEPT)])
revocations.product = "kit"


def stores() -> list[Collection[Any]]:
    """The collections that this module needs, in the kit's own database."""
    return [revocations]


# ---- revoking


async def revoke(*, actor: str, session: str = "", below: int = 0) -> None:
    """End what was signed for a session, or for an actor with a token version `below` this; inside an @atomic action.

    Every process knows within a second of the commit, this one at once. Raises ValueError if neither is given.
    """
    if not session and not below:
        raise ValueError("say which session, or below which token version")
    row = await revocations.add(Revocation(actor=actor, session=session, below=below))
    unit.after_commit(lambda: learn(row.id, row.actor, row.session, row.below))


OnRevoked = Callable[[str, str], Awaitable[None]]
_listeners: list[OnRevoked] = []


def on_revoked(act: OnRevoked) -> OnRevoked:
    """Register what is done in every process with each revocation: it gets the actor's id and the session's.

    The session is empty if all of the actor's older tokens ended. It may be told twice of the same.
    """
    if act not in _listeners:
        _listeners.append(act)
    return act


# ---- asking


class _Revoked:
    """What this process knows: each with the time in seconds after which it no longer matters."""

    def __init__(self) -> None:
        self.sessions: dict[str, float] = {}
        self.versions: dict[str, tuple[int, float]] = {}
        self.heard_at = self.elsewhere_at = -STALE
        self.swept_at = monotonic()
        self.floor = ""

    def start_over(self) -> None:
        """Forget everything, also what is still to be heard of: for tests, which plant the same people again."""
        self.floor = new_id()
        self.sessions.clear()
        self.versions.clear()


def is_revoked(actor: Actor) -> bool:
    """Whether what was shown for this actor has been revoked."""
    known = state.part(_Revoked)
    if actor.session in known.sessions:
        return True
    version = known.versions.get(actor.id)
    return version is not None and actor.version < version[0]


async def is_revoked_now(actor: Actor) -> bool:
    """The same, read from the database: for what matters most while the stream is silent.

    Raises PyMongoError, and Busy where others tell of revocations and do not answer.
    """
    if state.settings().revocations_url:
        await _elsewhere[0]()
        if is_revoked(actor):
            return True
    versions = {"actor": actor.id, "session": "", "below": {"$gt": actor.version}}
    return await revocations.exists({"$or": [{"session": actor.session, "actor": actor.id}, versions]})


def fresh() -> bool:
    """Whether whoever tells was heard within the last STALE seconds. If not, an answer may be late by as much."""
    known = state.part(_Revoked)
    heard_at = min(known.heard_at, known.elsewhere_at) if state.settings().revocations_url else known.heard_at
    return monotonic() - heard_at < STALE


# ---- what others tell of, who have a database of their own (kit.revocation_feed)


_elsewhere: list[Callable[[], Awaitable[None]]] = []


def ask_elsewhere_with(ask: Callable[[], Awaitable[None]]) -> None:
    """Register how to learn by now what was revoked elsewhere."""
    _elsewhere[:] = [ask]


def heard_elsewhere() -> None:
    """Note that they told all that there was to tell."""
    state.part(_Revoked).elsewhere_at = monotonic()


async def since(at: datetime | None) -> list[Revocation]:
    """What was revoked from a time on, or all that still matters."""
    known = {"_id": {"$ne": HEARTBEAT}}
    return await revocations.many({**known, "created_at": {"$gte": at}} if at else known, limit=0)


# ---- following


async def run_watch() -> None:
    """Follow the revocations for as long as the process lives, whatever becomes of the database meanwhile."""
    kinds = {"$match": {"operationType": {"$in": ["insert", "update"]}}}
    await follow(
        "revocations",
        lambda: revocations.raw.watch([kinds], max_await_time_ms=500, batch_size=500),
        _learn_all,
        _hear,
    )


async def _learn_all() -> None:
    async for row in revocations.raw.find({"_id": {"$ne": HEARTBEAT}}):
        await _learn_row(row)
    state.part(_Revoked).heard_at = monotonic()
    log.info("revocations_followed", sessions=len(state.part(_Revoked).sessions))


async def _hear(change: Row | None) -> None:
    known = state.part(_Revoked)
    if change is not None:
        known.heard_at = monotonic()
        if "fullDocument" in change and change["documentKey"]["_id"] != HEARTBEAT:
            await _learn_row(change["fullDocument"])
    elif monotonic() - known.heard_at > BEAT:
        await _beat()
    if monotonic() - known.swept_at > 60:
        known.swept_at = monotonic()
        _forget_old(known)


async def _beat() -> None:
    """Make the stream of every process say something: whoever is first saves the others the trouble."""
    silent = {"actor": "", "session": "", "below": 0, "version": 1, "updated_at": now()}
    with pymongo.timeout(BEAT):
        await revocations.raw.update_one(
            {"_id": HEARTBEAT}, {"$set": {"created_at": now()}, "$setOnInsert": silent}, upsert=True
        )


async def _learn_row(row: Row) -> None:
    await learn(row["_id"], row["actor"], row["session"], row["below"])


async def learn(id: str, actor: str, session: str, below: int) -> None:
    """Know of a revocation in this process."""
    known = state.part(_Revoked)
    if id < known.floor:
        return
    until = seconds() + KEPT
    if session:
        known.sessions[session] = until
    if below:
        before = known.versions.get(actor, (0, 0.0))[0]
        known.versions[actor] = (max(before, below), until)
    for act in _listeners:
        try:
            await act(actor, session)
        except Exception:  # a listener's trouble must not keep the others from knowing
            log.warning("revocation_listener_failed", exc_info=True)


def _forget_old(known: _Revoked) -> None:
    at = seconds()
    for session in [each for each, until in known.sessions.items() if until < at]:
        del known.sessions[session]
    for actor in [each for each, (_, until) in known.versions.items() if until < at]:
        del known.versions[actor]
