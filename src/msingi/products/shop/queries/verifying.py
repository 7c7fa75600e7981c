"""Everything that the shop counts, derived again from what happened."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from msingi.kit.drift import Drift
from msingi.kit.payments import ledger
from msingi.kit.payments.models import payments
from msingi.products.shop.models.orders import Order, orders
from msingi.products.shop.models.stock import stock_id, stocks
from msingi.products.shop.queries import invoices, sales, stock
from msingi.products.shop.queries.coupon_uses import Uses
from msingi.products.shop.rules import orders as rules

SETTLED_IN = 2.0  # seconds after which what was under way has become true in one place and the other


class Moved(Struct):
    """What the payments of one purpose add up to."""

    purpose: str
    captured: int
    refunded: int


async def verify() -> list[Drift]:
    """What does not agree: stock with its movements and with orders, orders with their lines and payments, the
    ledger, the figures of reports with orders, the numbers of papers, and how often coupons are used.

    A shop that runs is always between two writes somewhere, so what does not agree is looked at once more.
    """
    first = await _look()
    if not first:
        return []
    await asyncio.sleep(SETTLED_IN)
    again = await _look()
    return [drift for drift in first if drift in again]


async def _look() -> list[Drift]:
    allocated: Counter[str] = Counter()
    found: list[Drift] = []
    moved = {each.purpose: each for each in await _moved()}
    uses = Uses()
    async for order in orders.each({}):
        uses.see(order)
        found += [*_sums(order), *_paid(order, moved.pop(rules.purpose_of(order.id), None))]
        if order.state in rules.CONFIRMED:
            for (variant, place), much in rules.unshipped(order).items():
                allocated[stock_id(variant, place)] += much
    found += [Drift("payments_of_no_order", purpose, 0, each.captured) for purpose, each in moved.items()]
    async for kept in stocks.each({}):
        much = allocated.pop(kept.id, 0)
        if kept.allocated != much:
            found.append(Drift("stock_allocated_to_orders", kept.id, much, kept.allocated))
    found += [Drift("stock_allocated_to_orders", id, much, 0) for id, much in allocated.items() if much]
    return [
        *found,
        *await stock.verify(),
        *await ledger.verify("shop"),
        *await sales.verify(),
        *await invoices.verify(),
        *await uses.drifts(),
    ]


async def _moved() -> list[Moved]:
    """What was captured and refunded, by purpose."""
    sums = {name: {"$sum": f"${name}"} for name in ("captured", "refunded")}
    grouped: list[dict[str, Any]] = [
        {"$match": {"captured": {"$gt": 0}}},
        {"$group": {"_id": "$purpose", **sums}},
        {"$project": {"_id": 0, "purpose": "$_id", "captured": 1, "refunded": 1}},
    ]
    return await payments("shop").aggregate(grouped, Moved)


def _sums(order: Order) -> Iterator[Drift]:
    """The sums of an order that its lines do not add up to."""
    totals = order.totals
    added = sum(line.tax.amount for line in order.lines if not line.tax.included)
    if not order.shipping_tax.included:
        added += order.shipping_tax.amount
    expected = {
        "goods": sum(line.quantity * line.price for line in order.lines),
        "tax_added": added,
        "total": totals.goods - totals.discount + totals.shipping + totals.tax_added + totals.rounding,
    }
    for name, much in expected.items():
        if getattr(totals, name) != much:
            yield Drift(f"order_{name}", order.id, much, getattr(totals, name))
    for line in order.lines:
        much = line.quantity * line.price - line.discount + (0 if line.tax.included else line.tax.amount)
        if line.total != much:
            yield Drift("order_line_total", f"{order.id}/{line.id}", much, line.total)


def _paid(order: Order, moved: Moved | None) -> Iterator[Drift]:
    captured, refunded = (moved.captured, moved.refunded) if moved else (0, 0)
    if order.paid != captured:
        yield Drift("order_paid", order.id, captured, order.paid)
    if order.refunded != refunded:
        yield Drift("order_refunded", order.id, refunded, order.refunded)
