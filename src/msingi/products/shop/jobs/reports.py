"""Figures that follow from events, and sheets that are written and read in the background."""

import structlog

from msingi.kit.events import on
from msingi.kit.jobs import cron
from msingi.products.shop.actions import reports, sales
from msingi.products.shop.actions.reports import make
from msingi.products.shop.actions.sales import rebuild_sales
from msingi.products.shop.contract import OrderMoved, OrderPlaced
from msingi.products.shop.models.orders import orders
from msingi.products.shop.rules.orders import find_entry, may_be
from msingi.products.shop.rules.reports import COUNTING

__all__ = ["make", "rebuild_sales"]  # what actions ask for
log = structlog.get_logger("shop.sheets")


@on(OrderPlaced)
async def count_placed(event: OrderPlaced) -> None:
    await sales.work_out(await orders.get(event.order_id))


@on(OrderMoved)
async def count_moved(event: OrderMoved) -> None:
    """An order's row follows from the whole order, so only what may change it is looked at."""
    if may_be(event, COUNTING):
        order = await orders.get(event.order_id)
        said = find_entry(order, event.entry)
        if said is not None and said.kind in COUNTING:
            await sales.work_out(order)


@cron("*/5 * * * * *", retries=0)
async def add_up_sales() -> None:
    """Bring the days up to date. Where nothing was sold it is one look at an index."""
    await sales.add_up()


@cron("41 * * * *")
async def sweep_sheets() -> None:
    """Remove what was kept long enough."""
    while count := await reports.sweep():
        log.info("sheets_swept", count=count)
