"""What goods cost together: discounts, tax, shipping. Whole minor units of one currency, from first to last.

What is computed is rounded half away from zero, each line by itself; what is shared out over lines is shared by largest
remainder, so that the parts are the whole. docs/contracts/shop-cart.md says all of it in words.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct

from msingi.kit import money
from msingi.kit.errors import Conflict, Invalid
from msingi.products.shop.models.orders import Tax, Totals
from msingi.products.shop.models.pricing import ShippingMethod, TaxRate
from msingi.products.shop.rules.coupons import Refusal, Standing, companies, refused_by_itself, refused_for_goods

# Currencies in which nobody pays less than this many minor units: a total is rounded down to it, in the buyer's favour.
WHOLE: Mapping[str, int] = {"KES": 100, "TZS": 100}
UNTAXED = Tax(name="", rate=0, included=True, amount=0)

ShippingReason = Literal["unknown", "elsewhere", "other_currency", "too_heavy"]


class BadShipping(Invalid):
    """This is no way of shipping: {reason}."""


class NoSuchLocation(Invalid):
    """There is no such place to pick goods up at."""


class PricingFull(Conflict):
    """There is room for {most} here, and they are there already."""


class Offered(Protocol):
    """What a price is made from; each is one variant, as it is sold now."""

    @property
    def variant_id(self) -> str: ...

    @property
    def price(self) -> int: ...

    @property
    def weight(self) -> int: ...

    @property
    def tax_class(self) -> str: ...

    @property
    def category_ids(self) -> Sequence[str]: ...


Taxes = Mapping[str, TaxRate]  # the rates of one country, by tax class
O = TypeVar("O", bound=Offered)  # noqa: E741


class Notice(Struct, frozen=True):
    """Something that a person should know: `code` is for programs, `details` is what a sentence about it needs."""

    code: str
    details: dict[str, Any] = {}


class PricedLine(Struct, Generic[O], frozen=True, kw_only=True):
    """`total = quantity * price - discount`, and plus the tax if that is not included."""

    offer: O
    quantity: int
    price: int
    discount: int
    tax: Tax
    total: int


class Priced(Struct, Generic[O], frozen=True, kw_only=True):
    """What it all costs. `coupons` are those that took something off, in the order in which they did."""

    lines: list[PricedLine[O]]
    totals: Totals
    shipping: ShippingMethod | None
    shipping_tax: Tax
    coupons: list[str]
    notices: list[Notice]


def price(
    lines: Sequence[tuple[O, int]],
    currency: str,
    taxes: Taxes,
    *,
    coupons: Sequence[Standing] = (),
    shipping: ShippingMethod | None = None,
) -> Priced[O]:
    """What the lines cost with the coupons that serve the buyer best.

    Of the sets of coupons that may stand together the one with the lowest total is taken; of equal ones the one whose
    first coupon comes first. `shipping` is taken as it is: see `refused_shipping`.
    """
    usable, refusals = _sorted_out(lines, currency, coupons)
    deals = [_deal(lines, currency, taxes, each, shipping) for each in companies(usable)]
    best = min(deals, key=lambda each: each.totals.total)  # the first of equals
    beside = [Refusal(each.coupon.id, "does_not_stack") for each in usable if each.coupon.id not in best.standing]
    notices = [*map(notice_of, [*refusals, *beside]), *best.notices]
    return msgspec.structs.replace(best.priced, notices=notices)


def notice_of(refusal: Refusal) -> Notice:
    return Notice("coupon_refused", {"coupon": refusal.code, "reason": refusal.reason, **refusal.details})


def _sorted_out(
    lines: Sequence[tuple[O, int]], currency: str, coupons: Sequence[Standing]
) -> tuple[list[Standing], list[Refusal]]:
    """Those that can be used for these goods, and why the others cannot."""
    usable, refusals = [], []
    for each in coupons:
        reason = refused_by_itself(each)
        refusal = (
            Refusal(each.coupon.id, reason)
            if reason
            else refused_for_goods(each.coupon, _worth(lines, each.coupon.category_ids), currency)
        )
        if refusal is None:
            usable.append(each)
        else:
            refusals.append(refusal)
    return usable, refusals


def _worth(lines: Sequence[tuple[O, int]], category_ids: Sequence[str]) -> int | None:
    """What the goods of these categories cost before any discount; None if there are none."""
    values = [offer.price * quantity for offer, quantity in lines if _is_for(category_ids, offer)]
    return sum(values) if values else None


def _is_for(category_ids: Sequence[str], offer: Offered) -> bool:
    return not category_ids or not set(category_ids).isdisjoint(offer.category_ids)


# ---- one set of coupons


class _Deal(Struct, Generic[O]):
    priced: Priced[O]
    standing: list[str]  # the codes of this set
    notices: list[Notice]

    @property
    def totals(self) -> Totals:
        return self.priced.totals


def _deal(
    lines: Sequence[tuple[O, int]],
    currency: str,
    taxes: Taxes,
    coupons: Sequence[Standing],
    shipping: ShippingMethod | None,
) -> _Deal[O]:
    """What it costs with all coupons of a set."""
    off, taken = discounts(lines, coupons)
    worth = sum(offer.price * quantity for offer, quantity in lines) - sum(off)
    cost = 0 if shipping is None else shipping_cost(shipping, currency, weight_of(lines), worth) or 0
    for each in coupons:
        if each.coupon.kind == "free_shipping":
            taken[each.coupon.id], cost = cost, 0
    priced_lines = [_line(offer, quantity, each, taxes) for (offer, quantity), each in zip(lines, off, strict=True)]
    shipping_tax = tax_of(cost, taxes.get(shipping.tax_class)) if shipping else UNTAXED
    idle = [each.coupon.id for each in coupons if _is_idle(each, taken, shipping)]
    priced = Priced(
        lines=priced_lines,
        totals=totals_of(priced_lines, cost, shipping_tax, currency),
        shipping=shipping,
        shipping_tax=shipping_tax,
        coupons=[each.coupon.id for each in coupons if each.coupon.id not in idle],
        notices=[],
    )
    standing = [each.coupon.id for each in coupons]
    return _Deal(priced, standing, [notice_of(Refusal(code, "takes_nothing_off")) for code in idle])


def _is_idle(each: Standing, taken: Mapping[str, int], shipping: ShippingMethod | None) -> bool:
    """Whether a coupon took nothing off, and so is not used up; free shipping may wait until shipping is chosen."""
    waits = each.coupon.kind == "free_shipping" and shipping is None
    return not taken[each.coupon.id] and not waits


def discounts(lines: Sequence[tuple[O, int]], coupons: Sequence[Standing]) -> tuple[list[int], dict[str, int]]:
    """What is taken off each line, and by each coupon, one after the other: each sees what those before it left.

    What a coupon takes off is shared over the lines that it is for, in proportion to what is left of them.
    """
    left = [offer.price * quantity for offer, quantity in lines]
    taken: dict[str, int] = {}
    for each in coupons:
        coupon = each.coupon
        if coupon.kind == "free_shipping":
            continue
        weights = [
            value if _is_for(coupon.category_ids, offer) else 0 for value, (offer, _) in zip(left, lines, strict=True)
        ]
        base = sum(weights)
        amount = money.part(base, coupon.value) if coupon.kind == "percent" else min(coupon.value, base)
        taken[coupon.id] = amount
        if amount:  # shares by weights that are all 0 would be equal ones
            left = [value - share for value, share in zip(left, money.shared(amount, weights), strict=True)]
    off = [offer.price * quantity - value for (offer, quantity), value in zip(lines, left, strict=True)]
    return off, taken


def _line(offer: O, quantity: int, discount: int, taxes: Taxes) -> PricedLine[O]:
    net = offer.price * quantity - discount
    tax = tax_of(net, taxes.get(offer.tax_class))
    total = net if tax.included else net + tax.amount
    return PricedLine(offer=offer, quantity=quantity, price=offer.price, discount=discount, tax=tax, total=total)


def tax_of(net: int, rate: TaxRate | None) -> Tax:
    """The tax contained in an amount, or to be added to it; none where no rate is known."""
    if rate is None:
        return UNTAXED
    amount = money.part_within(net, rate.rate) if rate.included else money.part(net, rate.rate)
    return Tax(name=rate.name, rate=rate.rate, included=rate.included, amount=amount)


def totals_of(lines: Sequence[PricedLine[O]], shipping: int, shipping_tax: Tax, currency: str) -> Totals:
    """The sums: `total = goods - discount + shipping + tax_added + rounding`."""
    taxes = [*(each.tax for each in lines), shipping_tax]
    goods = sum(each.price * each.quantity for each in lines)
    discount = sum(each.discount for each in lines)
    added = sum(each.amount for each in taxes if not each.included)
    exact = goods - discount + shipping + added
    rounding = -(exact % WHOLE.get(currency, 1))
    return Totals(
        goods=goods,
        discount=discount,
        shipping=shipping,
        tax=sum(each.amount for each in taxes),
        tax_added=added,
        rounding=rounding,
        total=exact + rounding,
    )


# ---- shipping


def weight_of(lines: Sequence[tuple[O, int]]) -> int:
    """In grams."""
    return sum(offer.weight * quantity for offer, quantity in lines)


def goes_to(method: ShippingMethod, country: str, town: str) -> bool:
    """Whether a way of shipping reaches an address. Towns are compared without regard to letter case."""
    if method.closed or country not in method.countries:
        return False
    return not method.towns or town.strip().casefold() in {each.strip().casefold() for each in method.towns}


def shipping_cost(method: ShippingMethod, currency: str, weight: int, worth: int) -> int | None:
    """What it costs to ship so many grams of goods that cost so much after discounts; None if it does not take them."""
    steps = method.prices.get(currency, [])
    cost = next((cost for up_to, cost in steps if weight <= up_to), None)
    if cost is None:
        return None
    free_from = method.free_from.get(currency)
    return 0 if free_from is not None and worth >= free_from else cost


def refused_shipping(
    method: ShippingMethod | None, currency: str, country: str, town: str, weight: int
) -> ShippingReason | None:
    """Why goods cannot go this way."""
    if method is None or method.closed:
        return "unknown"
    if not goes_to(method, country, town):
        return "elsewhere"
    if not method.prices.get(currency):
        return "other_currency"
    return "too_heavy" if shipping_cost(method, currency, weight, 0) is None else None


def check_shipping(method: ShippingMethod) -> None:
    """Raise BadShipping for what makes no sense together."""
    for currency, steps in method.prices.items():
        heights = [up_to for up_to, _ in steps]
        if not steps or heights != sorted(set(heights)):
            raise BadShipping(reason=f"the steps in {currency} ascend by weight, and there is one at least")
    if not set(method.free_from) <= set(method.prices):
        raise BadShipping(reason="it is free from an amount in a currency in which it has no price")
    if (method.kind == "pick_up") != (method.location_id is not None):
        raise BadShipping(reason="what is picked up has a location, and nothing else has")
    if method.days[0] > method.days[1]:
        raise BadShipping(reason="days are from the fewest to the most")
