"""What happened to people's access, and by whom: each sign-in, each refusal, each act of somebody with power (L1).

An entry is written with what it tells of and bears a mark that only the house's key makes; the worker links it to the
one before it within a second (kit.audit_chain). What is refused on the way in is counted beside the requests and
written twice a second, so that who knocks without end fills no disk.
"""

import asyncio
import re
from collections.abc import Mapping
from hashlib import sha256
from hmac import digest
from typing import Any, Literal

import msgspec
import structlog
from msgspec import Struct, field
from pymongo.errors import PyMongoError

from msingi.kit import csrf, limits, observe, sealing, state, unit
from msingi.kit.actors import Actor
from msingi.kit.clock import now
from msingi.kit.db import Collection, Doc, Index
from msingi.kit.errors import Forbidden, Problem, SignInFirst
from msingi.kit.observe import request_id

Outcome = Literal["done", "refused"]
LONGEST = 200  # characters of one text among the facts
FLUSHED = 0.5  # seconds between two writings of what was refused
AT_MOST = 20  # kinds of refusal that are told apart in this time; the rest is one entry with a count
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_PERSONAL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+|\+\d{8,15}\b|\b\d{1,3}(?:\.\d{1,3}){3}\b")
log = structlog.get_logger("audit")


class Entry(Doc, kw_only=True):
    """One thing that happened: what kind (`accounts.signed_in`), by whom, and to what or whom."""

    kind: str
    outcome: Outcome = "done"
    actor: str = ""
    acting: str = ""  # who acted in the actor's name, if somebody did
    session: str = ""
    about: str = ""
    request: str = ""
    address: str = (
        ""  # where it came from, as a keyed hash: whether two came from one place can be told, not from which
    )
    facts: dict[str, Any] = field(default_factory=dict)
    mark: bytes = b""  # the house's own, over all the above
    seq: int = 0  # its place in the chain; 0 until it has one, -1 if the house did not write it
    link: bytes = b""  # the chain's, over its mark and the link before


UNCHAINED = Index("seq _id", where={"seq": {"$lte": 0}})
CHAINED = Index("seq", unique=True, where={"seq": {"$gt": 0}})
entries = Collection(
    Entry, "audit", indexes=["actor -_id", "about -_id", "kind -_id", "-created_at -_id", UNCHAINED, CHAINED]
)
entries.product = "kit"


class Point(Doc, kw_only=True):
    """How far the chain was at some time: `head` is now, `floor` where it begins, `2026-11-21` the end of a day."""

    seq: int
    link: bytes
    mark: bytes


points = Collection(Point, "audit_points")
points.product = "kit"


def stores() -> list[Collection[Any]]:
    """The collections that this module needs, in the kit's own database."""
    return [entries, points]


async def note(
    kind: str, *, actor: Actor | str | None, about: str = "", outcome: Outcome = "done", **facts: Any
) -> Entry:
    """Write it down: in an @atomic action together with what happened, outside of one by itself.

    `about` is the id of who or what it happened to. `facts` are what JSON can say, with no secret and no address of
    anybody's in it (one that slips in is kept as a keyed hash). A @guarded action has room for one write only: make it
    @atomic.
    """
    who = actor if isinstance(actor, Actor) else Actor(id=actor or "")
    scope = observe.asking.get()
    entry = Entry(
        kind=kind,
        outcome=outcome,
        actor=who.id,
        acting=who.acting,
        session=who.session,
        about=about,
        request=request_id.get(),
        address=_address_of(scope) if scope else "",
        facts={name: _fact(value) for name, value in facts.items()},
    )
    entry.mark = mark_of(entry)
    if unit.current.get() is None:
        async with unit.alone():
            return await entries.add(entry)
    return await entries.add(entry)


def mark_of(entry: Entry) -> bytes:
    """The house's mark on what an entry says: whoever has the database but not the key cannot make it."""
    said = [
        *(entry.id, entry.created_at, entry.kind, entry.outcome, entry.actor, entry.acting, entry.session),
        *(entry.about, entry.request, entry.address, entry.facts),
    ]
    return digest(sealing.key_for("kit.audit").raw, msgspec.json.encode(said, order="sorted"), sha256)


