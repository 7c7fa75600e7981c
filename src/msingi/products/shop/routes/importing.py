"""Goods to and from tables, over HTTP."""

from collections.abc import Sequence
from typing import Annotated

from litestar.params import Parameter
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from msingi.kit.errors import UnsupportedMedia
from msingi.kit.http import AnyRequest, Query, get, post
from msingi.products.shop import exports, sheets
from msingi.products.shop.actions.importing import import_goods
from msingi.products.shop.rules import catalogue as rules
from msingi.products.shop.schemas.catalogue import ImportView


@post(
    "/catalogue/imports",
    permission="shop:catalogue",
    status_code=200,
    idempotency="off",  # the same table again changes nothing
    max_body=sheets.LARGEST,
    problems=[sheets.BadSheet, UnsupportedMedia],
)
async def import_products(request: AnyRequest, dry_run: Query[bool] = False) -> ImportView:
    """Bring goods up to date with a table (`text/csv` or XLSX). `dry_run` says what it would do, and does nothing."""
    return await import_goods(request.headers.get("content-type", ""), await request.body(), dry_run=dry_run)


@get("/catalogue/export", permission="shop:catalogue", problems=[rules.BadSheetFormat])
async def export_products(
    format: Query[Annotated[str, Parameter(description="csv, xlsx or json")]] = "csv",
) -> Stream:
    """All goods to take away; csv and xlsx can be changed and imported again."""
    if format not in exports.MEDIA:
        raise rules.BadSheetFormat
    headers = {"Content-Disposition": f'attachment; filename="goods.{format}"'}
    return Stream(exports.export(format), media_type=exports.MEDIA[format], headers=headers)


routes: Sequence[ControllerRouterHandler] = [import_products, export_products]
