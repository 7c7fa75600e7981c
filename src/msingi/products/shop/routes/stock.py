"""Stock and places, over HTTP."""

from typing import Annotated

from litestar.params import Parameter

from msingi.kit.actors import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import AlreadyExists, Stale
from msingi.kit.http import Body, Filters, Given, Path, Query, delete, get, patch, post
from msingi.kit.replies import KitResponse, created
from msingi.products.shop.actions import locations
from msingi.products.shop.actions import stock as actions
from msingi.products.shop.contract import Movement
from msingi.products.shop.models.stock import Location, MovementRow, stock_id
from msingi.products.shop.queries import stock as queries
from msingi.products.shop.rules.stock import (
    BadVariants,
    LocationInUse,
    SamePlace,
    StillPromised,
    TooManyLocations,
    variants_asked,
)
from msingi.products.shop.schemas.stock import (
    AvailabilityView,
    Damage,
    LocationPatch,
    LocationView,
    MovementView,
    NewLocation,
    Receipt,
    StockCount,
    StockPatch,
    StockView,
    Transfer,
    VariantStockView,
)

READ, WRITE = "shop:read", "shop:stock"
LOCATIONS = Filters(country=str, town=str, pick_up=bool, closed=bool)
STOCK = Filters(variant=("variant_id", str), location=("location_id", str))
MOVEMENTS = Filters(variant=("variant_id", str), location=("location_id", str), kind=Movement, reason=str, by=str)
Variants = Annotated[str, Parameter(max_length=10_000, description="such as `tea-250,coffee-500`")]


@get("/availability", public=True, problems=[BadVariants])
async def show_availability(variants: Query[Variants]) -> AvailabilityView:
    """Whether there is much, little or nothing of some variants, and where they can be fetched."""
    return AvailabilityView(await queries.availability(variants_asked(variants)))


# ---- places


@get("/locations", permission=READ, filters=LOCATIONS)
async def list_locations(page: Given[Paging], where: Given[Where]) -> Page[LocationView]:
    """Where goods lie, those first that are asked first."""
    return (await queries.all_locations(where, page)).map(_place)


def _place(location: Location) -> LocationView:
    view: LocationView = LocationView.of(location)
    return view


@post("/locations", permission=WRITE, problems=[AlreadyExists, TooManyLocations])
async def open_location(data: Body[NewLocation]) -> KitResponse[LocationView]:
    """Have a new place."""
    made = await locations.open_location(data)
    return created(_place(made), f"/v1/shop/locations/{made.id}")


@get("/locations/{location_id:str}", permission=READ)
async def show_location(location_id: Path[str]) -> LocationView:
    """One of them."""
    return _place(await queries.location(location_id))


@patch("/locations/{location_id:str}", permission=WRITE, problems=[Stale])
async def edit_location(location_id: Path[str], data: Body[LocationPatch], if_match: Given[int | None]) -> LocationView:
    """Change what is said of a place. A closed one sells nothing."""
    return _place(await locations.edit(await queries.location(location_id), data, if_match))


@delete("/locations/{location_id:str}", permission=WRITE, problems=[LocationInUse, Stale])
async def remove_location(location_id: Path[str], if_match: Given[int | None]) -> None:
    """Have a place no more, if nothing ever lay there."""
    await locations.remove(await queries.location(location_id), if_match)


# ---- what lies there


@get("/stock", permission=READ, filters=STOCK, also=("low",))
async def list_stock(page: Given[Paging], where: Given[Where], low: Query[bool | None] = None) -> Page[StockView]:
    """How much there is of every variant at every place. `low=true`: of what has to be ordered soon."""
    return await queries.all_stock(where, low, page)


@get("/stock/{variant_id:str}", permission=READ)
async def show_stock_of_variant(variant_id: Path[str]) -> VariantStockView:
    """How much there is of a variant, together and at each place."""
    return await queries.stock_of(variant_id)


@get("/stock/{variant_id:str}/{location_id:str}", permission=READ)
async def show_stock(variant_id: Path[str], location_id: Path[str]) -> StockView:
    """How much there is of a variant at a place."""
    return await queries.stock(variant_id, location_id)


@patch("/stock/{variant_id:str}/{location_id:str}", permission=WRITE, problems=[Stale])
async def edit_stock(
    variant_id: Path[str], location_id: Path[str], data: Body[StockPatch], if_match: Given[int | None]
) -> StockView:
    """Say when somebody is to be told that it runs low."""
    await actions.set_threshold(stock_id(variant_id, location_id), data.low_at, if_match)
    return await queries.stock(variant_id, location_id)


@post("/stock/{variant_id:str}/{location_id:str}/receipts", permission=WRITE, idempotency="required")
async def receive_stock(
    variant_id: Path[str], location_id: Path[str], data: Body[Receipt], actor: Given[Actor]
) -> StockView:
    """Goods arrived."""
    await queries.check_variant(variant_id)
    await actions.receive(variant_id, location_id, data.quantity, data.reason, actor)
    return await queries.stock(variant_id, location_id)


@post(
    "/stock/{variant_id:str}/{location_id:str}/counts",
    permission=WRITE,
    idempotency="required",
    problems=[StillPromised],
)
async def count_stock(
    variant_id: Path[str], location_id: Path[str], data: Body[StockCount], actor: Given[Actor]
) -> StockView:
    """Somebody counted what lies there."""
    await queries.check_variant(variant_id)
    await actions.count(variant_id, location_id, data.counted, data.reason, actor)
    return await queries.stock(variant_id, location_id)


@post(
    "/stock/{variant_id:str}/{location_id:str}/damages",
    permission=WRITE,
    idempotency="required",
    problems=[StillPromised],
)
async def damage_stock(
    variant_id: Path[str], location_id: Path[str], data: Body[Damage], actor: Given[Actor]
) -> StockView:
    """Some of it can be sold no more."""
    await actions.damage(variant_id, location_id, data.quantity, data.reason, actor)
    return await queries.stock(variant_id, location_id)


@post(
    "/stock/{variant_id:str}/{location_id:str}/moves",
    permission=WRITE,
    idempotency="required",
    problems=[StillPromised, SamePlace],
)
async def move_stock(
    variant_id: Path[str], location_id: Path[str], data: Body[Transfer], actor: Given[Actor]
) -> StockView:
    """Carry some of it to another place; the answer is the stock that it came from."""
    await actions.move(variant_id, location_id, data.to, data.quantity, data.reason, actor)
    return await queries.stock(variant_id, location_id)


@get("/movements", permission=READ, filters=MOVEMENTS)
async def list_movements(page: Given[Paging], where: Given[Where]) -> Page[MovementView]:
    """What came, went, or was given to orders, the newest first."""
    return (await queries.all_movements(where, page)).map(_movement)


def _movement(row: MovementRow) -> MovementView:
    view: MovementView = MovementView.of(row)
    return view


routes = [
    show_availability,
    list_locations,
    open_location,
    show_location,
    edit_location,
    remove_location,
    list_stock,
    show_stock_of_variant,
    show_stock,
    edit_stock,
    receive_stock,
    count_stock,
    damage_stock,
    move_stock,
    list_movements,
]
