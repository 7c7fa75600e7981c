"""What an order means to the figures, on which day; and how days become weeks and months."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from msingi.kit.errors import Conflict, Invalid
from msingi.products.shop.models.orders import Entry, Order, OrderLine
from msingi.products.shop.models.reports import DayPart, Figures, Format, ProductPart, SheetKind, Sold
from msingi.products.shop.rules.orders import find_return

Step = Literal["day", "week", "month"]
LONGEST = 1100  # days of a report
USUAL = 30  # days of a report that does not say
FIRST, LAST = date(2000, 1, 1), date(2100, 1, 1)  # no shop sold anything outside of these
COUNTING = frozenset(
    {
        *("confirmed", "short", "money_received", "refunded", "cancelled", "rest_cancelled"),
        *("shipped", "delivered", "delivered_without_code", "return_received"),
    }
)
FORMATS: Mapping[SheetKind, tuple[Format, ...]] = {
    "products": ("csv", "xlsx", "json"),
    "orders": ("csv", "xlsx"),
    "sales": ("csv", "xlsx"),
    "stock": ("csv", "xlsx"),
    "movements": ("csv", "xlsx"),
    "import": ("csv", "xlsx"),
}
NEEDS: Mapping[SheetKind, str] = {
    "products": "shop:catalogue",
    "orders": "shop:orders",
    "sales": "shop:reports",
    "stock": "shop:read",
    "movements": "shop:read",
    "import": "shop:catalogue",
}
SPANNED = ("orders", "sales", "movements")  # kinds that are of some days


class BadSpan(Invalid):
    """A report is of 1 to {most} days, and begins before it ends: {reason}."""


class NotWritten(Conflict):
    """This sheet is {state}: there is nothing to fetch."""


class StillWritten(Conflict):
    """This sheet is being written, or read: wait until that is over."""


class TooManySheets(Conflict):
    """So many sheets of yours are waiting or under way already: {most}."""


# ---- days


def day_of(at: datetime, zone: ZoneInfo) -> str:
    """The day on the calendar of the shop."""
    return at.astimezone(zone).date().isoformat()


def bounds(since: date, until: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """When these days begin, and when they are over, in UTC."""
    ends = (since, until + timedelta(days=1))
    begin, end = (datetime.combine(each, time(), zone).astimezone(UTC) for each in ends)
    return begin, end


def checked_span(since: date | None, until: date | None, today: date) -> tuple[date, date]:
    """From when to when: without an end until today, without a beginning a month. Raises BadSpan."""
    until = until or today
    if not FIRST <= until <= LAST:
        raise BadSpan(most=LONGEST, reason=f"it cannot end on {until}")
    since = since or max(until - timedelta(days=USUAL - 1), FIRST)
    if since > until:
        raise BadSpan(most=LONGEST, reason=f"{since} is after {until}")
    if since < FIRST or (until - since).days >= LONGEST:
        raise BadSpan(most=LONGEST, reason=f"{since} is too long before {until}")
    return since, until


def days(since: date, until: date) -> Iterator[date]:
    for number in range((until - since).days + 1):
        yield since + timedelta(days=number)


def first_of(day: date, step: Step) -> date:
    """The first day of a day's week (Monday), or month."""
    if step == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if step == "month" else day


def steps(since: date, until: date, step: Step) -> list[date]:
    """The first days of all steps in a span; the first step may begin before it."""
    return list(dict.fromkeys(first_of(each, step) for each in days(since, until)))


# ---- what an order means


class Meaning(Struct):
    """What an order means to the days and to the products."""

    days: list[DayPart]
    products: list[ProductPart]


def meaning(order: Order, zone: ZoneInfo) -> Meaning:
    """What an order means to the figures, worked out of its lines and its history alone.

    - It counts as `ordered` on the day on which it was placed, and on that very day as paid, sent and delivered once
      it is: so many of that day's orders came so far.
    - Its sums count on the day on which it was confirmed, once, whatever becomes of it.
    - What went back counts on the day on which it went. What had been paid beyond the order's sum goes back first and
      counts for nothing, as it was never counted; so does what came and went before it was confirmed.
    - If a confirmed order is cancelled before its money was taken (a bank had only set it aside), what is not to be
      taken any more counts as going back on that day.
    """
    found = _Parts(order, zone)
    found.place()
    if any(each.kind == "confirmed" for each in order.timeline):
        _count_money(order, found)
        _count_goods(order, found)
    return Meaning(sorted(found.days.values(), key=lambda each: each.day), found.sorted_products())


