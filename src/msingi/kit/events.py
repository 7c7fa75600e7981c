"""Events: facts that a product tells, written with what they are about, and the reactions of those who hear them.

`emit` writes an event into its product's `outbox` in the transaction under way; in a single guarded write it rides in
the document itself. kit.relay carries it on, kit.hearing brings it to the reactions. A reaction's effect and the
receipt in its product's `inbox` are one transaction, so an event that arrives twice has its effect once.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
import structlog
from msgspec import Struct
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from msingi.kit import state, unit
from msingi.kit.clock import now
from msingi.kit.db import CARRIED, TOLD, Collection, Doc, Index, Row, holding, plain
from msingi.kit.errors import AlreadyExists
from msingi.kit.ids import new_id

log = structlog.get_logger("events")

OUTBOX_KEPT = 7 * 24 * 3600  # seconds that a told event can be carried again
INBOX_KEPT = 14 * 24 * 3600  # seconds that a double is known: longer than the outbox can make one
LOADED = {f"{CARRIED}.0": {"$exists": True}}  # a document in which events still ride


class Event(Struct, frozen=True):
    """A fact, in the past tense: `class TaskCompleted(Event, frozen=True, tag="tasks.completed")`.

    The tag is its name for ever, and begins with the product that tells it. Fields may be added with a default.
    """

    def envelope(self) -> Row:
        """The event under a new id, with its time, as it is stored and carried. The body is plain JSON."""
        body = msgspec.to_builtins(self)
        return {"_id": new_id(), "type": body.pop("type"), "at": now(), "body": body}


E = TypeVar("E", bound=Event)


class Told(Doc):
    """A row of the outbox: an event as its product told it."""

    type: str
    at: datetime
    body: dict[str, Any]


class Heard(Doc):
    """A row of the inbox: the receipt that a reaction has had its effect; the id names the reaction and the event."""


@cache
def outbox(product: str) -> Collection[Told]:
    """What a product has told."""
    return _bound(Collection(Told, "outbox", indexes=[Index("created_at", expires_after=OUTBOX_KEPT)]), product)


@cache
def inbox(product: str) -> Collection[Heard]:
    """What a product has reacted to."""
    return _bound(Collection(Heard, "inbox", indexes=[Index("created_at", expires_after=INBOX_KEPT)]), product)


def stores(product: str) -> list[Collection[Any]]:
    """The collections that events need in a product's database."""
    return [outbox(product), inbox(product)]


D = TypeVar("D", bound=Doc)


def _bound(collection: Collection[D], product: str) -> Collection[D]:
    collection.product = product
    return collection


# ---- telling


async def emit(event: Event) -> None:
    """Tell an event, if and when the transaction under way commits.

    Raises RuntimeError outside an @atomic action. A @guarded one makes a single write, in which its events ride:
    `change(…, tells=[event])`.
    """
    work = unit.current.get()
    if work is None or work.session is None:
        raise RuntimeError("emit belongs inside an @atomic action; a @guarded one says tells=[…] with its write")
    row = _row(event.envelope())
    await outbox(teller_of(row.type)).add(row)


def _row(envelope: Row) -> Told:
    return Told(id=envelope["_id"], type=envelope["type"], at=envelope["at"], body=envelope["body"])


def tag_of(kind: type[Event]) -> str:
    """The name under which a kind of event travels. Raises TypeError if it has none."""
    tag = kind.__struct_config__.tag
    if not isinstance(tag, str) or not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_.]*", tag):
        raise TypeError(f'{kind.__name__} needs a tag that begins with its product: tag="tasks.completed"')
    return tag


def teller_of(tag: str) -> str:
    """The product that tells the events of a tag."""
    return tag.partition(".")[0]


# ---- reacting


class Reaction:
    """What a product does when it hears of an event. Calling it with an event does it, in one transaction.

    If it fails it becomes a job: it is tried again `retries` times with growing pauses, and is then a dead letter.
    The events behind it do not wait for it, so a reaction must not rely on the order of events.
    """

    def __init__(
        self, act: Callable[[Any], Awaitable[None]], kind: type[Event], *, product: str, retries: int, timeout: float
    ) -> None:
        self.act, self.kind, self.product = act, kind, product
        self.name = f"{act.__module__}.{act.__qualname__}"
        self.tag = tag_of(kind)
        self.retries, self.timeout, self.longest_wait = retries, timeout, 900.0
        reactions[self.name] = self

    async def __call__(self, event: Event) -> None:
        await unit.atomic(self.act)(event)

    async def receive(self, envelope: Row) -> bool:
        """React to an event, unless that was done before; the effect and its receipt are one. Whether it was new."""
        try:
            await self._receive(envelope)
        except _Double:
            return False
        return True

    @unit.atomic
    async def _receive(self, envelope: Row) -> None:
        try:
            await inbox(self.product).add(Heard(id=receipt_of(self, envelope["_id"])))
        except AlreadyExists:
            raise _Double from None
        await self.act(self.told(envelope))

    async def run(self, args: Sequence[Any]) -> None:
        """React to an event that failed before: what its job does."""
        await self.receive(args[0])

    def told(self, envelope: Row) -> Event:
        """The event in an envelope, as the kind that this reacts to."""
        return msgspec.convert({"type": self.tag, **envelope["body"]}, self.kind)


class _Double(Exception):
    """This reaction has had this event."""


reactions: dict[str, Reaction] = {}


