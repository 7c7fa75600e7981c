"""Goods on their way back, and what is paid back for them."""

from collections.abc import Sequence

import msgspec

from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import NotFound
from msingi.kit.ids import new_id
from msingi.kit.unit import atomic
from msingi.products.shop.actions import stock
from msingi.products.shop.actions.orders import entry, tell
from msingi.products.shop.models.orders import Order, OrderLine, Return, orders
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.schemas.orders import LineForm, ReturnDecision, ReturnForm


@atomic
async def ask(order_id: str, form: ReturnForm, by: str) -> Order:
    """Ask to send something back. Raises NoSuchLine, NotReturnable, ReturnTooLate, OrderFull."""
    order = await orders.get(order_id)
    wanted = _added_up(form.lines)
    at = now()
    rules.check_returnable(order, wanted, at)
    if len(order.returns) >= rules.MOST_RETURNS:
        raise rules.OrderFull(most=rules.MOST_RETURNS)
    asked = Return(id=new_id(), at=at, lines=wanted, reason=form.reason)
    said = entry("return_asked", by=by, returned=asked.id, count=sum(wanted.values()))
    return await tell(order, [said], to={"$push": {"returns": asked}}, when={"version": order.version})


def _added_up(lines: Sequence[LineForm]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in lines:
        found[each.line_id] = found.get(each.line_id, 0) + each.quantity
    return found


@atomic
async def decide(order_id: str, return_id: str, form: ReturnDecision, actor: Actor) -> Order:
    """Approve, refuse, or note that it is back; with that its part of the money is due (see `money.settle`).

    Whole goods go back to where they were sent from. Raises NotFound, ReturnDecided.
    """
    order = await orders.get(order_id)
    found = rules.find_return(order, return_id)
    if found is None:
        raise NotFound
    rules.deciding(found, form.state)
    if form.state == "received":
        return await _receive(order, found, form.damaged, form.note, actor.id)
    by = actor.id if form.state == "approved" else ""
    decided = msgspec.structs.replace(found, state=form.state, note=form.note, approved_by=by)
    said = entry(f"return_{form.state}", by=actor.id, returned=found.id, reason=form.note)
    return await tell(order, [said], to={"$set": {"returns": _with(order, decided)}})


async def _receive(order: Order, found: Return, damaged: bool, note: str, by: str) -> Order:
    for location_id, quantities in sorted(rules.origins(order, found.lines).items()):
        await stock.take_back(order.id, location_id, quantities, damaged=damaged)
    lines: list[OrderLine] = rules.returning(order, found.lines)
    refund = rules.refund_for(order.lines, lines, order)
    received = msgspec.structs.replace(
        found, state="received", damaged=damaged, refund=refund, note=note or found.note, received_by=by
    )
    said = entry("return_received", by=by, returned=found.id, amount=refund)
    return await tell(order, [said], to={"$set": {"lines": lines, "returns": _with(order, received)}})


def _with(order: Order, changed: Return) -> list[Return]:
    return [changed if each.id == changed.id else each for each in order.returns]
