"""Coupons: what an order holds of them, spends and gives back, each exactly once; and their making and changing.

A coupon with a limit is decided about by its own document, in one guarded update by the database's clock, without a
transaction; so is what one person may use, by a document for that person and coupon. A hold is named by its order. One
that has ended counts for nobody, but is still written there for a day. Money that comes late spends it all the same:
beyond the limit if there is no room, since the order has its price, and the count says what is. Each write knows itself
again, so that doing it twice does nothing the second time.
"""

from collections.abc import Sequence
from typing import Any

from msingi.kit.again import until_it_fits
from msingi.kit.clock import now
from msingi.kit.db import Collection, Row, plain
from msingi.kit.errors import AlreadyExists, NotFound, Stale
from msingi.kit.unit import guarded, repeatable
from msingi.products.shop.models.holds import until_in
from msingi.products.shop.models.pricing import Coupon, PersonalUse, coupons, personal_uses
from msingi.products.shop.queries.pricing import held_by_others, standings, use_id
from msingi.products.shop.rules.coupons import (
    MOST_WAITING,
    REMEMBERED,
    CouponCrowded,
    CouponInUse,
    CouponRefused,
    Standing,
    check_coupon,
    normal,
    normal_all,
    refused_by_itself,
    unchanged,
)
from msingi.products.shop.schemas.pricing import CouponPatch, NewCoupon

LATE = 24 * 3600 * 1000  # milliseconds after its end for which a hold can still be spent, if there is room
TRIES = 5

# ---- of an order


async def hold_coupons(order_id: str, codes: Sequence[str], person: str | None, seconds: int) -> None:
    """Set these coupons aside for an order, all of them or none, for so many seconds from now.

    Done again for the same order it makes the holds anew, and counts them once. `person` is a person's id, or the
    blind index of the address that a guest orders with. Raises CouponRefused, or CouponCrowded.
    """
    wanted = sorted(normal_all(codes))
    try:
        found = await standings(wanted, person, order_id)
        for code in wanted:
            await _hold(order_id, _usable(code, found.get(code), person), person, seconds)
    except (CouponRefused, CouponCrowded):
        await release_coupons(order_id, wanted, person)
        raise


def _usable(code: str, standing: Standing | None, person: str | None) -> Coupon:
    reason = "unknown" if standing is None else refused_by_itself(standing)
    if reason is None and standing is not None:
        if standing.coupon.limit_each is None or person is not None:
            return standing.coupon
        reason = "person_unknown"
    raise CouponRefused(coupon=code, reason=reason)


async def _hold(order_id: str, coupon: Coupon, person: str | None, seconds: int) -> None:
    if coupon.limit is not None:
        await _take(coupons, coupon.id, order_id, seconds, "$limit", _is_open())
    if coupon.limit_each is not None and person is not None:
        await _make_room_for(coupon.id, person)
        await _take(personal_uses, use_id(coupon.id, person), order_id, seconds, coupon.limit_each, True)


async def _take(
    store: Collection[Any], id: str, order_id: str, seconds: int, limit: int | str, is_open: Row | bool
) -> None:
    """Take one of so many, if there is one left and not too many wait."""
    others, room = held_by_others(order_id), _has_room(order_id, limit)
    late = _filtered(order_id, {"$gt": ["$$each.until", {"$subtract": ["$$NOW", LATE]}]})
    kept = {"$cond": [{"$lt": [{"$size": late}, MOST_WAITING]}, late, others]}
    mine = {"order_id": {"$literal": order_id}, "until": until_in(seconds)}
    fits = {"$and": [room, is_open, {"$lt": [{"$size": others}, MOST_WAITING]}]}
    try:
        await _set(store, id, {"uses": {"$concatArrays": [kept, [mine]]}}, fits)
    except Stale:
        raise await _why(store, id, order_id, limit) from None


async def _why(store: Collection[Any], id: str, order_id: str, limit: int | str) -> CouponRefused | CouponCrowded:
    """What stands in the way of one more hold."""
    if store is personal_uses:
        code = id.partition(".")[0]
        return CouponRefused(coupon=code, reason="used_by_you")
    standing = (await standings([id], None, order_id)).get(id)
    if standing is None:
        return CouponRefused(coupon=id, reason="unknown")
    if standing.held >= MOST_WAITING:
        return CouponCrowded()
    return CouponRefused(coupon=id, reason=refused_by_itself(standing) or "used_up")


