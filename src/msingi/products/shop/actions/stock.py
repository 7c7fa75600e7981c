"""Stock: set aside, given to orders, sent away, taken back, received, counted.

Whatever decides who gets the last one is one write on one document, judged by the database's own clock, and in no
transaction: on a document that many want at once those collapse (docs/decisions/0012). `hold`, `release` and `allocate`
make one such write after the other, each of which knows itself again, so that they may be repeated after a crash. All
else is rare on one stock, and stands in the transaction of what it belongs to.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from msgspec.structs import replace

from msingi.kit import db, state, unit
from msingi.kit.actors import Actor
from msingi.kit.errors import Busy, NotFound, Stale
from msingi.kit.events import emit
from msingi.kit.unit import atomic, repeatable
from msingi.products.shop.contract import Movement, StockMoved, StockRanLow
from msingi.products.shop.models.holds import until_in
from msingi.products.shop.models.orders import Allocation
from msingi.products.shop.models.stock import (
    MovementRow,
    Stock,
    free,
    has_free,
    has_room,
    live_holds,
    locations,
    movements,
    place_of,
    stock_id,
    stocks,
)
from msingi.products.shop.queries import stock as queries
from msingi.products.shop.rules.stock import (
    MOST_WAITING,
    NotAllocated,
    OutOfStock,
    Place,
    SamePlace,
    StillPromised,
    TooManyWaiting,
    in_order,
    is_low,
    own,
    receipt,
)

TRIES = 3
AT_ONCE = 2  # writers of one process to one stock
Taken = dict[str, list[Allocation]]


# ---- before it is paid


async def hold(order_id: str, wanted: Mapping[str, int], *, seconds: int, location_id: str | None = None) -> Taken:
    """Set variants aside for an order, for so many seconds: all that is wanted, or nothing.

    From one place, if there is one that has enough, else from several; from those with the lowest priority first, or
    only from `location_id`. Asked again, it holds the same anew, from now on. It is for orders that are not yet paid:
    an order that has its goods would hold them a second time. Raises OutOfStock (with `left`), TooManyWaiting.
    """
    _check_outside("hold")
    places = await queries.places(order_id, list(wanted), location_id)
    taken: Taken = {}
    try:
        for variant in sorted(wanted):
            taken[variant] = await _hold_all(order_id, variant, wanted[variant], seconds, places[variant], location_id)
    except (OutOfStock, TooManyWaiting, Busy):
        await release(order_id, [*own(places), *pairs_of(taken)])
        raise
    return taken


def pairs_of(taken: Taken) -> list[tuple[str, str]]:
    """The variants and locations of what was taken."""
    return [(variant, each.location_id) for variant, parts in taken.items() for each in parts]


async def _hold_all(
    order_id: str, variant: str, quantity: int, seconds: int, places: Sequence[Place], location_id: str | None
) -> list[Allocation]:
    """Hold so many of a variant. Who finds enough free that was not a moment ago tries again."""
    for _ in range(TRIES):
        parts = await _hold_somewhere(order_id, variant, quantity, seconds, places)
        if parts:
            return parts
        left = (await queries.left([variant], location_id=location_id))[variant]
        if left < quantity:
            raise OutOfStock(variant_id=variant, left=left)
    raise TooManyWaiting(variant_id=variant) if await queries.is_crowded(variant, MOST_WAITING) else Busy()


async def _hold_somewhere(
    order_id: str, variant: str, quantity: int, seconds: int, places: Sequence[Place]
) -> list[Allocation]:
    """Hold so many of a variant, or nothing. What the order held of it before is taken anew, or let go."""
    before = [Allocation(each.location_id, each.own) for each in places if each.own]
    if sum(each.quantity for each in before) == quantity:
        again = [each for each in before if await _hold(order_id, variant, each, seconds)]
        if again == before:
            return again
    await release(order_id, [(variant, each.location_id) for each in before])
    for each in places:
        whole = Allocation(each.location_id, quantity)
        if await _hold(order_id, variant, whole, seconds):
            return [whole]
    return await _hold_in_parts(order_id, variant, quantity, seconds, places)


async def _hold_in_parts(
    order_id: str, variant: str, quantity: int, seconds: int, places: Sequence[Place]
) -> list[Allocation]:
    parts: list[Allocation] = []
    missing = quantity
    for each in places if quantity > 1 and len(places) > 1 else ():
        much = await _hold_what_is_left(order_id, stock_id(variant, each.location_id), missing, seconds)
        if much:
            parts.append(Allocation(each.location_id, much))
            missing -= much
        if not missing:
            return parts
    await release(order_id, [(variant, each.location_id) for each in parts])
    return []


@repeatable
async def _hold(order_id: str, variant: str, part: Allocation, seconds: int) -> bool:
    stock, room = stock_id(variant, part.location_id), has_room(part.quantity, order_id, MOST_WAITING)
    async with _turn(stock):
        return await stocks.apply(stock, _holding(order_id, part.quantity, seconds), room)


@repeatable
async def _hold_what_is_left(order_id: str, stock: str, most: int, seconds: int) -> int:
    much = {"$min": [most, free(but=order_id)]}
    room = has_room(1, order_id, MOST_WAITING)
    try:
        async with _turn(stock):
            now = await stocks.change(stock, _holding(order_id, much, seconds), room)
    except Stale:
        return 0
    return sum(each.quantity for each in now.holds if each.order_id == order_id)


def _holding(order_id: str, quantity: Any, seconds: int) -> list[db.Row]:
    """The holds that have not ended, and this one; what has ended goes with the same write."""
    this = {"order_id": {"$literal": order_id}, "quantity": quantity, "until": until_in(seconds)}
    return [{"$set": {"holds": {"$concatArrays": [live_holds(but=order_id), [this]]}}}]


async def release(order_id: str, taken: Iterable[tuple[str, str]]) -> None:
    """Let go what an order holds of these variants at these locations; what it does not hold is no matter."""
    _check_outside("release")
    for variant, location in in_order(taken):
        await _let_go(order_id, stock_id(variant, location))


@repeatable
async def _let_go(order_id: str, stock: str) -> None:
    async with _turn(stock):
        await stocks.apply(stock, _without(order_id), {"holds.order_id": order_id})


def _without(order_id: str) -> list[db.Row]:
    return [{"$set": {"holds": live_holds(but=order_id)}}]


@repeatable
async def tidy(stock: str) -> None:
    """Take away the holds that have ended. They counted for nothing before."""
    await stocks.apply(stock, [{"$set": {"holds": live_holds()}}], queries.HAS_ENDED)


# ---- when it is paid


async def allocate(order_id: str, taken: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """Give an order what it holds: for each variant and location once, however often it is asked.

    A hold that has ended will do while it is still written there, if as many are free. Returns those that could not
    be given: their hold is gone, or others have the goods.
    """
    _check_outside("allocate")
    found = [(pair, await _is_given(order_id, stock_id(*pair), taken[pair])) for pair in in_order(taken)]
    return [pair for pair, is_given in found if not is_given]


async def _is_given(order_id: str, stock: str, quantity: int) -> bool:
    """Turn the very hold that was seen into an allocation, unless it is known to have happened.

    If it was another one when it came to it, somebody else was at it, so look again. A hold for an order that already
    has its goods (asked for by a request that came twice) is left to end.
    """
    tried: datetime | None = None
    while True:
        with suppress(NotFound):
            seen = await queries.standing(order_id, stock)
            if seen.is_allocated:
                return True
            if seen.held_until is not None and seen.held_until != tried:
                tried = seen.held_until
                if await _give(order_id, stock, quantity, tried):
                    return True
                continue
        return False


@repeatable
async def _give(order_id: str, stock: str, quantity: int, until: datetime) -> bool:
    wanted = {"holds": {"$elemMatch": {"order_id": order_id, "until": until}}, **has_free(quantity, but=order_id)}
    event = replace(_moved(stock, "allocated", order_id, allocated=quantity), id=receipt(order_id, stock))
    async with _turn(stock):
        return await stocks.apply(stock, _allocating(order_id, quantity), wanted, tells=[event])


def _allocating(order_id: str, quantity: int) -> list[db.Row]:
    return [{"$set": {"allocated": {"$add": ["$allocated", quantity]}}}, *_without(order_id)]


@atomic
async def allocate_late(order_id: str, variant_id: str, location_id: str, quantity: int) -> bool:
    """Give an order goods that it does not hold any more, if as many are free. Whether it has them now.

    It does not know itself again: once for each time that the caller's transaction commits.
    """
    stock = stock_id(variant_id, location_id)
    return await stocks.apply(
        stock,
        _allocating(order_id, quantity),
        has_free(quantity, but=order_id),
        tells=[_moved(stock, "allocated", order_id, allocated=quantity)],
    )


@atomic
async def unallocate(order_id: str, variant_id: str, location_id: str, quantity: int) -> None:
    """Take back what an order was given and not sent. Raises NotAllocated. Belongs in the caller's transaction."""
    stock = stock_id(variant_id, location_id)
    await _change_allocated(stock, {"allocated": -quantity}, _moved(stock, "released", order_id, allocated=-quantity))


