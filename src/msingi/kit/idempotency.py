"""The same request twice, one effect: a POST with an `Idempotency-Key` is done once, answered the same each time (P1).

A row in the product's database is claimed before the handler runs and holds the reply afterwards. Each outermost
action of the request writes what it returned into the row, in its own transaction; so when the process is killed
between two actions, or before it could reply, the next try with the same key is handed what is done already and goes
on from there (C2). It must come by the same actions in the same order: a handler decides by what its actions return.

Scope: the actor and the program or person that comes for them (or the address of an anonymous caller), the method, the
path and the key. Times are MongoDB's own.
What replies and steps hold is kept, sealed, for KEPT seconds: a route that answers with secrets says
`idempotency="off"`.
"""

import typing
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, Literal

import bson
import msgspec
import structlog
from bson.codec_options import CodecOptions
from litestar.types import ASGIApp, HTTPRequestEvent, Message, Receive, Scope, Send
from msgspec import Struct, field
from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError, ExecutionTimeout, PyMongoError

from msingi.kit import sealing, state, unit
from msingi.kit.clock import now
from msingi.kit.db import SEALED, Collection, Doc, Index, plain
from msingi.kit.errors import Conflict, Invalid, Malformed, TooLarge
from msingi.kit.ids import new_id
from msingi.kit.layer import Layer
from msingi.kit.limits import client_of

LEASE = 60.0  # seconds that a process may work on a request before another try takes over
KEPT = 48 * 3600.0  # seconds that a reply is kept
CLAIM_MS = 1000  # milliseconds to wait for the row
LARGEST_REPLY = 4_000_000  # bytes; a larger one is made again from what its actions returned
KEPT_HEADERS = frozenset({b"content-type", b"content-encoding", b"location", b"etag"})
STORE = "idempotency.steps"
TZ_AWARE: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)
log = structlog.get_logger("idempotency")
Row = dict[str, Any]


class IdempotencyKeyMissing(Malformed):
    """This must not happen twice: send an `Idempotency-Key` header, a new one for each new request."""


class BadIdempotencyKey(Malformed):
    """An Idempotency-Key is 1 to 255 printable ASCII characters."""


class IdempotencyKeyReused(Invalid):
    """This Idempotency-Key belongs to another request; take a new one for this."""


class StillWorking(Conflict):
    """The first request with this Idempotency-Key is still being worked on; try again in {retry_after} seconds."""

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"}, retry_after=1)


class Reply(Struct):
    """A reply as it went out, without the headers that differ each time."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Try(Doc):
    """One key in one scope. While `state` is open, whoever has the lease works on it."""

    print: str  # of the request, so that another one under the same key shows
    state: Literal["open", "done"]
    lease: str
    lease_until: datetime
    kept_until: datetime
    steps: dict[str, Any] = field(default_factory=dict)
    reply: Annotated[Reply, SEALED] | None = None


@cache
def stores(product: str) -> list[Collection[Any]]:
    """The collection that a product keeps for this."""
    return [tries(product)]


@cache
def tries(product: str) -> Collection[Try]:
    """The tries of a product."""
    collection = Collection(Try, "idempotency", indexes=[Index("kept_until", expires_after=0)])
    collection.product = product
    return collection


class Idempotency(Layer):
    """Gives a POST with an Idempotency-Key its one effect and its one reply. Stands behind the gate and the limits.

    Routes say `idempotency="required"` or `"off"`. Raises IdempotencyKeyMissing, BadIdempotencyKey (400),
    StillWorking (409), IdempotencyKeyReused (422), TooLarge (413).
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        opt = scope["route_handler"].opt
        if opt.get("idempotency") == "required" and "product" not in opt:
            raise RuntimeError(f"{scope['path']} wants an Idempotency-Key, but no product keeps it")
        key = _key_of(scope, opt) if "product" in opt else None
        if key is None:
            await next_app(scope, receive, send)
            return
        body = await _read(receive, opt.get("max_body") or state.settings().max_body)
        if body is None:
            return
        work = await _claim(tries(opt["product"]), _id_of(scope, key), _print_of(scope, body))
        if work.found.reply is not None:
            await _send(send, work.found.reply, [(b"idempotent-replayed", b"true")])
            return
        await _run(work, next_app, scope, _again(body, receive), send)


