"""What follows when goods move: it is written down, and who has to order more is told."""

from msingi.kit import mail, state
from msingi.kit.events import on
from msingi.kit.jobs import cron
from msingi.products.shop.actions import stock
from msingi.products.shop.contract import StockMoved, StockRanLow
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries import stock as queries


@on(StockMoved)
async def write_down(event: StockMoved) -> None:
    await stock.write_down(event)
    await stock.tell_when_low(event.stock_id)


@on(StockRanLow)
async def write_low_letter(event: StockRanLow) -> None:
    to = state.part(ShopSettings).stock_email
    if to:
        said = await queries.names(event.variant_id, event.location_id)
        await mail.send("stock_low", to=to, unsold=event.unsold, low_at=event.low_at, **said)


@cron("*/5 * * * *")
async def tidy_holds() -> None:
    """Take away the holds that ended on stocks that nobody has written to since."""
    while found := await queries.with_ended_holds():
        for each in found:
            await stock.tidy(each)
