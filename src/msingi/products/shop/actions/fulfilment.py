"""Goods on their way: shipments, and the code with which a receiver says that they are there."""

from collections.abc import Mapping
from hmac import compare_digest
from secrets import randbelow
from typing import Any

import msgspec

from msingi.kit import audit
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import NotFound, allow
from msingi.kit.ids import new_id
from msingi.kit.unit import atomic
from msingi.products.shop.actions import stock
from msingi.products.shop.actions.orders import entry, move, tell
from msingi.products.shop.models.orders import Order, Shipment, orders
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.schemas.orders import DeliveryForm, ShipmentForm


@atomic
async def ship(order_id: str, form: ShipmentForm, by: str) -> Order:
    """Send some of it off, from one place. What leaves, leaves the stock in the same transaction.

    Raises NotInThisState, NoSuchLine, NotThere, OrderFull.
    """
    order = await orders.get(order_id)
    wanted = _added_up(form)
    lines = rules.shipping(order, form.location_id, wanted)
    act: rules.Act = "ship_all" if rules.all_shipped(lines) else "ship_part"
    rules.after(order.state, act)
    if len(order.shipments) >= rules.MOST_SHIPMENTS:
        raise rules.OrderFull(most=rules.MOST_SHIPMENTS)
    leaving = _tracked(order, wanted)
    if leaving:
        await stock.ship(order.id, form.location_id, leaving)
    shipment = Shipment(
        id=new_id(),
        at=now(),
        location_id=form.location_id,
        lines=wanted,
        carrier=form.carrier,
        tracking=form.tracking,
        code=f"{randbelow(10**6):06d}",
    )
    said = entry(
        "shipped", by=by, shipment=shipment.id, count=sum(wanted.values()), all=_all(order), carrier=form.carrier
    )
    changes: dict[str, dict[str, Any]] = {"$set": {"lines": lines}, "$push": {"shipments": shipment}}
    return await move(order, act, said, to=changes)


def _added_up(form: ShipmentForm) -> dict[str, int]:
    """A line that is named twice counts twice."""
    found: dict[str, int] = {}
    for each in form.lines:
        found[each.line_id] = found.get(each.line_id, 0) + each.quantity
    return found


def _tracked(order: Order, wanted: Mapping[str, int]) -> dict[str, int]:
    """What of it is in the stock's books, by variant."""
    found: dict[str, int] = {}
    for line in order.lines:
        if line.tracked and line.id in wanted:
            found[line.variant_id] = found.get(line.variant_id, 0) + wanted[line.id]
    return found


def _all(order: Order) -> int:
    return sum(line.quantity - line.cancelled for line in order.lines)


async def deliver(order_id: str, shipment_id: str, form: DeliveryForm, actor: Actor) -> Order:
    """Note that a shipment arrived: by the receiver's code, or by a reason of somebody with the right to orders.

    Raises WrongDeliveryCode, TooManyWrongCodes, CodeOrReason, Forbidden.
    """
    if (form.code is None) == (form.reason is None):
        raise rules.CodeOrReason
    if form.reason is not None:
        allow(actor.may("shop:orders"))
        return await _deliver(order_id, shipment_id, form.reason, None, actor)
    order, refusal = await _show_code(order_id, shipment_id, form.code or "", actor)
    if refusal:
        raise rules.TooManyWrongCodes if refusal == "order_full" else rules.WrongDeliveryCode
    return order


@atomic
async def _show_code(order_id: str, shipment_id: str, code: str, actor: Actor) -> tuple[Order, str]:
    """Deliver it if the code is right; else count the miss, so that nobody tries them all."""
    order, shipment = await _find(order_id, shipment_id)
    if shipment.delivered_at is not None:
        return order, ""
    if shipment.misses >= rules.MOST_MISSES:
        return order, "order_full"
    if compare_digest(shipment.code, code):
        return await _deliver(order_id, shipment_id, "", code, actor), ""
    missed = _changed(order, shipment, misses=shipment.misses + 1)
    said = entry("wrong_delivery_code", by=actor.id, public=False, shipment=shipment.id)
    return await orders.change(order.id, {"$set": {"shipments": missed}, "$push": {"timeline": said}}), "wrong"


@atomic
async def _deliver(order_id: str, shipment_id: str, reason: str, code: str | None, actor: Actor) -> Order:
    order, shipment = await _find(order_id, shipment_id)
    if shipment.delivered_at is not None:
        return order
    shipments = _changed(order, shipment, delivered_at=now())
    kind = "delivered" if code else "delivered_without_code"
    said = entry(kind, by=actor.id, shipment=shipment.id, reason=reason)
    if not code:
        await audit.note("shop.delivered_without_code", actor=actor, about=order.id, reason=reason)
    changes = {"$set": {"shipments": shipments}}
    if order.state == "shipped" and all(each.delivered_at for each in shipments):
        return await move(order, "deliver", said, to=changes)
    return await tell(order, [said], to=changes)


async def _find(order_id: str, shipment_id: str) -> tuple[Order, Shipment]:
    order = await orders.get(order_id)
    shipment = rules.find_shipment(order, shipment_id)
    if shipment is None:
        raise NotFound
    return order, shipment


def _changed(order: Order, shipment: Shipment, **changes: object) -> list[Shipment]:
    """The order's shipments with this one changed."""
    changed = msgspec.structs.replace(shipment, **changes)
    return [changed if each.id == shipment.id else each for each in order.shipments]