@atomic
async def ship(order_id: str, location_id: str, quantities: Mapping[str, int]) -> None:
    """What an order was given leaves the house: so many of each variant. Raises NotAllocated.

    Belongs in the caller's transaction.
    """
    for variant in sorted(quantities):
        stock, much = stock_id(variant, location_id), quantities[variant]
        gone = _moved(stock, "shipped", order_id, on_hand=-much, allocated=-much)
        await _change_allocated(stock, {"on_hand": -much, "allocated": -much}, gone)


async def _change_allocated(stock: str, by: dict[str, int], event: StockMoved) -> None:
    enough = {name: {"$gte": -much} for name, much in by.items()}
    if not await stocks.apply(stock, {"$inc": by}, enough, tells=[event]):
        raise NotAllocated


@atomic
async def take_back(order_id: str, location_id: str, quantities: Mapping[str, int], *, damaged: bool) -> None:
    """Goods of an order came back to a place: to be sold again, or damaged. Belongs in the caller's transaction."""
    for variant in sorted(quantities):
        stock, much = stock_id(variant, location_id), quantities[variant]
        told = [_moved(stock, "returned", order_id, on_hand=much)]
        if damaged:
            told.append(_moved(stock, "damaged", order_id, on_hand=-much))
        await _put(variant, location_id, 0 if damaged else much, told)