async def spend_coupons(order_id: str, codes: Sequence[str], person: str | None) -> list[str]:
    """Count these coupons as used by an order that is paid, each once however often this is done.

    The price of an order is that of the moment of ordering, so that its coupons are used whatever is left of them.
    Returns the codes of which nothing was: the money came so late that the hold was over, and others had the rest.
    They are counted all the same, beyond the limit.
    """
    return [code for code in sorted(normal_all(codes)) if not await _spend_everywhere(order_id, code, person)]


async def _spend_everywhere(order_id: str, code: str, person: str | None) -> bool:
    found = await coupons.find({"_id": code})
    if found is None:
        return False
    within = await _spend(coupons, code, order_id, "$limit")
    if person is not None:
        await _make_room_for(code, person)
        within &= await _spend(personal_uses, use_id(code, person), order_id, found.limit_each)
    return within


async def _spend(store: Collection[Any], id: str, order_id: str, limit: int | str | None) -> bool:
    """Count it, once; returns whether there was room for it."""
    if await _count(store, id, order_id, _may_spend(order_id, limit)):
        return True
    if await store.exists({"_id": id, "spent_by": order_id}):
        return True
    return not await _count(store, id, order_id, True)


def _may_spend(order_id: str, limit: int | str | None) -> Row:
    """Whether an order's hold has not ended, or there is room without it."""
    mine = _filtered(order_id, True, own=True)
    live = {"$gt": [{"$max": {"$map": {"input": mine, "as": "each", "in": "$$each.until"}}}, "$$NOW"]}
    return {"$or": [{"$and": [{"$gt": [{"$size": mine}, 0]}, live]}, _has_room(order_id, limit)]}


async def _count(store: Collection[Any], id: str, order_id: str, may: Row | bool) -> bool:
    is_new = {"$not": [{"$in": [{"$literal": order_id}, "$spent_by"]}]}
    changes = {
        "spent": {"$add": ["$spent", 1]},
        "uses": _filtered(order_id, True),
        "spent_by": {"$slice": [{"$concatArrays": ["$spent_by", [{"$literal": order_id}]]}, -REMEMBERED]},
    }
    try:
        await _set(store, id, changes, {"$and": [is_new, may]})
    except Stale:
        return False
    return True


async def release_coupons(order_id: str, codes: Sequence[str], person: str | None) -> None:
    """Give back what an order holds of these coupons. What it has spent stays spent; what is gone is gone."""
    for code in sorted(normal_all(codes)):
        await _release(coupons, code, order_id)
        if person is not None:
            await _release(personal_uses, use_id(code, person), order_id)


async def give_back_coupons(order_id: str, codes: Sequence[str], person: str | None) -> None:
    """Have what an order has just spent of these coupons count no more. Each once, while it is remembered."""
    for code in sorted(normal_all(codes)):
        await _give_back(coupons, code, order_id)
        if person is not None:
            await _give_back(personal_uses, use_id(code, person), order_id)


async def take_back_coupons(order_id: str, codes: Sequence[str], person: str | None) -> None:
    """The same for an order that is known to have spent them, however many did since: inside of the transaction in
    which that comes not to be known of it any more."""
    for code in sorted(normal_all(codes)):
        pairs: list[tuple[Collection[Any], str]] = [(coupons, code)]
        if person is not None:
            pairs.append((personal_uses, use_id(code, person)))
        for store, id in pairs:
            less = {"$max": [0, {"$subtract": ["$spent", 1]}]}
            await store.apply(id, [{"$set": {"spent": less, "spent_by": _without(order_id)}}])


async def _give_back(store: Collection[Any], id: str, order_id: str) -> None:
    this: Row = {"$literal": order_id}
    others = _without(order_id)
    if await store.exists({"_id": id, "spent_by": order_id}):
        try:
            await _set(
                store, id, {"spent": {"$subtract": ["$spent", 1]}, "spent_by": others}, {"$in": [this, "$spent_by"]}
            )
        except Stale:
            return  # another was faster


