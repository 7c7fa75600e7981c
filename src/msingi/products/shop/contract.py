"""What other products may know of the shop."""

from datetime import datetime
from typing import Literal

from msgspec import field

from msingi.kit.clock import now
from msingi.kit.db import Row
from msingi.kit.events import Event
from msingi.kit.ids import new_id

Movement = Literal["received", "counted", "allocated", "released", "shipped", "returned", "damaged", "moved"]


class StockMoved(Event, frozen=True, tag="shop.stock_moved"):
    """Something came, went or was set aside. `on_hand` and `allocated` say by how much each changed.

    It carries its own id, so that whoever writes it down does so under that.
    """

    stock_id: str
    kind: Movement
    on_hand: int
    allocated: int
    reason: str = ""  # the order, delivery, count or return that it is of
    by: str = ""
    id: str = field(default_factory=new_id)
    at: datetime = field(default_factory=now)

    def envelope(self) -> Row:
        """The event as it is carried, under its own id."""
        return super().envelope() | {"_id": self.id, "at": self.at}


class StockRanLow(Event, frozen=True, tag="shop.stock_ran_low"):
    """What is not yet sold of a variant at a place came down to what somebody wants to be told of."""

    variant_id: str
    location_id: str
    unsold: int
    low_at: int


class OrderPlaced(Event, frozen=True, tag="shop.order_placed"):
    """Somebody ordered; it is held for them, and waits to be paid."""

    order_id: str


class OrderMoved(Event, frozen=True, tag="shop.order_moved"):
    """An order is in another state, or something happened to it that its history tells."""

    order_id: str
    before: str
    after: str
    entry: str  # of its timeline
    kind: str = ""  # of that entry; none in events of before there was such a field


class PaymentChanged(Event, frozen=True, tag="shop.payment_changed"):
    """What is known of a payment has changed; the totals are all that was ever captured and refunded."""

    payment_id: str
    purpose: str
    state: str
    captured: int
    refunded: int


class ProductChanged(Event, frozen=True, tag="shop.product_changed"):
    """Something that buyers see of a product has changed, or it is gone."""

    product_id: str


class WebhookTurnedOff(Event, frozen=True, tag="shop.webhook_turned_off"):
    """An endpoint is told of nothing any more: `failing`, it took nothing for days; or `gone`, it said so."""

    endpoint_id: str
    reason: str
