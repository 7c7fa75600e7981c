"""Stock for those who look after it: what lies where, what runs low, and what somebody counted."""

from functools import partial
from typing import Annotated, Any

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import Problem
from msingi.kit.http import Given, Path, Query, form_at, page_at
from msingi.products.shop.actions import desk as at_desk
from msingi.products.shop.actions import stock as acting
from msingi.products.shop.contract import Movement
from msingi.products.shop.models.stock import stock_id
from msingi.products.shop.pages.shell import STAFF, AnyRequest, show
from msingi.products.shop.queries import board, desk
from msingi.products.shop.queries import stock as queries
from msingi.products.shop.queries.orders import SEE_ALL
from msingi.products.shop.schemas.stock import Counted, Quantity, Reason, StockView

HERE = "/shop/admin/stock"
CHANGE = "shop:stock"
MOVEMENTS: dict[Movement, str] = {
    "received": "Arrived",
    "counted": "Counted",
    "allocated": "Given to an order",
    "released": "Taken from an order",
    "shipped": "Sent",
    "returned": "Came back",
    "damaged": "Damaged",
    "moved": "Moved",
}


class Count(Struct):
    """What somebody counted."""

    location: str
    counted: Counted
    reason: Reason = ""


class Arrived(Struct):
    """So many more, where `seen` lay before."""

    location: str
    seen: int
    quantity: Quantity
    reason: Reason = ""


class Carried(Arrived):
    """So many to another place."""

    to: str = ""


class Threshold(Struct):
    """When somebody is to be told."""

    location: str
    low_at: Annotated[int, Meta(ge=0, le=1_000_000)]


@page_at(HERE, permission=STAFF)
async def show_stock(
    request: AnyRequest, page: Given[Paging], q: Query[str] = "", place: Query[str] = "", low: Query[str] = ""
) -> Response[str]:
    """What lies where; `q` searches goods, `place` is one location, with `low` only what runs low."""
    sought = q.strip()[:100]
    where: Where = {"location_id": place} if place else {}
    if sought:
        where = {**where, "variant_id": {"$in": await desk.variants_like(sought)}}
    found: Page[StockView] = await queries.all_stock(where, True if low else None, page)
    return show(
        "stock",
        request,
        asked={"q": sought, "place": place, "low": "true" if low else ""},
        found=found,
        called=await desk.called(each.variant_id for each in found.items),
        places=await board.places(),
    )


@page_at(HERE + "/{variant_id:str}", permission=STAFF)
async def show_variant(request: AnyRequest, variant_id: Path[str], actor: Given[Actor]) -> Response[str]:
    """All that there is of a variant, where it lies, and what happened to it."""
    return await _variant(request, variant_id, actor)


@form_at(HERE + "/{variant_id:str}/counts", permission=CHANGE)
async def count_stock(request: AnyRequest, variant_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """Somebody counted what lies there: it is so many, however often that is said."""
    try:
        form = await pages.form_of(request, Count)
        await queries.location(form.location)
        await queries.check_variant(variant_id)
        await acting.count(variant_id, form.location, form.counted, form.reason, actor)
    except Problem as problem:
        return await _variant(request, variant_id, actor, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{variant_id}", "counted")


@form_at(HERE + "/{variant_id:str}/receipts", permission=CHANGE)
async def receive_stock(request: AnyRequest, variant_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """Goods arrived; sent twice, the form counts once."""
    try:
        form = await pages.form_of(request, Arrived)
        await queries.location(form.location)
        await queries.check_variant(variant_id)
        receive = partial(acting.receive, variant_id, form.location, form.quantity, form.reason, actor)
        await at_desk.on_stock_as_seen(stock_id(variant_id, form.location), form.seen, receive)
    except Problem as problem:
        return await _variant(request, variant_id, actor, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{variant_id}", "received")


@form_at(HERE + "/{variant_id:str}/moves", permission=CHANGE)
async def move_stock(request: AnyRequest, variant_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """Some of it is carried to another place; sent twice, once."""
    try:
        form = await pages.form_of(request, Carried)
        await queries.location(form.to)
        move = partial(acting.move, variant_id, form.location, form.to, form.quantity, form.reason, actor)
        await at_desk.on_stock_as_seen(stock_id(variant_id, form.location), form.seen, move)
    except Problem as problem:
        return await _variant(request, variant_id, actor, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{variant_id}", "moved")


@form_at(HERE + "/{variant_id:str}/threshold", permission=CHANGE)
async def set_threshold(request: AnyRequest, variant_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """Say when somebody is to be told that it runs low."""
    try:
        form = await pages.form_of(request, Threshold)
        await acting.set_threshold(stock_id(variant_id, form.location), form.low_at, None)
    except Problem as problem:
        return await _variant(request, variant_id, actor, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{variant_id}")


async def _variant(request: AnyRequest, variant_id: str, actor: Actor, problem: Problem | None = None) -> Response[str]:
    stock, places = await queries.stock_of(variant_id), await board.places()
    here = {each.location_id for each in stock.items}
    history = await queries.all_movements({"variant_id": variant_id}, Paging(limit=20))
    return show(
        "variant",
        request,
        problem,
        stock=stock,
        called=(await desk.called([variant_id])).get(variant_id),
        places=places,
        elsewhere={id: name for id, name in places.items() if id not in here},
        history=history.items,
        who=await board.names_of(each.by for each in history.items),
        kinds=MOVEMENTS,
        numbers=await desk.numbers_of(each.reason for each in history.items),
        sees_orders=any(map(actor.may, SEE_ALL)),
    )


routes: list[ControllerRouterHandler] = [
    show_stock,
    show_variant,
    count_stock,
    receive_stock,
    move_stock,
    set_threshold,
]