def _key_of(scope: Scope, opt: dict[str, Any]) -> str | None:
    """The key, if there is one and the route takes one."""
    if scope.get("method") != "POST" or opt.get("idempotency") == "off":
        return None
    keys = [value for name, value in scope["headers"] if name == b"idempotency-key"]
    if not keys:
        if opt.get("idempotency") == "required":
            raise IdempotencyKeyMissing
        return None
    key = keys[0]
    if len(keys) > 1 or not 1 <= len(key) <= 255 or not all(0x20 <= each < 0x7F for each in key):
        raise BadIdempotencyKey
    return key.decode()


async def _read(receive: Receive, most: int) -> bytes | None:
    """The whole body, or None if the caller left. Raises TooLarge."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")  # type: ignore[arg-type]
        if len(body) > most:
            raise TooLarge(limit=most)
        if not message.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, and then whatever comes."""
    read = False

    async def receive_again() -> Any:
        nonlocal read
        if read:
            return await receive()
        read = True
        return HTTPRequestEvent(type="http.request", body=body, more_body=False)

    return receive_again


def _id_of(scope: Scope, key: str) -> str:
    actor: Any = scope.get("user")
    who = f"actor {actor.id} {actor.client} {actor.acting}" if actor is not None else client_of(scope)
    if shown := scope["state"].get("shown"):  # somebody without an account, beside others at the same address
        who += f" {shown.decode('latin-1')}"
    return _hash(who, scope["method"], scope["path"], key)  # type: ignore[typeddict-item]


def _print_of(scope: Scope, body: bytes) -> str:
    return _hash(scope["method"], scope["path"], scope["query_string"], body)  # type: ignore[typeddict-item]


def _hash(*parts: str | bytes) -> str:
    """One hash of several parts, none of which can pass for a piece of its neighbour."""
    return sha256(msgspec.msgpack.encode(parts)).hexdigest()


# ---- the work on one key


class Work:
    """What this process does under a key: the journal of its actions (see unit.Journal)."""

    def __init__(self, store: Collection[Try], found: Try) -> None:
        self.store, self.found = store, found
        self.mine: Row = {"_id": found.id, "lease": found.lease, "state": "open"}
        self.steps = 0

    def next_step(self) -> int:
        self.steps += 1
        return self.steps

    def recall(self, step: int, act: Callable[..., Any]) -> tuple[bool, Any]:
        """What an earlier try's action returned at this step, if one came so far."""
        note = self.found.steps.get(str(step))
        if note is None:
            return False, None
        if note["act"] != _name_of(act):
            raise RuntimeError(f"a retry came to {_name_of(act)} where the first try did {note['act']}")
        log.info("step_recalled", act=note["act"], step=step)
        opened = bson.decode(sealing.open_field(note["result"], self._place(step), STORE), TZ_AWARE)
        return True, msgspec.convert(opened["it"], _kind_of(act))

    async def keep(self, session: AsyncClientSession, step: int, act: Callable[..., Any], result: Any) -> None:
        """Note the result in the action's own transaction. Raises StillWorking, and undoes it, if the lease is lost."""
        note = {"act": _name_of(act), "result": self.sealed(step, result)}
        done = await self.store.raw.update_one(self.mine, {"$set": {f"steps.{step}": note}}, session=session)
        if not done.matched_count:
            raise StillWorking

    async def settle(self, reply: Reply) -> None:
        """Keep the reply, or let the next try go on: a refusal that changed nothing leaves no trace."""
        if reply.status >= 500 or len(reply.body) > LARGEST_REPLY:
            await self.release()
        elif reply.status >= 400:
            gone = await self.store.raw.delete_one({**self.mine, "steps": {}})
            if not gone.deleted_count:
                await self.release()
        else:
            sealed = self.store.seal(self.found.id, "reply", plain(reply))
            await self.store.raw.update_one(self.mine, {"$set": {"state": "done", "reply": sealed}})

    def sealed(self, step: int, result: Any) -> bytes:
        """A step's result as it is kept."""
        return sealing.seal_field(bson.encode({"it": plain(result)}), self._place(step), STORE)

    def _place(self, step: int) -> str:
        return f"{self.store.product}/{self.found.id}/{step}"

    async def release(self) -> None:
        """Give the lease back before its time."""
        await self.store.raw.update_one(self.mine, [{"$set": {"lease_until": "$$NOW"}}])


