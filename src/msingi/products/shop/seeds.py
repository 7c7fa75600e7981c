"""The small world to click through: goods, where they lie, what they cost, and people who work here."""

from msingi.kit import state
from msingi.products.shop.models.catalogue import products
from msingi.products.shop.seeds_of_goods import plant_goods
from msingi.products.shop.seeds_of_pricing import plant_pricing
from msingi.products.shop.seeds_of_stock import AMOUNTS, plant_stock

PLENTY, FEW = 40, 2  # of each variant in the demonstration, and of every ninth


async def plant() -> None:
    """Plant it: eight goods in tests, two hundred to click through."""
    await plant_goods()
    await plant_stock(AMOUNTS if state.settings().env == "test" else await _amounts())
    await plant_pricing()


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
