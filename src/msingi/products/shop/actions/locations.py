"""Places where goods lie."""

from typing import Any

from msingi.kit.errors import Stale
from msingi.kit.unit import atomic, guarded
from msingi.products.shop.models.stock import Location, locations, stocks
from msingi.products.shop.rules.stock import MOST_LOCATIONS, LocationInUse, TooManyLocations
from msingi.products.shop.schemas.stock import LocationPatch, NewLocation


@atomic
async def open_location(form: NewLocation) -> Location:
    """Have a new place. Raises AlreadyExists, TooManyLocations."""
    if await locations.count({}, limit=MOST_LOCATIONS) >= MOST_LOCATIONS:
        raise TooManyLocations(most=MOST_LOCATIONS)
    return await locations.add(Location(**form.given()))


async def edit(before: Location, patch: LocationPatch, if_match: int | None) -> Location:
    """Change what is said of it; a closed one sells nothing. Raises Stale."""
    if if_match not in (None, before.version):
        raise Stale
    changes = {name: value for name, value in patch.given().items() if getattr(before, name) != value}
    return await _change(before.id, changes, if_match) if changes else before


@guarded
async def _change(id: str, changes: dict[str, Any], if_match: int | None) -> Location:
    return await locations.change(id, {"$set": changes}, {"version": if_match} if if_match is not None else None)


@atomic
async def remove(location: Location, if_match: int | None) -> None:
    """Have it no more, if nothing ever lay there. Raises LocationInUse, Stale."""
    newest = await locations.get(location.id)
    if if_match not in (None, newest.version):
        raise Stale
    if await stocks.exists({"location_id": location.id}):
        raise LocationInUse
    await locations.remove(newest)
