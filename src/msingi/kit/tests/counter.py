"""A shop counter of one till, for the tests of payments: a product that takes money and does nothing else."""

from typing import Any

from msingi.kit import db, events
from msingi.kit.db import Collection
from msingi.kit.events import Event
from msingi.kit.payments import models
from msingi.kit.payments.face import Fact, Provider
from msingi.kit.payments.models import Payment
from msingi.kit.payments.testing import Bank
from msingi.kit.payments.till import Till

PRODUCT = "counter"


class Changed(Event, frozen=True, tag="counter.payment_changed"):
    payment_id: str
    purpose: str
    state: str
    captured: int
    refunded: int


def stores() -> list[Collection[Any]]:
    return [*models.stores(PRODUCT), *events.stores(PRODUCT)]


async def prepare() -> None:
    await db.prepare(stores())


def till(*banks: Provider) -> Till:
    return Till(PRODUCT, {bank.name: bank for bank in banks}, Changed)


async def opened(till: Till, amount: int = 1000, **more: Any) -> Payment:
    """A payment of the first bank."""
    given = {"purpose": "counter.order:1", "provider": next(iter(till.providers)), "currency": "KES", "payer_id": "ann"}
    return await till.open(amount=amount, **{**given, **more})


async def hear(till: Till, facts: list[Fact]) -> None:
    """The bank calls back."""
    await till.hear(next(iter(till.providers)), *Bank.callback(facts))


async def told() -> list[tuple[str, int, int]]:
    """State, captured and refunded of each event, in the order of telling."""
    found = await events.told([PRODUCT])
    return [(each.state, each.captured, each.refunded) for each in found if isinstance(each, Changed)]
