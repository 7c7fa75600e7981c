"""What is read of sales: a row for each order, what they add up to day by day, and sheets that are made of it all.

A row is worked out of its order and of nothing else, so it may be worked out again at any time. `seen` is the version
of the order that it shows: an older one never takes the place of a newer. A day is added up anew from all its rows, so
that no figure is ever counted up or down.
"""

from datetime import date
from typing import Any, Literal

from msgspec import Struct

from msingi.kit.db import Collection, Doc, Index

SheetKind = Literal["products", "orders", "sales", "stock", "movements", "import"]
Format = Literal["csv", "xlsx", "json"]
SheetState = Literal["queued", "running", "done", "failed"]


class Figures(Struct, kw_only=True):
    """What happened on a day, in one currency, in minor units; `rules.reports` says what counts when.

    `net = gross - discount + shipping - refunded`, which is what buyers owed, less what went back to them.
    """

    orders: int = 0
    items: int = 0
    gross: int = 0
    discount: int = 0
    shipping: int = 0
    tax: int = 0
    refunded: int = 0
    net: int = 0
    ordered: int = 0  # this and the three below: of the orders that were placed on this day
    paid: int = 0
    sent: int = 0
    delivered: int = 0


class Sold(Struct, kw_only=True):
    """What happened on a day with one product."""

    quantity: int = 0
    returned: int = 0
    revenue: int = 0


class DayPart(Figures, kw_only=True):
    """An order's part of a day."""

    day: str  # 2026-01-31, on the calendar of the shop


class ProductPart(Sold, kw_only=True):
    """An order's part of a day of a product."""

    day: str
    product_id: str


class Sale(Doc, kw_only=True):
    """What an order means to the figures; the id is the order's."""

    currency: str
    seen: int  # the order's version
    days: list[DayPart] = []
    products: list[ProductPart] = []
    counted: bool = False  # whether its days were added up since it was written


class SalesDay(Doc, kw_only=True):
    """The id is `<currency>|<day>`. `seen` adds up what its rows saw: it only grows, so that of two sums the one that
    saw more stays."""

    currency: str
    day: str
    sums: Figures
    seen: int


class ProductDay(Doc, kw_only=True):
    """The id is `<currency>|<day>|<product>`."""

    currency: str
    day: str
    product_id: str
    sums: Sold
    seen: int


class SheetFilters(Struct, frozen=True):
    """What of it: days on the calendar of the shop, both included."""

    since: date | None = None
    until: date | None = None
    currency: str = ""


class Sheet(Doc, kw_only=True):
    """A table that a job writes, or one that it reads. `file` is its key in kit.files, once it is whole."""

    kind: SheetKind
    format: Format
    by: str
    state: SheetState = "queued"
    done: int = 0  # rows, or products
    of: int | None = None
    error: str = ""  # the code of what went wrong
    reason: str = ""  # and what it says
    file: str | None = None
    size: int = 0  # bytes
    filters: SheetFilters = SheetFilters()
    dry_run: bool = False
    result: dict[str, Any] | None = None  # of an import: what came of it
    tries: int = 0


UNDER_WAY = {"state": {"$in": ["queued", "running"]}}
sales = Collection(
    Sale,
    "sales",
    indexes=[
        "currency days.day",
        Index("updated_at", where={"counted": False}),
    ],
)
sales_days = Collection(SalesDay, "sales_days", indexes=["day"])
product_days = Collection(ProductDay, "product_days")
sheets = Collection(
    Sheet,
    "sheets",
    indexes=["created_at", Index("by", where=UNDER_WAY), Index("updated_at", where=UNDER_WAY)],
)
