"""All goods to take away, as CSV, XLSX or JSON: written product by product, so that their number costs no memory."""

import asyncio
import tempfile
from collections.abc import AsyncIterator

import msgspec

from msingi.kit.clock import now
from msingi.products.shop import sheets
from msingi.products.shop.models.catalogue import Product
from msingi.products.shop.queries import catalogue as queries
from msingi.products.shop.rules import catalogue_rows as rows
from msingi.products.shop.schemas.catalogue import ManagedProduct

MEDIA = {"csv": f"{sheets.CSV}; charset=utf-8", "xlsx": sheets.XLSX, "json": "application/json"}
TOGETHER = 100  # products that go out in one piece
PIECE = 64 * 1024  # bytes


def export(format: str) -> AsyncIterator[bytes]:
    """The bytes of an export, in pieces."""
    return {"csv": _csv, "xlsx": _xlsx, "json": _json}[format]()


async def _batches() -> AsyncIterator[list[Product]]:
    batch: list[Product] = []
    async for product in queries.each_product():
        batch.append(product)
        if len(batch) == TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


async def _tables() -> AsyncIterator[list[list[str]]]:
    """The heading, and then some rows at a time."""
    currencies = await queries.currencies_in_use()
    slugs: dict[str | None, str] = {each.id: each.slug for each in (await queries.tree()).items}
    yield [rows.columns(currencies)]
    async for batch in _batches():
        yield [row for each in batch for row in rows.rows_of(each, slugs.get(each.category_id, ""), currencies)]


async def _csv() -> AsyncIterator[bytes]:
    async for some in _tables():
        yield sheets.csv_lines(some)


async def _xlsx() -> AsyncIterator[bytes]:
    with tempfile.TemporaryFile() as file:
        book = sheets.Book(file)
        async for some in _tables():
            book.add(some)
        await asyncio.to_thread(book.close)
        file.seek(0)
        while piece := file.read(PIECE):
            yield piece


async def _json() -> AsyncIterator[bytes]:
    yield b'{"exported_at":' + msgspec.json.encode(now()) + b',"products":['
    between = b""
    async for batch in _batches():
        yield between + b",".join(msgspec.json.encode(ManagedProduct.of(each)) for each in batch)
        between = b","
    yield b"]}"