@cache
def _name_of(act: Callable[..., Any]) -> str:
    return f"{act.__module__}.{act.__qualname__}"


@cache
def _kind_of(act: Callable[..., Any]) -> Any:
    return typing.get_type_hints(act, include_extras=True).get("return", Any)


async def _claim(store: Collection[Try], id: str, print: str) -> Work:
    """The lease on a key, or the reply that is kept under it. Raises IdempotencyKeyReused, StillWorking."""
    lease = new_id()
    found = await _claimed(store, id, print, lease)
    if found.print != print:
        raise IdempotencyKeyReused
    if found.state == "open" and found.lease != lease:
        raise StillWorking
    return Work(store, found)


async def _claimed(store: Collection[Try], id: str, print: str, lease: str) -> Try:
    """The row as it is now: new, taken over, or as somebody else has it. One step, so that only one can win."""
    for chance in range(5):
        try:
            row = await store.raw.find_one_and_update(
                {"_id": id},
                _claiming(id, print, lease),
                upsert=True,
                return_document=ReturnDocument.AFTER,
                maxTimeMS=CLAIM_MS,
            )
        except ExecutionTimeout:
            # A transaction holds the row: of somebody at work, or of a process that was killed before it could commit.
            # MongoDB ends the latter after transactionLifetimeLimitSeconds (60 if nobody set it lower).
            raise StillWorking from None
        except DuplicateKeyError:  # somebody inserted it between our look and our insert
            if chance == 4:
                raise
        else:
            return store.load(row or {})
    raise AssertionError


def _claiming(id: str, print: str, lease: str) -> list[Row]:
    """Begin anew where nothing is, or only what is past its time; take over what was left; else change nothing."""
    until: Row = {"lease_until": _in(LEASE)}
    at = now()
    blank = Try(id=id, print=print, state="open", lease=lease, lease_until=at, kept_until=at)
    new: Row = {"$mergeObjects": [{"$literal": plain(blank)}, until, {"kept_until": _in(KEPT)}]}
    over: Row = {"$lte": ["$kept_until", "$$NOW"]}  # also where there is none: missing comes before any date
    left: Row = {"$and": [_same("print", print), _same("state", "open"), {"$lte": ["$lease_until", "$$NOW"]}]}
    mine: Row = {"$mergeObjects": ["$$ROOT", until, {"lease": lease}]}
    branches = [{"case": over, "then": new}, {"case": left, "then": mine}]
    return [{"$replaceWith": {"$switch": {"branches": branches, "default": "$$ROOT"}}}]


def _same(name: str, value: str) -> Row:
    return {"$eq": [f"${name}", {"$literal": value}]}


def _in(seconds: float) -> Row:
    return {"$add": ["$$NOW", int(seconds * 1000)]}


async def _run(work: Work, next_app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the handler work with a journal, and settle before its reply goes out."""
    start: Any = None
    body = bytearray()

    async def hold_back(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        if message["type"] == "http.response.body" and start is not None:
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            headers = start.get("headers", ())
            kept = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if _is_kept(name)]
            await _quietly(lambda: work.settle(Reply(start["status"], kept, bytes(body))))
            await send(start)
            await send({"type": "http.response.body", "body": bytes(body), "more_body": False})
            return
        await send(message)

    token = unit.journal.set(work)
    try:
        await next_app(scope, receive, hold_back)
    except BaseException:
        await _quietly(work.release)
        raise
    finally:
        unit.journal.reset(token)


def _is_kept(name: bytes) -> bool:
    return name.lower() in KEPT_HEADERS


async def _quietly(act: Callable[[], Awaitable[None]]) -> None:
    """The work is done and its steps are noted: if the row cannot be settled now, the next try will do it."""
    try:
        await act()
    except PyMongoError:
        log.warning("try_not_settled", exc_info=True)


async def _send(send: Send, reply: Reply, more: list[tuple[bytes, bytes]]) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    length = (b"content-length", str(len(reply.body)).encode())
    start: Any = {"type": "http.response.start", "status": reply.status, "headers": [*headers, length, *more]}
    await send(start)
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})
