"""Tax rates: by country and class of goods."""

from msingi.kit.errors import AlreadyExists, NotFound, Stale
from msingi.kit.unit import guarded
from msingi.products.shop.models.pricing import TaxRate, tax_rates
from msingi.products.shop.queries.pricing import MOST_RATES, rate_id
from msingi.products.shop.rules.pricing import PricingFull
from msingi.products.shop.schemas.pricing import TaxRateForm


@guarded
async def put(country: str, tax_class: str, form: TaxRateForm, if_match: int | None) -> TaxRate:
    """Set the rate of a class of goods in a country. It counts from now on; orders keep what they were made with."""
    known = await tax_rates.find({"_id": rate_id(country, tax_class)})
    if known is None:
        return await _add(country, tax_class, form, if_match)
    if if_match is not None and known.version != if_match:
        raise Stale
    changes = {name: value for name, value in form.given().items() if getattr(known, name) != value}
    if not changes:
        return known
    return await tax_rates.change(known.id, {"$set": changes}, when={"version": known.version})


async def _add(country: str, tax_class: str, form: TaxRateForm, if_match: int | None) -> TaxRate:
    if if_match is not None:
        raise Stale
    if await tax_rates.count({"country": country}, limit=MOST_RATES) >= MOST_RATES:
        raise PricingFull(most=MOST_RATES)
    rate = TaxRate(id=rate_id(country, tax_class), country=country, tax_class=tax_class, **form.given())
    try:
        return await tax_rates.add(rate)
    except AlreadyExists:
        raise Stale from None  # another was faster


@guarded
async def remove(country: str, tax_class: str, if_match: int | None) -> None:
    """Have no rate for a class of goods in a country: they are not taxed there."""
    version = {} if if_match is None else {"version": if_match}
    id = rate_id(country, tax_class)
    if not await tax_rates.remove_many({"_id": id, **version}, stale=["taxes"]):
        raise Stale if await tax_rates.exists({"_id": id}) else NotFound
