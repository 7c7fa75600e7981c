"""Tables to take away, as CSV, XLSX or JSON: written thing by thing, so that their number costs no memory."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from datetime import date, datetime
from typing import NamedTuple, TypeVar

import msgspec

from msingi.kit import state
from msingi.kit.clock import now
from msingi.kit.db import Where
from msingi.products.shop import sheets
from msingi.products.shop.models.catalogue import Product
from msingi.products.shop.models.catalogue import products as goods
from msingi.products.shop.models.orders import Order, orders
from msingi.products.shop.models.reports import SheetFilters, SheetKind
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.models.stock import MovementRow, Stock, movements, stocks
from msingi.products.shop.queries import catalogue as queries
from msingi.products.shop.queries import reports
from msingi.products.shop.queries.sales import zone
from msingi.products.shop.rules import catalogue_rows as rows
from msingi.products.shop.rules.reports import bounds, checked_span
from msingi.products.shop.schemas.catalogue import ManagedProduct
from msingi.products.shop.sheets import Figure

MEDIA = {"csv": sheets.CSV, "xlsx": sheets.XLSX, "json": "application/json"}
TOGETHER = 100  # things that go out in one piece
PIECE = 64 * 1024  # bytes
T = TypeVar("T")


class Some(NamedTuple):
    """Some rows of a table, and of how many things they are."""

    things: int
    rows: list[list[str]]


Table = AsyncIterator[Some]  # the heading first, of no thing
Told = Callable[[int], Awaitable[None]]
Pieces = AsyncGenerator[bytes, None]


def export(format: str) -> Pieces:
    """The bytes of an export of all goods, in pieces."""
    return written("products", format, SheetFilters(), _nobody)


async def _nobody(things: int) -> None:
    """Nobody wants to know how far it is."""


def written(kind: SheetKind, format: str, filters: SheetFilters, told: Told) -> Pieces:
    """The bytes of a table, in pieces; `told` hears of how many more things each piece is. Raises TooManyRows."""
    if format == "json":
        return _json(told)
    table = TABLES[kind](filters)
    return _csv(table, told) if format == "csv" else _xlsx(table, told)


async def count(kind: SheetKind, filters: SheetFilters) -> int:
    """How many things there are to write at the moment."""
    if kind == "products":
        return await goods.raw.estimated_document_count()
    if kind == "stock":
        return await stocks.raw.estimated_document_count()
    if kind == "sales":
        since, until = _span(filters)
        return (until - since).days + 1
    return await (orders if kind == "orders" else movements).raw.count_documents(_within(filters))


# ---- how it is written


async def _csv(table: Table, told: Told) -> Pieces:
    async for some in table:
        yield sheets.csv_lines(some.rows)
        await told(some.things)


async def _xlsx(table: Table, told: Told) -> Pieces:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as file:
        with sheets.Book(file, folder) as book:
            async for some in table:
                book.add(some.rows)
                await told(some.things)
            await asyncio.to_thread(book.close)
        file.seek(0)
        while piece := file.read(PIECE):
            yield piece


async def _json(told: Told) -> Pieces:
    yield b'{"exported_at":' + msgspec.json.encode(now()) + b',"products":['
    between = b""
    async for batch in _batches(queries.each_product()):
        yield between + b",".join(msgspec.json.encode(ManagedProduct.of(each)) for each in batch)
        between = b","
        await told(len(batch))
    yield b"]}"


async def _batches(things: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    batch: list[T] = []
    async for each in things:
        batch.append(each)
        if len(batch) == TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


# ---- what is written


async def _products(filters: SheetFilters) -> Table:
    currencies = await queries.currencies_in_use()
    slugs: dict[str | None, str] = {each.id: each.slug for each in (await queries.tree()).items}
    yield Some(0, [rows.columns(currencies)])
    async for batch in _batches(queries.each_product()):
        cells = [row for each in batch for row in rows.rows_of(each, slugs.get(each.category_id, ""), currencies)]
        yield Some(len(batch), cells)


async def _orders(filters: SheetFilters) -> Table:
    """Without who ordered: a file that lies around somewhere is no place for that."""
    yield Some(0, [[*ORDER, *MONEY]])
    async for batch in _batches(orders.each(_within(filters), sort=[("created_at", 1)])):
        yield Some(len(batch), [_of_order(each) for each in batch])


ORDER = ("number", "placed_at", "state", "currency", "items", "coupons", "shipping_method")
MONEY = ("goods", "discount", "shipping", "tax", "tax_added", "rounding", "total", "paid", "refunded")


def _of_order(order: Order) -> list[str]:
    sums = {**msgspec.structs.asdict(order.totals), "paid": order.paid, "refunded": order.refunded}
    items = sum(line.quantity for line in order.lines)
    about = [order.number, _local(order.created_at), order.state, order.currency, Figure(items)]
    money = [_amount(sums[name], order.currency) for name in MONEY]
    return [*about, "; ".join(order.coupons), order.shipping_name.en, *money]


async def _sales(filters: SheetFilters) -> Table:
    since, until = _span(filters)
    currency = filters.currency or state.part(ShopSettings).currency
    report = await reports.sales(since, until, currency, "day")
    counts, money = ("orders", "items"), ("gross", "discount", "shipping", "tax", "refunded", "net")
    yield Some(0, [["day", "currency", *counts, *money]])
    for start in range(0, len(report.points), TOGETHER):
        batch = report.points[start : start + TOGETHER]
        yield Some(
            len(batch),
            [
                [
                    each.day.isoformat(),
                    currency,
                    *(Figure(getattr(each, name)) for name in counts),
                    *(_amount(getattr(each, name), currency) for name in money),
                ]
                for each in batch
            ],
        )


async def _stock(filters: SheetFilters) -> Table:
    yield Some(0, [["sku", "title_en", "variant", "location", "on_hand", "allocated", "unsold", "low_at"]])
    async for batch in _batches(stocks.each({}, sort=[("_id", 1)])):
        names = await _names([each.variant_id for each in batch])
        yield Some(len(batch), [_of_stock(each, *names.get(each.variant_id, ("", ""))) for each in batch])


def _of_stock(stock: Stock, sku: str, title: str) -> list[str]:
    figures = (stock.on_hand, stock.allocated, stock.on_hand - stock.allocated, stock.low_at)
    return [sku, title, stock.variant_id, stock.location_id, *map(Figure, figures)]


async def _names(variant_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The SKU of some variants, and what their products are called."""
    wanted = set(variant_ids)
    found: list[Product] = await goods.many({"variants.id": {"$in": sorted(wanted)}}, limit=len(wanted))
    return {each.id: (each.sku, product.title.en) for product in found for each in product.variants}


