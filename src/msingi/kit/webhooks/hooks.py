"""The webhooks of one product: its endpoints, the messages that they are to get, and how those are sent.

`tell` writes a message down for each endpoint that wants it, in the transaction of the reaction that calls it, so once
for each event. Sending is a job for each endpoint, of which one runs at a time; it sends first and notes it after, so
a message may arrive twice, under the same id. A receiver that does not answer keeps its own messages waiting and
nobody else's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import msgspec
import structlog

from msingi.kit import audit, fetch, observe, unit
from msingi.kit.actors import Actor
from msingi.kit.clock import now
from msingi.kit.db import Page, Paging, Row, Where
from msingi.kit.errors import Stale
from msingi.kit.events import Event
from msingi.kit.ids import first_id_at, new_id
from msingi.kit.jobs import Job, cron, job
from msingi.kit.webhooks import models, problems, sending, signing
from msingi.kit.webhooks.models import Attempt, Delivery, Endpoint, Secret
from msingi.kit.webhooks.sending import Outcome

log = structlog.get_logger("webhooks")

PING = "ping"
MOST_ENDPOINTS = 20
MOST_REPLAYED = 10_000  # messages by one request
MOST_ATTEMPTS = 20  # that a delivery shows
AT_ONCE = 4  # messages that are sent to one endpoint at the same time
BATCH = 200  # messages that one round takes
ROUND = 30.0  # seconds after which a round begins no more; then others have their turn
GIVEN_UP = timedelta(days=5)  # without anything taken, after which an endpoint is turned off


class TurnedOff(Protocol):
    """Makes the event that tells that the house turned an endpoint off."""

    def __call__(self, *, endpoint_id: str, reason: str) -> Event: ...


class Made(msgspec.Struct, frozen=True):
    """What became of a secret: the new one, in the clear, and when the old one ends."""

    secret: str
    old_until: datetime | None


class Webhooks:
    """One product's. `kinds` are the events that can be asked for, with what each tells of.

    Its `jobs` hold `sending` and `looking` under names of their own, so that its workers know them.
    """

    def __init__(self, product: str, kinds: Mapping[str, str], turned_off: TurnedOff) -> None:
        self.product, self.kinds, self.turned_off = product, dict(kinds), turned_off
        self.endpoints, self.deliveries = models.endpoints(product), models.deliveries(product)
        send, look = _called(product, self.send_due, self.look)
        self.sending: Job[[str]] = job(product=product, retries=5, timeout=90, unique=_itself)(send)
        self.looking = cron("*/10 * * * * *", product=product, retries=0)(look)

    # ---- endpoints

    async def all(self, page: Paging) -> Page[Endpoint]:
        """All endpoints, the newest first."""
        return await self.endpoints.page({}, page, sorts=["-_id"])

    async def endpoint(self, id: str) -> Endpoint:
        """One. Raises NotFound."""
        return await self.endpoints.get(id)

    @unit.atomic
    async def make(self, url: str, events: Sequence[str], note: str, by: Actor) -> Endpoint:
        """A new endpoint, with its secret. Raises AddressRefused, UnknownWebhookEvents, TooManyWebhooks.

        Where its name leads is looked at each time that something is sent.
        """
        fetch.guard().check(url, sending.schemes())
        self._check(events)
        if await self.endpoints.count({}) >= MOST_ENDPOINTS:
            raise problems.TooManyWebhooks(most=MOST_ENDPOINTS)
        secrets = [Secret(signing.new_secret())]
        fresh = Endpoint(url=url, events=sorted(set(events)), note=note, secrets=secrets, made_by=by.id)
        await audit.note(f"{self.product}.webhook_made", actor=by, about=fresh.id, events=fresh.events)
        return await self.endpoints.add(fresh)

    @unit.atomic
    async def change(self, endpoint_id: str, to: Row, if_match: int | None, by: Actor) -> Endpoint:
        """Change `events`, `note` or `active`. Turned on, it begins anew; turned off, what waits is given up.

        Raises NotFound, UnknownWebhookEvents, Stale.
        """
        endpoint = await self.endpoints.get(endpoint_id)
        if if_match not in (None, endpoint.version):
            raise Stale
        given = dict(to)
        if "events" in given:
            self._check(given["events"])
            given["events"] = sorted(set(given["events"]))
        active = given.pop("active", not endpoint.off)
        if active != (not endpoint.off):
            given |= {"off": "" if active else "by_hand", "off_at": None if active else now(), "owner_told": False}
            given |= HEALTHY
        if not given:
            return endpoint
        changed = await self.endpoints.change(endpoint.id, {"$set": given}, {"version": endpoint.version})
        await audit.note(f"{self.product}.webhook_changed", actor=by, about=endpoint.id, changed=sorted(to))
        self._wake(endpoint.id)
        return changed

    @unit.atomic
    async def remove(self, endpoint_id: str, if_match: int | None, by: Actor) -> None:
        """Remove an endpoint; a job removes its log. Raises NotFound, Stale."""
        endpoint = await self.endpoints.get(endpoint_id)
        if if_match not in (None, endpoint.version):
            raise Stale
        await self.endpoints.remove(endpoint)
        await audit.note(f"{self.product}.webhook_removed", actor=by, about=endpoint.id)
        self._wake(endpoint.id)

    @unit.atomic
    async def rotate(self, endpoint_id: str, overlap: timedelta, by: Actor) -> Made:
        """Sign with a new secret; the one of now signs beside it until the overlap is over, any other ends."""
        endpoint = await self.endpoints.get(endpoint_id)
        until = now() + overlap if overlap else None
        fresh, before = Secret(signing.new_secret()), endpoint.secrets[0]
        kept = [Secret(before.text, until)] if until else []
        await self.endpoints.change(endpoint.id, {"$set": {"secrets": [fresh, *kept]}}, {"version": endpoint.version})
        await audit.note(f"{self.product}.webhook_secret_rotated", actor=by, about=endpoint.id)
        return Made(fresh.text, until)

    def _check(self, events: Sequence[str]) -> None:
        groups = {_group(each) for each in self.kinds}
        unknown = sorted(set(events) - self.kinds.keys() - groups - {"*"})
        if unknown:
            known = ", ".join(self.kinds)
            raise problems.UnknownWebhookEvents(given=", ".join(unknown), known=known, group=min(groups))

    # ---- messages

    async def is_wanted(self, kind: str) -> bool:
        """Whether any endpoint wants an event, or any of a group (`order.*`): so that nobody looks up what to say."""
        asked = [each for each in self.kinds if kind in (each, _group(each))]
        return await self.endpoints.exists({"events": {"$in": [*asked, _group(kind), "*"]}})

    async def tell(self, kind: str, data: Mapping[str, Any], *, person: str = "", at: datetime | None = None) -> int:
        """Write a message down for each endpoint that wants this event, in the transaction under way; how many do.

        `data` is what JSON can say, best an id and where to ask; `person` whose data it tells of; `at` when it
        happened. For an endpoint that is off it is written down too, so that it can be sent later by hand.
        """
        if kind not in self.kinds:
            raise LookupError(f"{self.product} tells of no {kind}")
        wanted = await self.endpoints.many({"events": {"$in": [kind, _group(kind), "*"]}})
        if wanted:
            message = self._message(kind, data, at)
            fresh = [
                msgspec.structs.replace(message, id=new_id(), endpoint_id=each.id, person=person) for each in wanted
            ]
            for delivery, endpoint in zip(fresh, wanted, strict=True):
                if endpoint.off:
                    delivery.state, delivery.due_at, delivery.fault = "dead", None, OFF
            await self.deliveries.add_many(fresh)
            for each in wanted:
                if not each.off:
                    self._wake(each.id)
        return len(wanted)

    @unit.atomic
    async def ping(self, endpoint_id: str) -> Delivery:
        """Send one endpoint a message that means nothing. Raises NotFound, WebhookIsOff."""
        await self._knockable(endpoint_id)
        fresh = self._message(PING, {"endpoint_id": endpoint_id})
        fresh.endpoint_id = endpoint_id
        self._wake(endpoint_id)
        return await self.deliveries.add(fresh)

    def _message(self, kind: str, data: Mapping[str, Any], at: datetime | None = None) -> Delivery:
        body = msgspec.json.encode({"type": kind, "timestamp": at or now(), "data": data}).decode()
        return Delivery(endpoint_id="", message_id=f"msg_{new_id()}", type=kind, body=body)

    # ---- the log

    async def log(self, endpoint: Endpoint, where: Where, page: Paging) -> Page[Delivery]:
        """What was to be sent to an endpoint, the newest first."""
        return await self.deliveries.page({"$and": [{"endpoint_id": endpoint.id}, where]}, page, sorts=["-_id"])

    async def delivery(self, endpoint: Endpoint, id: str) -> Delivery:
        """One of them. Raises NotFound."""
        return await self.deliveries.get(id, {"endpoint_id": endpoint.id})

    @unit.atomic
    async def replay(self, delivery: Delivery) -> Delivery:
        """Send a message once more, under its id, with as many tries as at first.

        Raises WebhookIsOff, DeliveryOnItsWay.
        """
        await self._knockable(delivery.endpoint_id)
        self._wake(delivery.endpoint_id)
        return await self.deliveries.change(
            delivery.id, {"$set": _anew()}, {"due_at": None}, otherwise=problems.DeliveryOnItsWay
        )

    async def replay_all(
        self, endpoint_id: str, since: datetime, until: datetime | None, which: Literal["undelivered", "all"]
    ) -> tuple[int, bool]:
        """The same for all of a time, the oldest first: how many, and whether there are more. Raises WebhookIsOff."""
        await self._knock_again(endpoint_id)
        oldest = now() - timedelta(seconds=2 * models.KEPT)  # nothing is as old, and no id older than the calendar
        time, within = {"$gte": first_id_at(max(since, oldest) - timedelta(seconds=1))}, {"$gte": since}
        if until:
            time["$lt"], within["$lt"] = first_id_at(max(until, oldest)), until
        over = {"state": "dead"} if which == "undelivered" else {"due_at": None}
        # The index is by id, and an id is made a moment before its document says when it was.
        where = {"endpoint_id": endpoint_id, "_id": time, "created_at": within, **over}
        found = self.deliveries.raw.find(where, {"_id": 1}, sort=[("_id", 1)], limit=MOST_REPLAYED + 1)
        ids = [row["_id"] async for row in found]
        count = await self._replay_these(ids[:MOST_REPLAYED])
        await self.sending.later(endpoint_id)
        return count, len(ids) > MOST_REPLAYED

    @unit.repeatable
    async def _replay_these(self, ids: Sequence[str]) -> int:
        return await self.deliveries.change_many({"_id": {"$in": list(ids)}, "due_at": None}, {"$set": _anew()})

    @unit.atomic
    async def _knock_again(self, endpoint_id: str) -> None:
        await self._knockable(endpoint_id)

    async def _knockable(self, endpoint_id: str) -> None:
        """Let an endpoint that rests be tried at once: somebody asked for it. Raises NotFound, WebhookIsOff."""
        endpoint = await self.endpoints.get(endpoint_id)
        if endpoint.off:
            raise problems.WebhookIsOff
        if endpoint.rests_until:
            await self.endpoints.change(endpoint_id, {"$set": {"rests_until": None}}, {"version": endpoint.version})

    # ---- people who are no more

    async def forget(self, person: str) -> None:
        """Forget what was told of somebody: messages that are over go, of others the answers. It may be done twice."""
        await self._drop({"person": person, "due_at": None})
        await self._blank(person)
        await self._unname(person)

    @unit.repeatable
    async def _drop(self, where: Where) -> int:
        return await self.deliveries.remove_many(where)

    @unit.repeatable
    async def _blank(self, person: str) -> int:
        emptied = {"$set": {"person": "", "answer": None}}
        return await self.deliveries.change_many({"person": person}, emptied)

    @unit.repeatable
    async def _unname(self, person: str) -> int:
        return await self.endpoints.change_many({"made_by": person}, {"$set": {"made_by": ""}})

    # ---- sending

    def _wake(self, endpoint_id: str) -> None:
        """Have it sent once this is committed. The job's row is hot, so it is no part of the transaction; if the
        process dies in between, the clock finds what is due."""

        async def wake() -> None:
            await self.sending.later(endpoint_id)

        unit.after_commit(wake)

    async def look(self) -> None:
        """Ask for what is due: what the clock does."""
        at = now()
        async for endpoint in self.endpoints.each({}):
            if _rests(endpoint):
                continue
            if await self.deliveries.exists({"endpoint_id": endpoint.id, "due_at": {"$lte": at}}):
                await self.sending.later(endpoint.id)

    async def send_due(self, endpoint_id: str) -> None:
        """Send what is due to one endpoint, a few at a time: what the job does."""
        endpoint = await self.endpoints.find({"_id": endpoint_id})
        if endpoint is None:
            await self._drop({"endpoint_id": endpoint_id})
        elif endpoint.off:
            await self._bury(endpoint_id)
        elif not _rests(endpoint):
            await self._round(endpoint)

    async def _round(self, endpoint: Endpoint) -> None:
        due = {"endpoint_id": endpoint.id, "due_at": {"$lte": now()}}
        found = await self.deliveries.many(due, sort=[("due_at", 1)], limit=BATCH)
        outcomes: list[Outcome] = []
        waiting, end = iter(found), time.monotonic() + ROUND

        def may_go_on() -> bool:
            return time.monotonic() < end and not any(each.is_down or each.is_gone for each in outcomes)

        senders = [self._sender(endpoint, waiting, may_go_on, outcomes) for _ in range(AT_ONCE)]
        # All come to an end before one's fault is raised: a try that is cut off would be made twice.
        faults = [each for each in await asyncio.gather(*senders, return_exceptions=True) if each]
        if outcomes:
            await self._learn(endpoint, outcomes)
        if faults:
            raise faults[0]
        if len(found) == BATCH or next(waiting, None):
            await self.sending.later(endpoint.id)  # a rest is kept there

    async def _sender(
        self, endpoint: Endpoint, waiting: Iterator[Delivery], may_go_on: Callable[[], bool], outcomes: list[Outcome]
    ) -> None:
        while may_go_on() and (delivery := next(waiting, None)) is not None:
            outcome = await sending.knock(endpoint, delivery)
            outcomes.append(outcome)
            await self._note(delivery, outcome)

    @unit.repeatable
    async def _note(self, delivery: Delivery, outcome: Outcome) -> None:
        """Write down what came of a try, unless somebody else has written since it was read."""
        again = None if outcome.taken else sending.next_try(delivery.tries + 1, now())
        over = now() if again is None else None
        state = "delivered" if outcome.taken else "failed" if again else "dead"
        told = {"status": outcome.status, "fault": outcome.fault, "answer": outcome.answer}
        attempt = Attempt(outcome.at, outcome.status, outcome.fault, outcome.took_ms)
        update = {
            "$set": {**told, "state": state, "due_at": again, "ended_at": over},
            "$inc": {"tries": 1},
            "$push": {"attempts": {"$each": [attempt], "$slice": -MOST_ATTEMPTS}},
        }
        observe.count("webhooks", product=self.product, result=state)
        await self.deliveries.apply(delivery.id, update, {"version": delivery.version})

    async def _learn(self, endpoint: Endpoint, outcomes: Sequence[Outcome]) -> None:
        """Write down what a round says of the endpoint itself, if that is new."""
        failed = [each for each in outcomes if not each.taken]
        took_some = len(failed) < len(outcomes)
        since = None if took_some or not failed else endpoint.failing_since or failed[0].at
        if any(each.is_gone for each in failed):
            await self._turn_off(endpoint, "gone")
        elif since is not None and now() - since >= GIVEN_UP:
            await self._turn_off(endpoint, "failing")
        else:
            await self._keep(endpoint, failed, since, took_some)

    async def _keep(
        self, endpoint: Endpoint, failed: Sequence[Outcome], since: datetime | None, took_some: bool
    ) -> None:
        down = [each for each in failed if each.is_down]
        misses = 0 if not down else 1 if took_some else endpoint.misses + 1
        rest = now() + sending.rest_after(misses, down) if down else None
        known = (endpoint.failing_since, endpoint.misses, endpoint.rests_until)
        if known != (since, misses, rest):
            await self._keep_health(endpoint, {"failing_since": since, "misses": misses, "rests_until": rest})

    @unit.repeatable
    async def _keep_health(self, endpoint: Endpoint, health: Row) -> None:
        await self.endpoints.apply(endpoint.id, {"$set": health}, {"off": ""})

    async def _turn_off(self, endpoint: Endpoint, reason: Literal["gone", "failing"]) -> None:
        log.warning("webhook_turned_off", endpoint=endpoint.id, reason=reason)
        await self._note_off(endpoint, reason)
        await self._bury(endpoint.id)

    @unit.repeatable
    async def _note_off(self, endpoint: Endpoint, reason: str) -> None:
        """One write, with the event in it, so that its owner hears of it once."""
        off = {"off": reason, "off_at": now(), "owner_told": False, **HEALTHY}
        told = self.turned_off(endpoint_id=endpoint.id, reason=reason)
        await self.endpoints.apply(endpoint.id, {"$set": off}, {"off": ""}, tells=[told])

    @unit.repeatable
    async def _bury(self, endpoint_id: str) -> int:
        """Give up what waits for an endpoint that is off; it can be sent again by hand."""
        gone = {"state": "dead", "due_at": None, "ended_at": now(), "fault": OFF}
        return await self.deliveries.change_many({"endpoint_id": endpoint_id, "due_at": {"$ne": None}}, {"$set": gone})


OFF = "the endpoint is off"
HEALTHY: Row = {"failing_since": None, "misses": 0, "rests_until": None}


def _anew() -> Row:
    return {"state": "waiting", "due_at": now(), "tries": 0, "ended_at": None}


def _itself(endpoint_id: str, /) -> str:
    return endpoint_id


def _rests(endpoint: Endpoint) -> bool:
    return endpoint.rests_until is not None and endpoint.rests_until > now()


def _group(kind: str) -> str:
    """The name under which an event can be asked for with its like: `order.*`."""
    return f"{kind.partition('.')[0]}.*"


def _called(
    product: str, send_due: Callable[[str], Awaitable[None]], look_for_due: Callable[[], Awaitable[None]]
) -> tuple[Callable[[str], Awaitable[None]], Callable[[], Awaitable[None]]]:
    """Both under names of the product's own, by which their rows know them."""

    async def send(endpoint_id: str) -> None:
        await send_due(endpoint_id)

    async def look() -> None:
        await look_for_due()

    send.__qualname__, look.__qualname__ = f"send_{product}", f"look_{product}"
    return send, look
