"""What merchants are told by webhook: which events there are, and what a message says of each.

A message says what happened to which thing, in which state that left it, and where to ask for the rest. It holds
nothing of any person: it goes out into the world, is kept for a month, and is the same each time that it is sent, while
what it tells of may have gone on; whoever needs more asks, signed in, and gets how things stand.
"""

from collections.abc import Mapping
from typing import Any

from msingi.kit.payments.models import Payment
from msingi.products.shop.contract import OrderMoved, PaymentChanged, StockRanLow
from msingi.products.shop.models.orders import Entry, Order
from msingi.products.shop.rules.orders import order_of

KINDS: Mapping[str, str] = {
    "order.placed": "Somebody ordered; the goods are held until it is paid.",
    "order.confirmed": "It is paid, and the goods are allocated: it can be sent.",
    "order.shipped": "All of it, or a part, is on its way.",
    "order.delivered": "A shipment arrived.",
    "order.cancelled": "It was cancelled, by who ordered or by staff.",
    "order.rest_cancelled": "What was not sent yet will not be.",
    "order.expired": "Nobody paid in time.",
    "order.short": "It was paid when the goods were gone; a person decides.",
    "order.refunded": "Money went back.",
    "order.return_asked": "Somebody wants to send goods back.",
    "order.return_received": "Goods came back.",
    "payment.authorised": "Money is set aside.",
    "payment.captured": "Money is ours.",
    "payment.refunded": "Some of what was captured went back.",
    "payment.failed": "It is over, without money.",
    "payment.voided": "What was set aside is free again.",
    "payment.unknown": "Nobody can tell at the moment whether money moved; it is being asked about.",
    "product.changed": "Something that buyers see of it changed, or it is gone.",
    "stock.low": "There is little left of a variant at a place.",
}
# The lines of an order's history that are told, by their kinds.
OF_ORDERS: Mapping[str, str] = {
    **{name: f"order.{name}" for name in ("confirmed", "shipped", "delivered", "cancelled", "rest_cancelled")},
    **{name: f"order.{name}" for name in ("expired", "short", "refunded", "return_asked", "return_received")},
    "delivered_without_code": "order.delivered",
}


def about_order(order: Order, state: str, base: str) -> dict[str, Any]:
    """What a message says of an order, in the state that this event left it in."""
    return {"id": order.id, "number": order.number, "state": state, "url": f"{base}/v1/shop/orders/{order.id}"}


def about_move(order: Order, event: OrderMoved, said: Entry, base: str) -> dict[str, Any]:
    """The same for a line of its history: with the sum, if it is about money, and the shipment, if about one."""
    details: dict[str, Any] = {}
    if said.kind == "refunded":
        details = {"amount": int(said.details.get("amount", 0)), "currency": order.currency}
    elif "shipment" in said.details:
        details = {"shipment_id": said.details["shipment"]}
    return {**about_order(order, event.after, base), **details}


def payment_kind(event: PaymentChanged) -> str | None:
    """What is told of a payment that changed; None: nothing that anybody has to do with yet."""
    kind = "payment.refunded" if event.refunded else f"payment.{event.state}"
    return kind if kind in KINDS else None


def about_payment(payment: Payment, event: PaymentChanged, base: str) -> dict[str, Any]:
    """What a message says of a payment."""
    return {
        "id": event.payment_id,
        "order_id": order_of(event.purpose),
        "state": event.state,
        "currency": payment.currency,
        "captured": event.captured,
        "refunded": event.refunded,
        "url": f"{base}/v1/shop/payments/{event.payment_id}",
    }


def about_stock(event: StockRanLow, base: str) -> dict[str, Any]:
    """What a message says of stock that runs low."""
    return {
        "variant_id": event.variant_id,
        "location_id": event.location_id,
        "unsold": event.unsold,
        "low_at": event.low_at,
        "url": f"{base}/v1/shop/stock/{event.variant_id}/{event.location_id}",
    }
