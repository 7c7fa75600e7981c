"""The state of an order: each change is one guarded write, with its line of the history and the event that tells it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from msingi.kit.clock import now
from msingi.kit.db import Where
from msingi.kit.ids import new_id
from msingi.kit.payments.models import payments
from msingi.kit.unit import atomic, guarded
from msingi.products.shop.actions import coupons, stock
from msingi.products.shop.actions.telling import recheck_of, tell_of
from msingi.products.shop.contract import OrderMoved
from msingi.products.shop.models.orders import Entry, Order, orders
from msingi.products.shop.queries.orders import payments_of
from msingi.products.shop.rules import orders as rules

UNTOLD = frozenset({"payment_asked"})


def entry(kind: str, *, by: str = "", public: bool = True, **details: str | int) -> Entry:
    """A line of the history that changes no state."""
    return Entry(
        id=new_id(), at=now(), kind=kind, by=by, public=public, details={name: str(it) for name, it in details.items()}
    )


async def move(
    order: Order,
    act: rules.Act,
    said: Entry,
    *,
    to: Mapping[str, Mapping[str, Any]] | None = None,
    when: Where | None = None,
) -> Order:
    """Bring an order into its next state, in the unit under way. `to` is what else changes, `when` what it hangs on.

    Raises NotInThisState for what cannot be, Stale if the order is in another state by now.
    """
    following = rules.after(order.state, act)
    said = msgspec.structs.replace(said, before=order.state, after=following)
    changes = {name: dict(fields) for name, fields in (to or {}).items()}
    changes.setdefault("$set", {})["state"] = following
    changes.setdefault("$push", {})["timeline"] = said
    told = OrderMoved(order_id=order.id, before=order.state, after=following, entry=said.id, kind=said.kind)
    moved = await orders.change(order.id, changes, when={"state": order.state, **(when or {})}, tells=[told])
    await tell_of(moved, [said])
    return moved


async def tell(
    order: Order, said: Sequence[Entry], *, to: Mapping[str, Mapping[str, Any]] | None = None, when: Where | None = None
) -> Order:
    """Write into the history what changes no state, in the unit under way; and tell it. Raises Stale.

    Of UNTOLD there is no event, since nothing follows from it; who looks on is told all the same.
    """
    changes = {name: dict(fields) for name, fields in (to or {}).items()}
    changes.setdefault("$push", {})["timeline"] = {"$each": list(said)}
    told = [
        OrderMoved(order_id=order.id, before=order.state, after=order.state, entry=each.id, kind=each.kind)
        for each in said
        if each.kind not in UNTOLD
    ]
    changed = await orders.change(order.id, changes, when=when, tells=told)
    await tell_of(changed, said)
    return changed


# ---- giving up


async def cancel(order: Order, reason: str, by: str, *, is_staff: bool) -> Order:
    """Cancel an order; of one that is partly shipped, what is not. What was held and paid goes back (see `money`).

    An order whose goods are being allocated this very moment is past this point or falls short first: Stale says to
    look again.
    """
    act = rules.cancelling(order, is_staff)
    if order.state == "awaiting_payment":
        return await _cancel_unpaid(order, act, reason, by)
    return await _cancel_paid(order.id, act, reason, by)


@guarded
async def _cancel_unpaid(order: Order, act: rules.Act, reason: str, by: str) -> Order:
    said = entry("cancelled", by=by, reason=reason)
    return await move(order, act, said, when={"steps": {"$ne": "allocating"}})


@atomic
async def _cancel_paid(order_id: str, act: rules.Act, reason: str, by: str) -> Order:
    """State and stock in one transaction: what is given back is what the order, as it is changed here, had."""
    order = await orders.get(order_id)
    rules.after(order.state, act)
    if order.state != "short":
        for (variant_id, location_id), quantity in sorted(rules.unshipped(order).items()):
            await stock.unallocate(order.id, variant_id, location_id, quantity)
    if act != "drop_rest":
        return await move(order, act, entry("cancelled", by=by, reason=reason))
    lines = rules.without_rest(order)
    said = entry("rest_cancelled", by=by, reason=reason, amount=rules.refund_for(order.lines, lines, order))
    return await move(order, act, said, to={"$set": {"lines": lines}})


@guarded
async def expire(order: Order) -> Order:
    """Nobody paid in time, by the database's clock. Raises Stale if somebody did, or it was decided otherwise."""
    over = {"steps": {"$ne": "allocating"}, "$expr": {"$lte": ["$held_until", "$$NOW"]}}
    return await move(order, "expire", entry("expired"), when=over)


async def let_go(order: Order) -> None:
    """Release what an order that is over held. Done twice it changes nothing the second time."""
    await stock.release(order.id, list(rules.taken(order)))
    if order.coupons:
        await coupons.release_coupons(order.id, order.coupons, order.person or None)
        if rules.COUPONS_SPENT in order.steps:
            await _take_coupons_back(order.id)
        else:  # it may have spent them without having come to note it
            await coupons.give_back_coupons(order.id, order.coupons, order.person or None)


@atomic
async def _take_coupons_back(order_id: str) -> None:
    """What it spent counts no more, in one transaction with the note that it did: so once."""
    order = await orders.get(order_id)
    if rules.COUPONS_SPENT in order.steps:
        await coupons.take_back_coupons(order.id, order.coupons, order.person or None)
        await orders.change(order.id, {"$pull": {"steps": rules.COUPONS_SPENT}}, when={"steps": rules.COUPONS_SPENT})


# ---- forgetting people


async def forget(user_id: str) -> list[str]:
    """Take a person out of their orders; the figures stay. Returns the orders, to be settled: what is at rest forgets
    the address too. It may be done twice, or go on where it stopped."""
    found = [each.id async for each in orders.each({"customer_id": user_id})]
    for order_id in found:
        await _anonymise(order_id)
    return found


@atomic
async def _anonymise(order_id: str) -> None:
    """It is nobody's from now on. One that is under way keeps where it is to be brought, until it is over."""
    order = await orders.get(order_id)
    if order.customer_id is None:
        return
    kept = [msgspec.structs.replace(each, by="") if each.by == order.customer_id else each for each in order.timeline]
    said = entry("anonymised", public=False)
    gone = {"customer_id": None, "guest": None, "timeline": [*kept, said]}
    await orders.change(order.id, {"$set": gone, "$addToSet": {"steps": "forget"}}, when={"version": order.version})
    await recheck_of(order.id)


@atomic
async def forget_rest(order_id: str) -> Order:
    """What an order of somebody who is no more kept until it was over, and its payments until no money moved."""
    for each in await payments_of(order_id):
        await payments("shop").change(each.id, {"$set": {"payer_id": None, "email": "", "phone": ""}})
    gone = {"email": "", "address": None, "person": ""}
    return await orders.change(order_id, {"$set": gone, "$pull": {"steps": "forget"}})
