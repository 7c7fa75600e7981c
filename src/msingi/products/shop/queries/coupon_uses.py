"""How often coupons are used, derived again from the orders: what is spent, by whom, and what is held."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from msingi.kit import state
from msingi.kit.drift import Drift
from msingi.products.shop.models.orders import Order, orders
from msingi.products.shop.models.pricing import Coupon, PersonalUse, Use, coupons, personal_uses
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries.orders import database_now
from msingi.products.shop.queries.pricing import use_id
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.rules.coupons import normal_all

SLACK = timedelta(minutes=1)  # between a checkout's own clock and the database's


class Uses:
    """What the orders say of coupons; each order is told once, and then `drifts` compares."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()  # by code
        self.by_person: Counter[str] = Counter()  # by the id of a personal use
        self.waiting: dict[str, Order] = {}

    def see(self, order: Order) -> None:
        codes = normal_all(order.coupons)
        if rules.COUPONS_SPENT in order.steps:
            self.spent.update(codes)
            person = rules.counted_for(order)
            if person is not None:
                self.by_person.update(use_id(code, person) for code in codes)
        elif codes and order.state == "awaiting_payment":
            self.waiting[order.id] = order

    async def drifts(self) -> list[Drift]:
        """Where what is kept of coupons is not what the orders say."""
        at = await database_now()
        found: list[Drift] = []
        known: dict[str, Coupon] = {}
        async for coupon in coupons.each({}):
            known[coupon.id] = coupon
            found += _differs("coupon_spent", coupon.id, self.spent.pop(coupon.id, 0), coupon.spent)
            found += await self._held("coupon_held", coupon, at)
        async for use in personal_uses.each({}):
            found += _differs("coupon_spent_by_person", use.id, self.by_person.pop(use.id, 0), use.spent)
            found += await self._held("coupon_held_by_person", use, at)
        found += [Drift("coupon_spent", code, much, None) for code, much in self.spent.items()]
        found += [Drift("coupon_spent_by_person", id, much, None) for id, much in self.by_person.items()]
        return [*found, *await self._not_held(known, at)]

    async def _held(self, what: str, kept: Coupon | PersonalUse, at: datetime) -> list[Drift]:
        """Holds for no order that waits. One whose checkout died belongs to none, and ends by itself."""
        code = kept.id.partition(".")[0]
        found = []
        for use in kept.uses:
            if use.until > at and not await self._is_meant(use, code, at):
                found.append(Drift(what, f"{kept.id}/{use.order_id}", None, use.until))
        return found

    async def _is_meant(self, use: Use, code: str, at: datetime) -> bool:
        waiting = self.waiting.get(use.order_id)
        if waiting is not None:
            return code in normal_all(waiting.coupons)
        longest = timedelta(seconds=state.part(ShopSettings).hold_seconds) + SLACK
        return use.until <= at + longest and not await orders.exists({"_id": use.order_id})

    async def _not_held(self, known: dict[str, Coupon], at: datetime) -> list[Drift]:
        """Orders that wait, and do not hold what they would use up."""
        wanted = {use_id(code, order.person) for order in self.waiting.values() for code in normal_all(order.coupons)}
        personal = {each.id: each async for each in personal_uses.each({"_id": {"$in": sorted(wanted)}})}
        found = []
        for order in self.waiting.values():
            if order.held_until <= at:
                continue
            for code in normal_all(order.coupons):
                coupon = known.get(code)
                if coupon is None or (coupon.held_since is not None and order.created_at <= coupon.held_since + SLACK):
                    continue
                mine = personal.get(use_id(code, order.person))
                if coupon.limit is not None and not _holds(coupon.uses, order):
                    found.append(Drift("coupon_held", f"{code}/{order.id}", order.held_until, None))
                if coupon.limit_each is not None and order.person and not _holds(mine.uses if mine else [], order):
                    found.append(
                        Drift("coupon_held_by_person", f"{code}.{order.person}/{order.id}", order.held_until, None)
                    )
        return found


def _differs(what: str, id: str, expected: int, found: int) -> Iterator[Drift]:
    if expected != found:
        yield Drift(what, id, expected, found)


def _holds(uses: list[Use], order: Order) -> bool:
    return any(each.order_id == order.id for each in uses)
