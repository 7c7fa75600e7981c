"""Where goods lie in the small world, and how many."""

from collections.abc import Mapping
from datetime import datetime

from msingi.kit.clock import now
from msingi.kit.unit import atomic
from msingi.products.shop.models.stock import (
    Location,
    MovementRow,
    Stock,
    locations,
    movements,
    stock_id,
    stocks,
)

PLACES = [
    Location(id="nairobi", name="Nairobi, Biashara Street", town="Nairobi", address="Biashara Street 12", pick_up=True),
    Location(id="mombasa", name="Mombasa, Digo Road", town="Mombasa", address="Digo Road 3", priority=1),
]
AMOUNTS = {
    "nairobi": {"tea-250": 100, "coffee-500": 10, "kikoi-red": 5, "kikoi-blue": 1, "stove-1": 3},
    "mombasa": {"tea-250": 20},
}


@atomic
async def plant_stock(
    amounts: Mapping[str, Mapping[str, int]] = AMOUNTS, *, low_at: int = 0, at: datetime | None = None
) -> None:
    """Both places, and so many of each variant there, with the movements that brought them (`at` some time, or now)."""
    await locations.add_many(PLACES)
    there = [(variant, place, much) for place, here in amounts.items() for variant, much in here.items()]
    kept = [
        Stock(id=stock_id(variant, place), variant_id=variant, location_id=place, on_hand=much, low_at=low_at)
        for variant, place, much in there
    ]
    await stocks.add_many(kept)
    await movements.add_many([_received(each, at or now()) for each in kept])


def _received(stock: Stock, at: datetime) -> MovementRow:
    return MovementRow(
        created_at=at,
        updated_at=at,
        stock_id=stock.id,
        variant_id=stock.variant_id,
        location_id=stock.location_id,
        kind="received",
        on_hand=stock.on_hand,
        allocated=0,
        reason="opening stock",
    )
