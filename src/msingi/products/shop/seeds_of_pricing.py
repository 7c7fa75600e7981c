"""What is added to and taken off a price in the small world: Kenya's taxes, ways of shipping, three coupons."""

from msingi.kit.unit import atomic
from msingi.products.shop.models.pricing import (
    Coupon,
    ShippingMethod,
    TaxRate,
    coupons,
    shipping_methods,
    tax_rates,
)

TON = 1_000_000  # grams: whatever people pick up themselves

TAX_RATES = [
    TaxRate(id="KE.standard", country="KE", tax_class="standard", rate=1600),
    TaxRate(id="KE.zero", country="KE", tax_class="zero", rate=0),
]
SHIPPING_METHODS = [
    ShippingMethod(
        id="nairobi-rider",
        name="Rider in Nairobi",
        name_sw="Bodaboda Nairobi",
        countries=["KE"],
        towns=["Nairobi"],
        kind="rider",
        prices={"KES": [(10_000, 20_000)], "USD": [(10_000, 200)]},
        days=(0, 1),
        position=1,
    ),
    ShippingMethod(
        id="courier",
        name="Courier",
        name_sw="Mjumbe",
        countries=["KE"],
        prices={"KES": [(1_000, 35_000), (10_000, 60_000)], "USD": [(1_000, 350), (10_000, 600)]},
        free_from={"KES": 1_000_000},
        days=(1, 3),
        position=2,
    ),
    ShippingMethod(
        id="pick-up",
        name="Pick up in Nairobi",
        name_sw="Chukua mwenyewe Nairobi",
        countries=["KE"],
        kind="pick_up",
        location_id="nairobi",
        prices={"KES": [(TON, 0)], "USD": [(TON, 0)]},
        days=(0, 0),
        position=3,
    ),
]
COUPONS = [
    Coupon(id="KARIBU", kind="percent", value=1000, stacks=True),
    Coupon(
        id="ASANTE500", kind="amount", value=50_000, currency="KES", minimum=200_000, limit=1, stacks=True, priority=1
    ),
    Coupon(id="SAFARI", kind="free_shipping"),
]


@atomic
async def plant_pricing() -> None:
    """Put all of it into the database."""
    await tax_rates.add_many(TAX_RATES)
    await shipping_methods.add_many(SHIPPING_METHODS)
    await coupons.add_many(COUPONS)