def _fact(value: Any) -> Any:
    """What JSON can say of it: no line breaks, no address of anybody's."""
    plain = msgspec.to_builtins(value, enc_hook=str)
    if isinstance(plain, str):
        tidy = _CONTROL.sub(" ", plain)[:LONGEST]
        return _PERSONAL.sub(lambda found: f"hash:{sealing.blind('audit.fact', found[0].lower())}", tidy)
    if isinstance(plain, Mapping):
        return {str(name): _fact(each) for name, each in plain.items()}
    return [_fact(each) for each in plain] if isinstance(plain, list | tuple) else plain


def _address_of(scope: Any) -> str:
    return sealing.blind("audit.address", limits.client_of(scope))


# ---- what was refused on the way in


class _Refusal(Struct):
    """Something refused, and how often since it was last written down."""

    actor: str
    acting: str
    session: str
    address: str
    request: str
    facts: dict[str, Any]
    count: int = 1


class Refusals:
    """What this process refused since it last wrote it down."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, ...], _Refusal] = {}
        self.rest = 0
        self.writing = asyncio.Lock()

    def start_over(self) -> None:
        """Forget: for tests, which empty the collections."""
        self.kinds.clear()
        self.rest = 0

    async def flush(self) -> None:
        """Write it down, also what another flush is just writing. Raises PyMongoError, and then it is still known."""
        async with self.writing:
            await self._write()

    async def _write(self) -> None:
        kinds, rest = self.kinds, self.rest
        if not kinds:
            return
        self.kinds, self.rest = {}, 0
        found = [_entry_of(each) for each in kinds.values()]
        if rest:
            found.append(_entry_of(_Refusal("", "", "", "", "", {"rest": True}, rest)))
        try:
            async with unit.alone():
                await entries.add_many(found)
        except PyMongoError:
            self.rest += rest
            for key, each in kinds.items():
                self.count(key, each)
            raise

    def count(self, key: tuple[str, ...], refusal: _Refusal) -> None:
        """One more of its kind, or several."""
        if key in self.kinds:
            self.kinds[key].count += refusal.count
        elif len(self.kinds) >= AT_MOST:
            self.rest += refusal.count
        else:
            self.kinds[key] = refusal

    async def aclose(self) -> None:
        """The process ends: write what it still knows."""
        try:
            await self.flush()
        except PyMongoError:
            log.warning("refusals_lost", kinds=len(self.kinds))


def refused(scope: Any, problem: Problem) -> None:
    """Count a refusal that is worth knowing of: a 403, or a 401 to who showed something that is good for nothing."""
    if isinstance(problem, SignInFirst):
        if problem.code not in ("sign_in_first", "insufficient_user_authentication") or not _shows_something(scope):
            return
    elif not isinstance(problem, Forbidden):
        return
    actor = scope.get("user")
    route = scope["state"].get("route") or scope.get("path_template") or ""
    _count(scope, actor if isinstance(actor, Actor) else None, scope.get("method", ""), route, problem)


def refused_on_socket(scope: Any, actor: Actor | None, event: str, problem: Problem) -> None:
    """The same over Socket.IO: a greeting with a bad token, or an event that this actor may not send."""
    if isinstance(problem, Forbidden | SignInFirst):
        _count(scope, actor, "SOCKET", event, problem)


def _count(scope: Any, actor: Actor | None, method: str, route: str, problem: Problem) -> None:
    who, address = actor or Actor(id=""), _address_of(scope)
    facts = {"method": method, "route": route, "code": problem.code}
    request = (scope.get("state") or {}).get("request_id", "")
    refusal = _Refusal(who.id, who.acting, who.session, address, request, facts)
    state.part(Refusals).count((who.id, who.acting, address, *facts.values()), refusal)


async def run_refusals() -> None:
    """Write down what is refused, as long as the process lives."""
    while True:
        await asyncio.sleep(FLUSHED)
        await state.part(Refusals).flush()


def _shows_something(scope: Any) -> bool:
    headers = dict(scope["headers"])
    return b"authorization" in headers or csrf.session_cookie(headers.get(b"cookie", b"").decode("latin-1")) is not None


def _entry_of(refusal: _Refusal) -> Entry:
    facts = refusal.facts | ({"count": refusal.count} if refusal.count > 1 else {})
    entry = Entry(
        kind="access.refused",
        outcome="refused",
        actor=refusal.actor,
        acting=refusal.acting,
        session=refusal.session,
        request=refusal.request,
        address=refusal.address,
        facts=facts,
        created_at=now(),
    )
    entry.mark = mark_of(entry)
    return entry
