"""What somebody means to buy. Its version is what a checkout agrees to."""

from datetime import datetime

from msgspec import Struct

from msingi.kit.db import Collection, Doc, Index
from msingi.products.shop.models.catalogue import Words

GUESTS_KEPT = 30 * 24 * 3600  # seconds after the last change


class CartLine(Struct, frozen=True, kw_only=True):
    """So many of a variant, at the price that was last agreed to; None: none was, in the cart's currency."""

    variant_id: str
    quantity: int
    price: int | None  # minor units each
    title: Words = Words(en="")  # to name it by when it is sold no more


class Cart(Doc):
    """Of a person (the id is `user.<id>`), or of a guest who knows the token (`guest.<hash of the token>`)."""

    currency: str = "KES"
    lines: list[CartLine] = []
    coupons: list[str] = []  # codes, in capitals
    owner_id: str | None = None
    expires_at: datetime | None = None  # of a guest's
    reminded_at: datetime | None = None  # when its owner was written to; None again once it is empty


carts = Collection(
    Cart,
    "carts",
    indexes=[
        Index("expires_at", expires_after=0),
        Index("updated_at", where={"lines.0": {"$exists": True}}),  # those that hold something, for the funnel
        Index("updated_at", where={"owner_id": {"$type": "string"}, "reminded_at": None}),
    ],
)