class Due(NamedTuple):
    """An event that one reaction has yet to have."""

    reaction: Reaction
    envelope: Row


@unit.atomic
async def receive_together(due: Sequence[Due]) -> None:
    """Have several reactions of one product, to one event or to many, in one transaction.

    Of a small one the commit costs most, and what asks for the same unique job asks for it once. All of them have
    their effect or none has. Raises what one of them raises, and AlreadyExists or BulkWriteError if one was done
    before; then they are to be done one by one.
    """
    receipts = [Heard(id=receipt_of(reaction, envelope["_id"])) for reaction, envelope in due]
    await inbox(due[0].reaction.product).add_many(receipts)
    for reaction, envelope in due:
        await reaction.act(reaction.told(envelope))


def on(
    kind: type[E], *, product: str = "", retries: int = 10, timeout: float = 30
) -> Callable[[Callable[[E], Awaitable[None]]], Reaction]:
    """Make a function the reaction of a product to a kind of event.

    The product is that of the module (`msingi.products.<product>.…`), unless it is named. `timeout` in seconds.
    """
    return lambda act: Reaction(
        act, kind, product=product or product_of(act.__module__), retries=retries, timeout=timeout
    )


def receipt_of(reaction: Reaction, event_id: str) -> str:
    """The id under which it is noted that a reaction has had an event."""
    return f"{reaction.name} {event_id}"


def product_of(module: str) -> str:
    """The product that a module belongs to. Raises TypeError if it is none's."""
    found = re.match(r"msingi\.products\.(\w+)", module)
    if found is None:
        raise TypeError(f"the module {module} is no product's: say product=…")
    return found[1]


# ---- events that ride in documents


class Riding(NamedTuple):
    """Events that rode in a document of a collection."""

    collection: str
    id: Any
    envelopes: Sequence[Row]


async def unload(base: str, riding: Sequence[Riding]) -> None:
    """Move events that rode in documents of a database into the outbox beside them. Again, it changes nothing.

    What the database refuses stays where it is, to be looked at, and holds up no other.
    """
    if not any(each.envelopes for each in riding):
        return
    database = state.mongo()[base]
    told = [row for each in riding for row in each.envelopes]
    moved = [UpdateOne({"_id": row["_id"]}, {"$setOnInsert": plain(_row(row))}, upsert=True) for row in told]
    try:
        await database["outbox"].bulk_write(moved, ordered=False)
    except BulkWriteError as refused:
        if len(riding) > 1:  # whose fault it is shows when each is moved by itself
            for each in riding:
                await unload(base, [each])
            return
        details = str(refused.details)[:500]
        log.exception("event_refused", database=base, collection=riding[0].collection, details=details)
        return
    for name in {each.collection for each in riding}:
        left = [
            UpdateOne({"_id": each.id}, {"$pull": {CARRIED: {"_id": {"$in": [row["_id"] for row in each.envelopes]}}}})
            for each in riding
            if each.collection == name
        ]
        await database[name].bulk_write(left, ordered=False)


async def unload_all(base: str, names: Sequence[str] | None = None) -> int:
    """Move all events that still ride in documents of a database; returns how many documents had any.

    It looks at every document, of these collections or of all, so it is for when it is unknown what was missed.
    """
    database = state.mongo()[base]
    found = 0
    for name in await database.list_collection_names() if names is None else names:
        async for doc in database[name].find(LOADED, {CARRIED: 1}):
            await unload(base, [Riding(name, doc["_id"], doc[CARRIED])])
            found += 1
    return found


# ---- for tests


class Hearer(Protocol):
    """What this module needs to know of a product's manifest."""

    @property
    def name(self) -> str: ...

    @property
    def found(self) -> Any: ...


async def unload_few(product: str) -> None:
    """`unload_all` where there is little of everything: one question tells which collections have any."""
    await unload_all(state.database_name(product), await _all_holding(product, LOADED))


async def _all_holding(product: str, where: Row) -> list[str]:
    database = state.database(product)
    return await holding(database, await database.list_collection_names(), where)


async def told(products: Iterable[str]) -> list[Event]:
    """The events that these products have told and still keep, in the order in which they happened."""
    kinds = {tag_of(kind): kind for kind in _kinds(Event) if kind.__struct_config__.tag}
    rows: list[Row] = []
    for product in products:
        await unload_few(product)
        rows += await outbox(product).raw.find().to_list()
    rows.sort(key=lambda row: str(row["_id"]))
    return [msgspec.convert({"type": row["type"], **row["body"]}, kinds[row["type"]]) for row in rows]


def _kinds(kind: type[Event]) -> Iterable[type[Event]]:
    for each in kind.__subclasses__():
        yield each
        yield from _kinds(each)


async def arrive(event: Event, products: Iterable[Hearer]) -> None:
    """Let an event arrive at these products now, as if another product had told it. Raises what a reaction raises."""
    envelope = event.envelope()
    for product in products:
        for reaction in product.found.reactions:
            if reaction.tag == envelope["type"]:
                await reaction.receive(envelope)


async def forget(products: Iterable[str]) -> None:
    """Forget what these products have told."""
    for product in products:
        await outbox(product).raw.delete_many({})
        for name in await _all_holding(product, {TOLD: {"$exists": True}}):
            await state.database(product)[name].update_many(
                {TOLD: {"$exists": True}}, {"$unset": {CARRIED: 1, TOLD: 1}}
            )
