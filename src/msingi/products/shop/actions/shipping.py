"""Ways of shipping."""

from typing import Any

from msingi.kit.errors import NotFound, Stale
from msingi.kit.unit import guarded
from msingi.products.shop.models.pricing import ShippingMethod, shipping_methods
from msingi.products.shop.models.stock import locations
from msingi.products.shop.queries.pricing import MOST_METHODS, shipping_method
from msingi.products.shop.rules.pricing import NoSuchLocation, PricingFull, check_shipping
from msingi.products.shop.schemas.pricing import NewShippingMethod, ShippingMethodPatch


@guarded
async def add(form: NewShippingMethod) -> ShippingMethod:
    """Offer a way of shipping. Raises BadShipping, NoSuchLocation, PricingFull."""
    method = ShippingMethod(**form.given())
    await _check(method)
    if await shipping_methods.count({}, limit=MOST_METHODS) >= MOST_METHODS:
        raise PricingFull(most=MOST_METHODS)
    return await shipping_methods.add(method)


@guarded
async def edit(id: str, form: ShippingMethodPatch, if_match: int | None) -> ShippingMethod:
    """Change a way of shipping; orders keep what they were made with."""
    known = await shipping_method(id)
    if if_match is not None and known.version != if_match:
        raise Stale
    changes = {name: value for name, value in form.given().items() if getattr(known, name) != value}
    if not changes:
        return known
    await _check(_changed(known, changes))
    return await shipping_methods.change(id, {"$set": changes}, when={"version": known.version})


def _changed(known: ShippingMethod, changes: dict[str, Any]) -> ShippingMethod:
    return ShippingMethod(**{name: getattr(known, name) for name in ShippingMethod.__struct_fields__} | changes)


async def _check(method: ShippingMethod) -> None:
    check_shipping(method)
    if method.location_id is not None and not await locations.exists({"_id": method.location_id}):
        raise NoSuchLocation


@guarded
async def remove(id: str, if_match: int | None) -> None:
    """Offer it no longer."""
    version = {} if if_match is None else {"version": if_match}
    if not await shipping_methods.remove_many({"_id": id, **version}, stale=["shipping"]):
        raise Stale if await shipping_methods.exists({"_id": id}) else NotFound
