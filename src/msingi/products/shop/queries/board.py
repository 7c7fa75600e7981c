"""What those who work on orders look through: the board, how many wait for what, and the refunds that wait."""

import re
from asyncio import gather
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import get_args

from msgspec import Struct

from msingi.kit.db import Page, Paging, Where
from msingi.kit.payments.models import Payment, payments
from msingi.products.accounts.contract import known_people
from msingi.products.shop.models.orders import Order, State, invoices, orders
from msingi.products.shop.models.stock import locations
from msingi.products.shop.rules import orders as rules

STATES: tuple[State, ...] = get_args(State)
COUNTED: tuple[State, ...] = ("awaiting_payment", "confirmed", "partly_shipped", "short", "shipped")
MOST = 1000  # it is not worth it to count more: that is a crowd
INVOICE = re.compile(r"[0-9]{4}-[0-9]{6,}")
BEGINS = re.compile(r"(?:MS-?)?([A-Z0-9]{0,12})")


class Row(Struct, frozen=True):
    """An order on the board."""

    id: str
    number: str
    state: State
    currency: str
    total: int
    items: int
    buyer: str
    town: str
    pick_up_at: str | None
    held_until: datetime
    created_at: datetime
    version: int


async def rows(state: str, sought: str, page: Paging) -> Page[Row]:
    """Orders, the newest first: those in a state, if there is such a one; those whose number begins so, or the one of
    an invoice, if something is sought."""
    where: Where = {"state": state} if state in STATES else {}
    if sought:
        where = {**where, **await _named(sought)}
    return (await orders.page(where, page)).map(_row)


async def _named(sought: str) -> Where:
    if INVOICE.fullmatch(sought):
        invoice = await invoices.find({"_id": sought})
        return {"_id": invoice.order_id if invoice else ""}
    begins = BEGINS.fullmatch(sought.upper())
    return {"number": {"$regex": f"^MS-{begins[1]}"}} if begins else {"_id": ""}


def _row(order: Order) -> Row:
    return Row(
        id=order.id,
        number=order.number,
        state=order.state,
        currency=order.currency,
        total=order.totals.total,
        items=sum(line.quantity for line in order.lines),
        buyer=order.address.name if order.address else "",
        town=order.address.town if order.address else "",
        pick_up_at=order.pick_up_at,
        held_until=order.held_until,
        created_at=order.created_at,
        version=order.version,
    )


async def counts() -> dict[State, int]:
    """How many orders are in each state in which somebody waits for something; at most MOST."""
    found = await gather(*(orders.count({"state": state}, limit=MOST) for state in COUNTED))
    return dict(zip(COUNTED, found, strict=True))


# ---- refunds


class Waiting(Struct, frozen=True):
    """A refund that waits for somebody to let it go, or not."""

    id: str
    order_id: str
    number: str
    payment_id: str
    provider: str
    amount: int
    currency: str
    reason: str
    asked_by: str
    asked_at: datetime


async def waiting(page: Paging) -> Page[Waiting]:
    """The refunds that wait, those of the oldest payments first; a page counts payments."""
    found = await payments("shop").page({"refunds.state": "waiting"}, page, sorts=["created_at"])
    ids = [id for each in found.items if (id := rules.order_of(each.purpose))]
    numbers = {each.id: each.number for each in await orders.many({"_id": {"$in": ids}})} if ids else {}
    return Page([each for payment in found.items for each in _waiting(payment, numbers)], found.next)


def _waiting(payment: Payment, numbers: dict[str, str]) -> list[Waiting]:
    order_id = rules.order_of(payment.purpose)
    if order_id not in numbers:
        return []
    return [
        Waiting(
            id=each.id,
            order_id=order_id,
            number=numbers[order_id],
            payment_id=payment.id,
            provider=payment.provider,
            amount=each.amount,
            currency=payment.currency,
            reason=each.reason,
            asked_by=each.asked_by,
            asked_at=each.asked_at,
        )
        for each in payment.refunds
        if each.state == "waiting"
    ]


# ---- names


async def names_of(ids: Iterable[str]) -> dict[str, str]:
    """What people are called; who is gone, or nobody knows, is not there."""
    return {each.id: each.name for each in await known_people(sorted({*ids} - {"", rules.HOUSE})) or ()}


async def places(ids: Sequence[str] | None = None) -> dict[str, str]:
    """What the places are called where goods lie, closed ones too; all of them, or these."""
    where: Where = {} if ids is None else {"_id": {"$in": list(ids)}}
    return {each.id: each.name for each in await locations.many(where, sort=[("priority", 1), ("_id", 1)])}
