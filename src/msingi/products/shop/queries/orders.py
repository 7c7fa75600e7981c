"""What may be read of orders, by who ordered, by a guest who knows the order's token, and by staff."""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from hmac import compare_digest
from secrets import token_urlsafe
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from msingi.kit import revocations, state
from msingi.kit.auth import Actor, lacks_second_factor
from msingi.kit.db import Page, Paging, View, Where
from msingi.kit.errors import NotFound
from msingi.kit.payments.models import Payment, payments
from msingi.products.accounts.contract import Person, known_people
from msingi.products.shop.models.orders import Entry, Order, Shipment, orders
from msingi.products.shop.queries import carts
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.schemas.orders import (
    AddressView,
    AllocationView,
    EntryView,
    LineView,
    OrderLineItem,
    OrderView,
    PaymentView,
    RefundView,
    ReturnView,
    ShipmentView,
)

V = TypeVar("V", bound=View)
SEE_ALL = ("shop:orders", "shop:fulfil")


class Seen(NamedTuple):
    """An order, who looks at it (nobody's id is empty), and whether as staff."""

    order: Order
    by: str
    staff: bool


# ---- who sees what


def new_token() -> str:
    """What a guest reads an order with."""
    return token_urlsafe(32)


def mark_of(token: str) -> str:
    """What of a guest's token is kept: 256 random bits need no salt."""
    return sha256(token.encode("utf-8", "replace")).hexdigest()


async def is_staff(actor: Actor | None, *permissions: str) -> bool:
    """Whether the actor has one of these permissions, and showed what the house asks of who has power."""
    if actor is None or lacks_second_factor(actor) or not any(map(actor.may, permissions)):
        return False
    return revocations.fresh() or not await revocations.is_revoked_now(actor)


async def order(order_id: str, actor: Actor | None, token: str, *, scope: str = "shop:read") -> Seen:
    """An order as the actor, or who knows its token, sees it. Raises NotFound for everybody else."""
    found = await orders.get(order_id)
    if actor is not None and actor.reaches(scope):
        if await is_staff(actor, *SEE_ALL):
            return Seen(found, actor.id, True)
        if found.customer_id == actor.id:
            return Seen(found, actor.id, False)
    if found.guest is not None and token and compare_digest(found.guest, mark_of(token)):
        return Seen(found, "", False)
    raise NotFound


def etag_of(view: OrderView) -> str:
    """What changes whenever the view does: payments may without the order."""
    moving = blake2b(msgspec.json.encode([view.payments, view.refunds]), digest_size=4).hexdigest()
    return f'"{view.version}-{moving}"'


async def may_follow(order_id: str, actor: Actor) -> None:
    """Raise NotFound unless the actor may follow an order's live topic."""
    await order(order_id, actor, "")


async def opens(order_id: str, token: str) -> None:
    """Raise NotFound unless this is the token of this order: who shows it may follow it."""
    await order(order_id, None, token)


async def may_follow_all(actor: Actor) -> None:
    """Raise NotFound unless the actor may follow the board of all orders."""
    if not await is_staff(actor, *SEE_ALL):
        raise NotFound


async def again(seen: Seen) -> Seen:
    """The same order as it is now."""
    return seen._replace(order=await orders.get(seen.order.id))


async def seen_by(actor: Actor, where: Where, page: Paging) -> Page[OrderLineItem]:
    """The orders that the actor sees: staff all of them, others their own."""
    own: Where = {} if await is_staff(actor, *SEE_ALL) else {"customer_id": actor.id}
    wanted = {"$and": [own, where]} if where else own
    found = await orders.page(wanted, page, sorts=("-_id", "-created_at"))
    return found.map(lambda each: OrderLineItem.of(each, total=each.totals.total, items=_items(each)))


def _items(order: Order) -> int:
    return sum(line.quantity for line in order.lines)


# ---- one order


async def payments_of(order_id: str) -> list[Payment]:
    """All that was ever begun to pay this order, oldest first."""
    return await payments("shop").many({"purpose": rules.purpose_of(order_id)}, sort=[("_id", 1)], limit=100)


async def shown(seen: Seen, **more: Any) -> OrderView:
    """An order as it goes out."""
    found, staff = seen.order, seen.staff
    paid = await payments_of(found.id)
    view: OrderView = OrderView.of(
        found,
        address=None if found.address is None else AddressView.of(found.address),
        lines=lines_shown(found, staff),
        payments=[_for_whom(PaymentView.of(each), not staff, ["action"]) for each in paid],
        shipments=[_shipment(each, staff) for each in found.shipments],
        returns=[ReturnView.of(each) for each in found.returns],
        refunds=_refunds(paid, staff),
        **more,
    )
    return _for_whom(view, staff, ["customer_id"])


def _shipment(each: Shipment, staff: bool) -> ShipmentView:
    """Its code is for who ordered, until it is of no use any more."""
    return _for_whom(ShipmentView.of(each), not staff and each.delivered_at is None, ["code"])


def _for_whom(view: V, may_see: bool, names: Sequence[str]) -> V:
    """A view, without these fields for who may not see them."""
    return view if may_see else msgspec.structs.replace(view, **dict.fromkeys(names, UNSET))


def lines_shown(order: Order, staff: bool) -> list[LineView]:
    return [
        _for_whom(
            LineView.of(line, allocations=[AllocationView.of(each) for each in line.allocations]),
            staff,
            ["allocations"],
        )
        for line in order.lines
    ]


def _refunds(paid: Sequence[Payment], staff: bool) -> list[RefundView]:
    found = [(payment, each) for payment in paid for each in payment.refunds]
    return [
        _for_whom(RefundView.of(each, payment_id=payment.id), staff, ("asked_by", "approved_by"))
        for payment, each in found
    ]


def timeline(seen: Seen, language: str) -> list[EntryView]:
    """The history of an order, oldest first, in a language; what is the house's own affair for staff only."""
    entries = [each for each in seen.order.timeline if each.public or seen.staff]
    return [_entry(each, seen, language) for each in entries]


def _entry(each: Entry, seen: Seen, language: str) -> EntryView:
    view: EntryView = EntryView.of(each, text=rules.text_of(each, seen.order.currency, language))
    return _for_whom(view, seen.staff, ("by", "public"))


# ---- what work without a request asks


async def unpaid_too_long(limit: int = 1000) -> list[Order]:
    """Orders whose time to be paid is over by the database's clock, the longest waiting first."""
    over = {"state": "awaiting_payment", "$expr": {"$lte": ["$held_until", "$$NOW"]}}
    return await orders.many(over, sort=[("held_until", 1)], limit=limit)


async def database_now() -> datetime:
    """The time by the database's clock, which holds are judged by."""
    told = await state.mongo().admin.command("hello")
    at: datetime = told["localTime"]
    return at.replace(tzinfo=UTC)


async def known(user_id: str) -> Person | None:
    """What accounts says of somebody; None if they are gone, or nobody can tell."""
    found = await known_people([user_id])
    return found[0] if found else None


async def person(user_id: str) -> dict[str, Any]:
    """All that the shop has of somebody, for them to take away: their orders, and what carts knows of them."""
    mine = [Seen(each, user_id, False) async for each in orders.each({"customer_id": user_id}, sort=[("_id", 1)])]
    return {"orders": [await _taken_away(each) for each in mine], **await carts.person(user_id)}


async def _taken_away(seen: Seen) -> dict[str, Any]:
    history = timeline(seen, seen.order.language)
    return {**msgspec.to_builtins(await shown(seen)), "timeline": msgspec.to_builtins(history)}
