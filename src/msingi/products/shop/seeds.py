"""The small world to click through: goods, where they lie, what they cost, and people who work here."""

from datetime import timedelta

from msingi.kit import state
from msingi.kit.clock import now
from msingi.products.shop.actions.catalogue import rank_by_sold
from msingi.products.shop.models.catalogue import products
from msingi.products.shop.seeds_of_goods import plant_goods
from msingi.products.shop.seeds_of_orders import DAYS, plant_orders
from msingi.products.shop.seeds_of_pricing import plant_pricing
from msingi.products.shop.seeds_of_stock import AMOUNTS, plant_stock

PLENTY, FEW = 40, 2  # of each variant in the demonstration, and of every ninth
LOW = 5  # when somebody is told


async def plant() -> None:
    """Plant it: eight goods in tests; to click through two hundred, and the orders of two months."""
    await plant_goods()
    await plant_pricing()
    if state.settings().env == "test":
        await plant_stock(AMOUNTS)
        return
    amounts = await _amounts()
    await plant_stock(amounts, low_at=LOW, at=now() - timedelta(days=DAYS + 2))
    await plant_orders([id for id, much in amounts["nairobi"].items() if much == PLENTY])
    await rank_by_sold()


async def _amounts() -> dict[str, dict[str, int]]:
    """Enough of everything in Nairobi, except that some is nearly gone; some of it in Mombasa too."""
    tracked = [
        variant.id
        for product in await products.many({}, sort=[("_id", 1)])
        for variant in product.variants
        if variant.tracked
    ]
    nairobi = {id: FEW if number % 9 == 0 else PLENTY for number, id in enumerate(tracked)}
    return {"nairobi": nairobi, "mombasa": dict.fromkeys(tracked[::3], PLENTY // 2)}
