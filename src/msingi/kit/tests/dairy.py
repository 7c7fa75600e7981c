"""A dairy that tells by webhook what it has milked, for the tests of webhooks."""

from typing import Any

from msingi.kit import audit, data_keys, db, events, jobs, unit
from msingi.kit.actors import Actor
from msingi.kit.events import Event, emit, on
from msingi.kit.tests.mill import Toy
from msingi.kit.webhooks import models
from msingi.kit.webhooks.hooks import Webhooks
from msingi.kit.webhooks.models import Delivery, Endpoint

PRODUCT = "dairy"
ANN = Actor(id="ann")


class Milked(Event, frozen=True, tag="dairy.milked"):
    cow: str
    litres: int = 10
    owner: str = ""


class TurnedOff(Event, frozen=True, tag="dairy.webhook_turned_off"):
    endpoint_id: str
    reason: str


hooks = Webhooks(PRODUCT, {"milk.taken": "A cow was milked", "milk.spilt": "It is gone"}, TurnedOff)


@on(Milked, product=PRODUCT)
async def tell(event: Milked) -> None:
    await hooks.tell("milk.taken", {"cow": event.cow, "litres": event.litres}, person=event.owner)


work = jobs.Work([hooks.sending], [hooks.looking], [tell])
dairy = Toy(PRODUCT, work)


STORES = [*models.stores(PRODUCT), *events.stores(PRODUCT), *jobs.stores(PRODUCT), *audit.stores()]


async def prepare() -> None:
    await data_keys.load()
    await db.prepare(STORES)


async def empty() -> None:
    for store in STORES:
        await store.raw.delete_many({})


@unit.atomic
async def milk(*cows: str, owner: str = "") -> None:
    for cow in cows:
        await emit(Milked(cow=cow, owner=owner))


async def endpoint(url: str, events: tuple[str, ...] = ("milk.*",)) -> Endpoint:
    return await hooks.make(url, events, "", ANN)


async def log(endpoint: Endpoint) -> list[Delivery]:
    """What was to be sent, the oldest first."""
    return await hooks.deliveries.many({"endpoint_id": endpoint.id}, sort=[("_id", 1)])


async def states(endpoint: Endpoint) -> list[str]:
    return [each.state for each in await log(endpoint)]


async def now_of(endpoint: Endpoint) -> Endpoint:
    return await hooks.endpoint(endpoint.id)


async def told_off() -> list[tuple[str, str]]:
    """The endpoints that the house turned off, and why."""
    found: list[Any] = await events.told([PRODUCT])
    return [(each.endpoint_id, each.reason) for each in found if isinstance(each, TurnedOff)]