# ---- what staff does


@atomic
async def receive(variant_id: str, location_id: str, quantity: int, reason: str, actor: Actor) -> Stock:
    """So many more lie there."""
    event = _moved(stock_id(variant_id, location_id), "received", reason, by=actor.id, on_hand=quantity)
    return await _put(variant_id, location_id, quantity, [event])


@atomic
async def count(variant_id: str, location_id: str, counted: int, reason: str, actor: Actor) -> Stock:
    """So many lie there, as somebody has seen. Raises StillPromised if it is fewer than are promised."""
    id = stock_id(variant_id, location_id)
    before = await stocks.find({"_id": id})
    more = counted - (before.on_hand if before else 0)
    event = _moved(id, "counted", reason, by=actor.id, on_hand=more)
    if before is None:
        return await _put(variant_id, location_id, counted, [event])
    return await _take(id, -more, event)


@atomic
async def damage(variant_id: str, location_id: str, quantity: int, reason: str, actor: Actor) -> Stock:
    """So many of it can be sold no more. Raises StillPromised."""
    id = stock_id(variant_id, location_id)
    return await _take(id, quantity, _moved(id, "damaged", reason, by=actor.id, on_hand=-quantity))


@atomic
async def move(variant_id: str, location_id: str, to: str, quantity: int, reason: str, actor: Actor) -> Stock:
    """Carry so many to another place; the stock there, as it is then. Raises SamePlace, StillPromised, NotFound."""
    if to == location_id:
        raise SamePlace
    here, there = stock_id(variant_id, location_id), stock_id(variant_id, to)
    await _take(here, quantity, _moved(here, "moved", reason, by=actor.id, on_hand=-quantity))
    event = _moved(there, "moved", reason, by=actor.id, on_hand=quantity)
    return await _put(variant_id, to, quantity, [event])


