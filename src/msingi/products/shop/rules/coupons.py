"""Which coupons may be used, and what a coupon must be like."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from msingi.kit.errors import Conflict, Invalid
from msingi.products.shop.models.pricing import Coupon

MOST_CODES = 5  # in one cart
MOST_WAITING = 2_000  # orders that hold one coupon at the same time
REMEMBERED = 200  # orders that a coupon knows to have spent it

Reason = Literal[
    "unknown",  # no coupon has that code
    "closed",
    "not_yet",
    "ended",
    "used_up",
    "used_by_you",  # as often as one person may
    "person_unknown",  # it is counted for each person, and nobody said who this is
    "other_currency",
    "no_goods",  # none that it is for
    "below_minimum",
    "does_not_stack",
    "takes_nothing_off",
]
# What a change of one of these has to be weighed with.
COHERENT = ("kind", "value", "currency", "starts_at", "ends_at", "minimum")


class CouponRefused(Conflict):
    """The coupon {coupon} cannot be used: {reason}."""


class CouponCrowded(Conflict):
    """So many orders wait with this coupon that it takes no more now; try again in a few minutes."""


class TooManyCoupons(Conflict):
    """A cart takes {most} coupons."""


class CouponInUse(Conflict):
    """This coupon was used already: close it instead, so that its orders can still be understood."""


class BadCoupon(Invalid):
    """This is no coupon: {reason}."""


class Standing(Struct, frozen=True, kw_only=True):
    """A coupon as it stands at a moment of the database's clock."""

    coupon: Coupon
    at: datetime
    held: int = 0  # holds of other orders that have not ended
    own: int = 0  # what the person who asks has spent and holds, in other orders


class Refusal(Struct, frozen=True):
    """Why a coupon is not used, and what a person needs to know beside that."""

    code: str
    reason: Reason
    details: dict[str, Any] = {}


def normal(code: str) -> str:
    """A code as it is stored: people type it in any letters, with blanks around it."""
    return code.strip().upper()


def normal_all(codes: Iterable[str]) -> list[str]:
    """Each code once, in the order in which they were given."""
    return list(dict.fromkeys(map(normal, codes)))


def refused_by_itself(standing: Standing) -> Reason | None:
    """Why a coupon cannot be used by this person now, whatever they buy."""
    coupon, at = standing.coupon, standing.at
    if coupon.closed:
        return "closed"
    if coupon.starts_at is not None and at < coupon.starts_at:
        return "not_yet"
    if coupon.ends_at is not None and at >= coupon.ends_at:
        return "ended"
    if coupon.limit is not None and coupon.spent + standing.held >= coupon.limit:
        return "used_up"
    if coupon.limit_each is not None and standing.own >= coupon.limit_each:
        return "used_by_you"
    return None


def refused_for_goods(coupon: Coupon, worth: int | None, currency: str) -> Refusal | None:
    """Why a coupon cannot be used for goods worth so much in a currency; None: there are none that it is for."""
    if coupon.currency is not None and coupon.currency != currency:
        return Refusal(coupon.id, "other_currency", {"currency": coupon.currency})
    if worth is None:
        return Refusal(coupon.id, "no_goods")
    if worth < coupon.minimum:
        return Refusal(coupon.id, "below_minimum", {"minimum": coupon.minimum, "missing": coupon.minimum - worth})
    return None


def in_order(coupons: Iterable[Standing]) -> list[Standing]:
    """As they are taken off: lower priority first, then by code."""
    return sorted(coupons, key=lambda each: (each.coupon.priority, each.coupon.id))


def companies(coupons: Sequence[Standing]) -> list[list[Standing]]:
    """The sets that may be used together: all that stack, or one that does not, by itself; none is a set too."""
    ordered = in_order(coupons)
    stacking = [each for each in ordered if each.coupon.stacks]
    alone = [[each] for each in ordered if not each.coupon.stacks]
    found = sorted([*([stacking] if stacking else []), *alone], key=lambda each: ordered.index(each[0]))
    return found or [[]]


def check_coupon(coupon: Coupon) -> None:
    """Raise BadCoupon for what makes no sense together."""
    if coupon.kind == "percent" and not 1 <= coupon.value <= 10_000:
        raise BadCoupon(reason="a percentage is 1 to 10000 basis points")
    if coupon.kind == "amount" and coupon.value < 1:
        raise BadCoupon(reason="an amount is at least 1 minor unit")
    if coupon.kind == "free_shipping" and coupon.value:
        raise BadCoupon(reason="free shipping has no value")
    if (coupon.kind == "amount" or coupon.minimum) and coupon.currency is None:
        raise BadCoupon(reason="an amount and a minimum need a currency")
    if coupon.starts_at and coupon.ends_at and coupon.starts_at >= coupon.ends_at:
        raise BadCoupon(reason="it ends before it starts")


def unchanged(coupon: Coupon) -> Mapping[str, Any]:
    """What must still be so when a change is made that was weighed with it."""
    return {name: getattr(coupon, name) for name in COHERENT}