class _Parts:
    """An order's parts of days, as they are found."""

    def __init__(self, order: Order, zone: ZoneInfo) -> None:
        self.order, self.zone = order, zone
        self.days: dict[str, DayPart] = {}
        self.products: dict[tuple[str, str], ProductPart] = {}

    def day(self, at: datetime) -> DayPart:
        day = day_of(at, self.zone)
        return self.days.setdefault(day, DayPart(day=day))

    def product(self, at: datetime, line: OrderLine) -> ProductPart:
        day = self.day(at).day
        fresh = ProductPart(day=day, product_id=line.product_id)
        return self.products.setdefault((day, line.product_id), fresh)

    def place(self) -> None:
        kinds = {each.kind for each in self.order.timeline}
        part = self.day(self.order.created_at)
        part.ordered = 1
        part.paid = int("confirmed" in kinds or "short" in kinds)
        part.sent = int("shipped" in kinds)
        part.delivered = int(self.order.state == "delivered")

    def sorted_products(self) -> list[ProductPart]:
        return [self.products[key] for key in sorted(self.products)]


def _count_money(order: Order, found: _Parts) -> None:
    owed, came, surplus_gone = order.totals.total, 0, 0
    is_sold = False
    for said in order.timeline:
        amount = int(said.details.get("amount", 0))
        if said.kind == "confirmed" and not is_sold:
            is_sold = True
            _sell(order, found.day(said.at))
        elif said.kind == "money_received":
            came += amount
        elif said.kind == "refunded" and not is_sold:
            came -= amount  # of an order that had expired, and is paid once more after that
        elif said.kind == "refunded":
            surplus = min(amount, max(came - owed - surplus_gone, 0))
            surplus_gone += surplus
            _give_back(found.day(said.at), amount - surplus)
        elif said.kind == "cancelled" and is_sold and came < owed:
            _give_back(found.day(said.at), owed - came)
            owed = came


def _sell(order: Order, part: DayPart) -> None:
    sums = order.totals
    part.orders += 1
    part.items += sum(line.quantity for line in order.lines)
    part.gross += sums.goods + sums.tax_added
    part.discount += sums.discount - sums.rounding
    part.shipping += sums.shipping
    part.tax += sums.tax
    part.net += sums.total


def _give_back(part: DayPart, amount: int) -> None:
    part.refunded += amount
    part.net -= amount


def _count_goods(order: Order, found: _Parts) -> None:
    lines = {line.id: line for line in order.lines}
    is_sold = False
    for said in order.timeline:
        if said.kind == "confirmed" and not is_sold:
            is_sold = True
            for line in order.lines:
                part = found.product(said.at, line)
                part.quantity += line.quantity
                part.revenue += line.total
        for id, count in _came_back(order, said, is_sold).items():
            if id in lines and count:
                found.product(said.at, lines[id]).returned += count


def _came_back(order: Order, said: Entry, is_sold: bool) -> dict[str, int]:
    """How many of each line came back with this, or were cancelled before they were sent."""
    if said.kind == "return_received":
        returned = find_return(order, said.details.get("returned", ""))
        return dict(returned.lines) if returned else {}
    if said.kind == "rest_cancelled":
        return {line.id: line.cancelled for line in order.lines}
    if said.kind == "cancelled" and is_sold:
        return {line.id: line.quantity for line in order.lines}
    return {}


# ---- sums


def added(parts: Iterable[Figures]) -> Figures:
    """What some days add up to."""
    sums = Figures()
    for part in parts:
        for name in FIGURES:
            setattr(sums, name, getattr(sums, name) + getattr(part, name))
    return sums


FIGURES = tuple(each.name for each in structs.fields(Figures))
SOLD = tuple(each.name for each in structs.fields(Sold))
