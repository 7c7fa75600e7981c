"""What goes over the wire of reports and sheets."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field, to_builtins

from msingi.kit.db import Form, View
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.reports import Format, Sheet, SheetKind, SheetState
from msingi.products.shop.schemas.catalogue import CurrencyCode

Day = Annotated[date, Meta(examples=["2026-01-31"])]
Step = Literal["day", "week", "month"]


class SalesPoint(Struct, kw_only=True):
    """One step of a report, in minor units. `net = gross - discount + shipping - refunded`.

    An order counts on the day on which it was confirmed, a refund on the day on which the money went. `gross` are the
    goods at their prices and the tax that is added to them, `discount` all that was taken off, rounding too; `tax` is
    all tax, contained and added, and is no part of the sum.
    """

    day: date  # the first of its step
    orders: int = 0
    items: int = 0
    gross: int = 0
    discount: int = 0
    shipping: int = 0
    tax: int = 0
    refunded: int = 0
    net: int = 0


class SalesReport(Struct, kw_only=True):
    """A point for every step, zeros too. `before` is the same length of time right before."""

    currency: str
    step: Step
    since: date
    until: date
    points: list[SalesPoint]
    total: SalesPoint
    before: SalesPoint


class TopProduct(Struct, kw_only=True):
    """`revenue`: what buyers owed for it, less discounts; not less what went back."""

    product_id: str
    slug: str
    title: Words
    quantity: int
    returned: int
    revenue: int


class Funnel(Struct, kw_only=True):
    """How far they came by now, of those that began in the span."""

    carts: int
    ordered: int
    paid: int
    sent: int
    delivered: int


class StockAlert(Struct, kw_only=True):
    """So few are unsold at a place that somebody wants to be told."""

    variant_id: str
    sku: str
    title: Words
    location_id: str
    location_name: str
    unsold: int
    low_at: int


class TopProductsView(View):
    currency: str
    since: date
    until: date
    items: list[TopProduct]


class StockAlertsView(View):
    items: list[StockAlert]


class CurrenciesView(View):
    items: list[str]


class SheetForm(Form):
    """`since`, `until`: of orders, sales and movements; `currency`: of sales."""

    kind: Literal["products", "orders", "sales", "stock", "movements"]
    format: Format = "csv"
    since: Day | None = None
    until: Day | None = None
    currency: CurrencyCode | None = None


class SheetView(View):
    """A sheet. `file` is where it can be fetched, once it is done."""

    id: str
    created_at: datetime
    updated_at: datetime
    version: int
    kind: SheetKind
    format: Format
    by: str
    state: SheetState
    done: int
    all: int | None = field(name="of")  # a view's own `of` is how it is made
    error: str
    reason: str
    size: int
    since: date | None
    until: date | None
    currency: str
    dry_run: bool
    result: dict[str, Any] | None
    file: str | None


def sheet_view(sheet: Sheet) -> SheetView:
    file = f"/v1/shop/sheets/{sheet.id}/file" if sheet.file else None
    view: SheetView = SheetView.of(sheet, **to_builtins(sheet.filters), of=sheet.of, file=file)
    return view