def _without(order_id: str) -> Row:
    return {"$filter": {"input": "$spent_by", "cond": {"$ne": ["$$this", {"$literal": order_id}]}}}


async def _release(store: Collection[Any], id: str, order_id: str) -> None:
    if await store.exists({"_id": id, "uses.order_id": order_id}):
        try:
            await _pull(store, id, order_id)
        except Stale:
            return  # another was faster


@repeatable
async def _pull(store: Collection[Any], id: str, order_id: str) -> None:
    await store.change(id, {"$pull": {"uses": {"order_id": order_id}}}, when={"uses.order_id": order_id})


@repeatable
async def _set(store: Collection[Any], id: str, changes: Row, fits: Row) -> None:
    """One update that computes from what is there. Raises Stale if it does not fit."""
    await store.change(id, [{"$set": changes}], when={"$expr": fits})


async def _make_room_for(code: str, person: str) -> None:
    """Have the document that counts a person's uses of a coupon."""
    if not await personal_uses.exists({"_id": use_id(code, person)}):
        try:
            await _add_use(PersonalUse(id=use_id(code, person), person=person))
        except AlreadyExists:
            return  # another was faster


@repeatable
async def _add_use(use: PersonalUse) -> None:
    await personal_uses.add(use)


def _has_room(order_id: str, limit: int | str | None) -> Row:
    """Whether one more may be taken beside what is spent and what other orders hold."""
    taken = {"$add": ["$spent", {"$size": held_by_others(order_id)}]}
    return {"$or": [{"$eq": [limit, None]}, {"$lt": [taken, limit]}]}


def _is_open() -> Row:
    """Whether a coupon may be used at this moment of the database's clock."""
    begun = {"$lte": [{"$ifNull": ["$starts_at", "$$NOW"]}, "$$NOW"]}
    going_on = {"$or": [{"$eq": ["$ends_at", None]}, {"$gt": ["$ends_at", "$$NOW"]}]}
    return {"$and": [{"$not": ["$closed"]}, begun, going_on]}


def _filtered(order_id: str, also: Row | bool, *, own: bool = False) -> Row:
    """The holds of this order, or those of all others, for which something holds too."""
    whose = {"$eq" if own else "$ne": ["$$each.order_id", {"$literal": order_id}]}
    return {"$filter": {"input": "$uses", "as": "each", "cond": {"$and": [whose, also]}}}


# ---- by who manages them


@guarded
async def add(form: NewCoupon) -> Coupon:
    """Make a coupon. Raises BadCoupon; AlreadyExists."""
    given = form.given()
    coupon = Coupon(id=normal(given.pop("code")), **given)
    check_coupon(coupon)
    return await coupons.add(coupon)


async def edit(code: str, form: CouponPatch, if_match: int | None) -> Coupon:
    """Change a coupon. What it was weighed with must still be so when it is written; holds may come meanwhile."""

    async def once() -> Coupon:
        known = await coupons.get(code)
        if if_match is not None and known.version != if_match:
            raise Stale
        changes = {name: value for name, value in form.given().items() if getattr(known, name) != value}
        if not changes:
            return known
        check_coupon(_changed(known, changes))
        if any(getattr(known, name) is None for name in changes if name in ("limit", "limit_each")):
            changes["held_since"] = now()
        when = {"version": if_match} if if_match is not None else plain(unchanged(known))
        return await _edit(code, changes, when)

    return await until_it_fits(once, if_match, losing=Stale, tries=TRIES)


def _changed(known: Coupon, changes: dict[str, Any]) -> Coupon:
    return Coupon(**{name: getattr(known, name) for name in Coupon.__struct_fields__} | changes)


@guarded
async def _edit(code: str, changes: dict[str, Any], when: Row) -> Coupon:
    return await coupons.change(code, {"$set": changes}, when=when)


@guarded
async def remove(code: str, if_match: int | None) -> None:
    """Remove a coupon that nobody used. Raises CouponInUse."""
    known = await coupons.get(code)
    if if_match is not None and known.version != if_match:
        raise Stale
    if not await coupons.remove_many({"_id": code, "spent": 0, "uses": []}):
        raise CouponInUse if await coupons.exists({"_id": code}) else NotFound
