"""Reports and sheets, over HTTP."""

from collections.abc import AsyncIterator, Sequence
from datetime import date
from hashlib import blake2b
from typing import Annotated, TypeVar

import msgspec
from litestar.params import Parameter
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from msingi.kit import files, state
from msingi.kit.actors import Actor
from msingi.kit.db import Page, Paging
from msingi.kit.errors import UnsupportedMedia, allow
from msingi.kit.http import AnyRequest, Body, Given, Path, Query, delete, get, post
from msingi.kit.replies import KitResponse
from msingi.products.shop import exports, sheets
from msingi.products.shop.actions import reports as acting
from msingi.products.shop.actions import sales
from msingi.products.shop.models.reports import Format, Sheet
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries import reports as queries
from msingi.products.shop.queries.reports import Funnel, SalesReport
from msingi.products.shop.queries.sales import zone
from msingi.products.shop.rules import reports as rules
from msingi.products.shop.rules.catalogue import BadSheetFormat
from msingi.products.shop.rules.reports import BadSpan, NotWritten, Step, StillWritten, TooManySheets
from msingi.products.shop.schemas.reports import (
    CurrenciesView,
    SheetForm,
    SheetView,
    StockAlertsView,
    TopProductsView,
    sheet_view,
)

SEE = "shop:reports"
Since = Annotated[date | None, Parameter(description="the first day, such as `2026-01-01`; absent: a month's before")]
Until = Annotated[date | None, Parameter(description="the last day, which is included; absent: today")]
Currency = Annotated[str, Parameter(pattern="^([A-Z]{3})?$", description="absent: the shop's own")]
Few = Annotated[int, Parameter(ge=1, le=queries.MOST)]
T = TypeVar("T")


# ---- figures


@get("/reports/sales", permission=SEE, problems=[BadSpan])
async def report_sales(
    since: Query[Since] = None, until: Query[Until] = None, currency: Query[Currency] = "", step: Query[Step] = "day"
) -> KitResponse[SalesReport]:
    """Sales in one currency, by day, week or month of the shop, with the same length of time before."""
    first, last = rules.checked_span(since, until, queries.today())
    return _tagged(await queries.sales(first, last, _currency(currency), step))


@get("/reports/products", permission=SEE, problems=[BadSpan])
async def report_products(
    since: Query[Since] = None, until: Query[Until] = None, currency: Query[Currency] = "", limit: Query[Few] = 10
) -> KitResponse[TopProductsView]:
    """The products that brought most."""
    first, last = rules.checked_span(since, until, queries.today())
    chosen = _currency(currency)
    items = await queries.top_products(first, last, chosen, limit)
    return _tagged(TopProductsView(currency=chosen, since=first, until=last, items=items))


@get("/reports/funnel", permission=SEE, problems=[BadSpan])
async def report_funnel(since: Query[Since] = None, until: Query[Until] = None) -> KitResponse[Funnel]:
    """How many carts became orders, and how far these came by now."""
    return _tagged(await queries.funnel(*rules.checked_span(since, until, queries.today())))


@get("/reports/stock-alerts", permission=SEE)
async def report_stock_alerts(limit: Query[Few] = 100) -> KitResponse[StockAlertsView]:
    """What runs low, the least first."""
    return _tagged(StockAlertsView(items=await queries.stock_alerts(limit)))


@get("/reports/currencies", permission=SEE)
async def report_currencies() -> KitResponse[CurrenciesView]:
    """In which currencies anything was sold, the most orders first."""
    return _tagged(CurrenciesView(items=await queries.currencies()))


@post("/reports/rebuilding", permission=SEE, status_code=202, idempotency="off", limit="10/hour")
async def rebuild_reports() -> None:
    """Have all figures worked out again from the orders, in the background."""
    await sales.ask_rebuild()


def _currency(given: str) -> str:
    return given or state.part(ShopSettings).currency


def _tagged(view: T) -> KitResponse[T]:
    """With an ETag of all that it says."""
    mark = blake2b(msgspec.json.encode(view), digest_size=8).hexdigest()
    return KitResponse(view, headers={"ETag": f'"{mark}"'})


# ---- sheets


@get("/sheets", permission=SEE)
async def list_sheets(page: Given[Paging]) -> Page[SheetView]:
    """The sheets of the last days, the newest first."""
    return (await queries.sheets(page)).map(sheet_view)


@post("/sheets", permission=SEE, status_code=202, problems=[BadSpan, BadSheetFormat, TooManySheets])
async def ask_for_sheet(data: Body[SheetForm], actor: Given[Actor]) -> KitResponse[SheetView]:
    """Have a table written, in the background."""
    allow(actor.may(rules.NEEDS[data.kind]))
    sheet = await acting.ask_export(
        data.kind, data.format, actor.id, since=data.since, until=data.until, currency=data.currency or ""
    )
    return _accepted(sheet)


@post(
    "/sheets/imports",
    permission="shop:catalogue",
    status_code=202,
    idempotency="off",  # the same table again changes nothing
    max_body=acting.LARGEST,
    problems=[UnsupportedMedia, TooManySheets],
)
async def ask_for_import(
    request: AnyRequest, actor: Given[Actor], dry_run: Query[bool] = False
) -> KitResponse[SheetView]:
    """Have a large table of goods (`text/csv` or XLSX) read, in the background."""
    media = sheets.media_of(request.headers.get("content-type", ""))
    format: Format = "csv" if media == sheets.CSV else "xlsx"
    return _accepted(await acting.ask_import(format, await request.body(), actor.id, dry_run=dry_run))


def _accepted(sheet: Sheet) -> KitResponse[SheetView]:
    return KitResponse(sheet_view(sheet), status_code=202, headers={"Location": f"/v1/shop/sheets/{sheet.id}"})


@get("/sheets/{sheet_id:str}", permission=SEE)
async def show_sheet(sheet_id: Path[str]) -> SheetView:
    """One sheet, and how far it is."""
    return sheet_view(await queries.sheet(sheet_id))


@get("/sheets/{sheet_id:str}/file", permission=SEE, problems=[NotWritten])
async def fetch_sheet(sheet_id: Path[str], actor: Given[Actor]) -> Stream:
    """What was written, for whoever may see all that is in it."""
    sheet = await queries.sheet(sheet_id)
    allow(actor.may(rules.NEEDS[sheet.kind]))
    if sheet.file is None:
        raise NotWritten(state=sheet.state)
    pieces = files.read_private(sheet.file)
    first = await anext(pieces, b"")  # so that one that is gone is 404, and not an answer cut short
    name = f"{sheet.kind}-{sheet.created_at.astimezone(zone()):%Y-%m-%d}.{sheet.format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}

    async def flow() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return Stream(flow(), media_type=exports.MEDIA[sheet.format], headers=headers)


@delete("/sheets/{sheet_id:str}", permission=SEE, problems=[StillWritten])
async def remove_sheet(sheet_id: Path[str], actor: Given[Actor]) -> None:
    """Remove a sheet and its file."""
    allow(actor.may(rules.NEEDS[(await queries.sheet(sheet_id)).kind]))
    await acting.remove(sheet_id)


routes: Sequence[ControllerRouterHandler] = [
    report_sales,
    report_products,
    report_funnel,
    report_stock_alerts,
    report_currencies,
    rebuild_reports,
    list_sheets,
    ask_for_sheet,
    ask_for_import,
    show_sheet,
    fetch_sheet,
    remove_sheet,
]