async def _movements(filters: SheetFilters) -> Table:
    yield Some(0, [["at", "variant", "location", "kind", "on_hand", "allocated", "reason", "by"]])
    async for batch in _batches(movements.each(_within(filters), sort=[("created_at", -1), ("_id", -1)])):
        yield Some(len(batch), [_of_movement(each) for each in batch])


def _of_movement(row: MovementRow) -> list[str]:
    about = [_local(row.created_at), row.variant_id, row.location_id, row.kind]
    return [*about, Figure(row.on_hand), Figure(row.allocated), row.reason, row.by]


TABLES: dict[SheetKind, Callable[[SheetFilters], Table]] = {
    "products": _products,
    "orders": _orders,
    "sales": _sales,
    "stock": _stock,
    "movements": _movements,
}


def _span(filters: SheetFilters) -> tuple[date, date]:
    return checked_span(filters.since, filters.until, reports.today())


def _within(filters: SheetFilters) -> Where:
    """What was made in some days of the shop."""
    since, until = _span(filters)
    begin, end = bounds(since, until, zone())
    return {"created_at": {"$gte": begin, "$lt": end}}


def _amount(amount: int, currency: str) -> Figure:
    """As people write amounts."""
    return Figure(f"{'-' if amount < 0 else ''}{rows.major(abs(amount), currency)}")


def _local(at: datetime) -> str:
    return at.astimezone(zone()).isoformat(timespec="seconds")
