"""How much there is, and where. One document decides about one variant at one place.

A hold belongs to an order and ends by the database's clock, whoever looks; an expired one counts for nothing even
while it is still written there. `on_hand` is what lies on the shelf, `allocated` what of it belongs to paid orders;
what can still be sold is `on_hand - allocated - (the holds that have not ended)`.
"""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from msingi.kit.db import Collection, Doc, Index
from msingi.products.shop.contract import Movement
from msingi.products.shop.models.holds import Expression, live

Level = Literal["in_stock", "few", "none"]  # what guests are told
Count = Annotated[int, Meta(ge=0)]  # the database itself refuses less than nothing


class Location(Doc):
    """A place where goods lie: a shop, a warehouse. Lower ones are asked first; `pick_up` ones hand goods over."""

    name: str
    country: str = "KE"
    town: str = ""
    address: str = ""
    priority: int = 0
    pick_up: bool = False
    closed: bool = False


class Hold(Struct, frozen=True):
    """Set aside for an order until then."""

    order_id: str
    quantity: Annotated[int, Meta(ge=1)]
    until: datetime


class Stock(Doc):
    """The id is `<variant>.<location>`, so there is one for each."""

    variant_id: str
    location_id: str
    on_hand: Count = 0
    allocated: Count = 0
    holds: list[Hold] = []
    low_at: Count = 0  # when no more than so many are not yet sold, somebody is told; 0: nobody
    low_told: bool = False


class MovementRow(Doc):
    """What happened to a stock, written from its event; the id is the event's, and so is `created_at`."""

    stock_id: str
    variant_id: str
    location_id: str
    kind: Movement
    on_hand: int
    allocated: int
    reason: str = ""
    by: str = ""


locations = Collection(Location, "locations", indexes=["priority"])
stocks = Collection(
    Stock,
    "stocks",
    indexes=[
        "variant_id",
        "location_id variant_id",
        Index("location_id", where={"holds.0": {"$exists": True}}),  # what there is to tidy
        Index("low_at", where={"low_at": {"$gt": 0}}),
    ],
)
movements = Collection(
    MovementRow,
    "movements",
    indexes=[
        "-created_at -_id",
        "variant_id -created_at -_id",
        "location_id -created_at -_id",
        "reason -created_at -_id",
        "stock_id",
    ],
)


def stock_id(variant_id: str, location_id: str) -> str:
    """The stock of a variant at a place."""
    return f"{variant_id}.{location_id}"


def place_of(stock: str) -> tuple[str, str]:
    """The variant and the location of a stock. An id of a location has no full stop in it; one of a variant may."""
    variant_id, _, location_id = stock.rpartition(".")
    return variant_id, location_id


# ---- what the database computes, by its own clock

UNSOLD: Expression = {"$subtract": ["$on_hand", "$allocated"]}


def live_holds(but: str = "") -> Expression:
    """The holds that have not ended, without those of the order `but`."""
    return live("$holds", but)


def held(but: str = "") -> Expression:
    """How much they set aside together."""
    return {"$sum": {"$map": {"input": live_holds(but), "in": "$$this.quantity"}}}


def free(but: str = "") -> Expression:
    """What can be sold now; to the order `but`, what it holds itself too."""
    return {"$subtract": [UNSOLD, held(but)]}


def has_free(quantity: int, but: str = "") -> Expression:
    """Whether so many can be sold, as a filter."""
    return {"$expr": {"$gte": [free(but), quantity]}}


def has_room(quantity: int, order_id: str, most: int) -> Expression:
    """Whether so many can be set aside for an order, and fewer than `most` other holds stand, as a filter.

    The holds are gone through once: on a document with a thousand of them that is what an update costs.
    """
    others = {"others": live_holds(order_id)}
    enough = {"$gte": [{"$subtract": [UNSOLD, {"$sum": "$$others.quantity"}]}, quantity]}
    return {"$expr": {"$let": {"vars": others, "in": {"$and": [enough, {"$lt": [{"$size": "$$others"}, most]}]}}}}
