"""What goods cost now, and what that is made of: coupons, tax rates, ways of shipping."""

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from msingi.kit.db import Page, Paging, Row, Where
from msingi.products.shop.models.holds import live
from msingi.products.shop.models.pricing import (
    Coupon,
    ShippingMethod,
    TaxRate,
    coupons,
    personal_uses,
    shipping_methods,
    tax_rates,
)
from msingi.products.shop.queries.catalogue import Offer
from msingi.products.shop.rules import pricing as rules
from msingi.products.shop.rules.coupons import MOST_CODES, Refusal, Standing, normal_all
from msingi.products.shop.rules.pricing import Notice

Priced: TypeAlias = rules.Priced[Offer]
PricedLine: TypeAlias = rules.PricedLine[Offer]

MOST_RATES = 200  # of one country
MOST_METHODS = 200  # that reach one country


async def priced(
    lines: Sequence[tuple[Offer, int]],
    currency: str,
    *,
    country: str,
    coupons: Sequence[str],
    shipping_id: str | None,
    town: str,
    person: str | None,
    order_id: str = "",
) -> Priced:
    """What these goods cost there, now. Nothing of it is cached.

    `coupons` are codes; those that cannot be used, and a way of shipping that does not take the goods there, are
    named in `notices`. `person` is who coupons with `limit_each` are counted for (None: they are not counted yet).
    What `order_id` itself holds of a coupon does not stand in its way.
    """
    codes = normal_all(coupons)[:MOST_CODES]
    found = await standings(codes, person, order_id)
    method = await shipping_methods.find({"_id": shipping_id}) if shipping_id is not None else None
    refused = rules.refused_shipping(method, currency, country, town, rules.weight_of(lines))
    taxes = await taxes_of(country)
    chosen = None if refused else method
    result = rules.price(lines, currency, taxes, coupons=list(found.values()), shipping=chosen)
    unknown = [rules.notice_of(Refusal(code, "unknown")) for code in codes if code not in found]
    unshipped = [Notice("shipping_refused", {"shipping": shipping_id, "reason": refused})] if shipping_id else []
    result.notices[:0] = [*unknown, *(unshipped if refused else [])]
    return result


async def taxes_of(country: str) -> dict[str, TaxRate]:
    """The rates of a country, by tax class."""
    return {each.tax_class: each for each in await tax_rates.many({"country": country}, limit=MOST_RATES)}


# ---- coupons


async def standings(codes: Sequence[str], person: str | None, order_id: str = "") -> dict[str, Standing]:
    """The coupons of these codes as they stand now, by the database's clock. Unknown ones are missing."""
    if not codes:
        return {}
    stages: list[Row] = [
        {"$match": {"_id": {"$in": list(codes)}}},
        {"$project": {"coupon": "$$ROOT", "at": "$$NOW", "held": {"$size": held_by_others(order_id)}}},
        {"$unset": ["coupon.uses", "coupon.spent_by"]},
    ]
    found = {each.coupon.id: each for each in await coupons.aggregate(stages, Standing)}
    own = await _own_uses([code for code, each in found.items() if each.coupon.limit_each], person, order_id)
    return {
        code: Standing(coupon=found[code].coupon, at=found[code].at, held=found[code].held, own=own.get(code, 0))
        for code in codes
        if code in found
    }


def held_by_others(order_id: str) -> Row:
    """An expression: the holds that have not ended, without those of this order."""
    return live("$uses", order_id)


class _Own(Struct):
    code: str
    taken: int


async def _own_uses(codes: Sequence[str], person: str | None, order_id: str) -> dict[str, int]:
    if person is None or not codes:
        return {}
    ids = {use_id(code, person): code for code in codes}
    taken = {"$add": ["$spent", {"$size": held_by_others(order_id)}]}
    stages: list[Row] = [{"$match": {"_id": {"$in": list(ids)}}}, {"$project": {"code": "$_id", "taken": taken}}]
    return {ids[each.code]: each.taken for each in await personal_uses.aggregate(stages, _Own)}


def use_id(code: str, person: str) -> str:
    return f"{code}.{person}"


async def coupon(code: str) -> Coupon:
    return await coupons.get(code)


async def all_coupons(where: Where, page: Paging) -> Page[Coupon]:
    return await coupons.page(where, page, sorts=("-created_at", "updated_at", "_id", "priority", "ends_at"))


# ---- tax rates and shipping


async def all_tax_rates(where: Where, page: Paging) -> Page[TaxRate]:
    return await tax_rates.page(where, page, sorts=("_id", "-created_at"))


async def tax_rate(country: str, tax_class: str) -> TaxRate:
    return await tax_rates.get(rate_id(country, tax_class))


def rate_id(country: str, tax_class: str) -> str:
    return f"{country}.{tax_class}"


async def all_shipping_methods(where: Where, page: Paging) -> Page[ShippingMethod]:
    return await shipping_methods.page(where, page, sorts=("position", "-created_at", "name"))


async def shipping_method(id: str) -> ShippingMethod:
    return await shipping_methods.get(id)


async def shipping_to(
    country: str, town: str, currency: str, weight: int, worth: int
) -> list[tuple[ShippingMethod, int]]:
    """The ways in which so many grams of goods that cost so much can reach an address, and what each costs."""
    there = await shipping_methods.many(
        {"countries": country, "closed": False}, sort=[("position", 1), ("_id", 1)], limit=MOST_METHODS
    )
    costs = [(each, rules.shipping_cost(each, currency, weight, worth)) for each in there]
    return [(each, cost) for each, cost in costs if cost is not None and rules.goes_to(each, country, town)]