async def _take(id: str, quantity: int, event: StockMoved) -> Stock:
    """So many fewer, if they are promised to nobody. Raises StillPromised, NotFound."""
    try:
        return await stocks.change(id, {"$inc": {"on_hand": -quantity}}, has_free(quantity), tells=[event])
    except Stale:
        now = await stocks.get(id)
        raise StillPromised(allocated=now.allocated, held=await queries.held_now(id)) from None


async def _put(variant_id: str, location_id: str, quantity: int, tells: Sequence[StockMoved]) -> Stock:
    """So many more; the first of a variant at a place begin its stock. Raises NotFound if there is no such place."""
    id = stock_id(variant_id, location_id)
    with suppress(NotFound):
        return await stocks.change(id, {"$inc": {"on_hand": quantity}}, tells=tells)
    await _keep_location(location_id)
    new = Stock(id=id, variant_id=variant_id, location_id=location_id, on_hand=quantity)
    return await stocks.add(new, tells=tells)


async def _keep_location(location_id: str) -> None:
    """Write to a location unseen (its version stays): who removes it, or begins the same stock, meanwhile conflicts."""
    await locations.touch(location_id, "uses")


@atomic
async def set_threshold(id: str, low_at: int, if_match: int | None) -> Stock:
    """Have somebody told when no more than so many are not yet sold; 0: nobody. Raises NotFound, Stale."""
    before = await stocks.get(id)
    if if_match not in (None, before.version):
        raise Stale
    await stocks.apply(id, {"$set": {"low_at": low_at}})
    await tell_when_low(id)
    return await stocks.get(id)


@atomic
async def write_down(event: StockMoved) -> None:
    """Keep what moved, under the event's own id."""
    variant_id, location_id = place_of(event.stock_id)
    row = MovementRow(
        id=event.id,
        created_at=event.at,
        updated_at=event.at,
        stock_id=event.stock_id,
        variant_id=variant_id,
        location_id=location_id,
        kind=event.kind,
        on_hand=event.on_hand,
        allocated=event.allocated,
        reason=event.reason,
        by=event.by,
    )
    await movements.add(row)


@atomic
async def tell_when_low(id: str) -> None:
    """Tell once that a stock has come down to its threshold; and once more when it was above it in between."""
    stock = await stocks.find({"_id": id})
    if stock is None:
        return
    unsold = stock.on_hand - stock.allocated
    is_now = is_low(unsold, stock.low_at)
    if is_now == stock.low_told:
        return
    await stocks.apply(id, {"$set": {"low_told": is_now}})
    if is_now:
        await emit(StockRanLow(stock.variant_id, stock.location_id, unsold, stock.low_at))


def _moved(
    stock: str, kind: Movement, reason: str, *, by: str = "", on_hand: int = 0, allocated: int = 0
) -> StockMoved:
    return StockMoved(stock_id=stock, kind=kind, on_hand=on_hand, allocated=allocated, reason=reason, by=by)


class Turns:
    """The gates through which this process writes to each stock, while anybody stands at them."""

    def __init__(self) -> None:
        self.gates: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, stock: str) -> asyncio.Semaphore:
        """The gate of a stock."""
        gate = self.gates.get(stock)
        if gate is None:
            gate = self.gates[stock] = asyncio.Semaphore(AT_ONCE)
        return gate


def _turn(stock: str) -> asyncio.Semaphore:
    """Let few write to one stock at once: who is late goes through all its holds again, and keeps a connection busy.

    It decides nothing: other processes have gates of their own.
    """
    return state.part(Turns).of(stock)


def _check_outside(name: str) -> None:
    work = unit.current.get()
    if work is not None and work.session is not None:
        raise RuntimeError(f"{name} belongs outside of transactions: they would keep all other buyers waiting")
