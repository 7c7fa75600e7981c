"""What an order means to the figures: on which day what counts, and what counts for nothing."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from msingi.kit import config
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.orders import Entry, Order, OrderLine, Return, Tax, Totals
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.rules import reports as rules

NAIROBI = ZoneInfo("Africa/Nairobi")
TAX = Tax(name="VAT", rate=1600, included=False, amount=160)
NOON = datetime(2026, 3, 1, 9, tzinfo=UTC)


def order(*history: tuple[Any, ...], **more: Any) -> Order:
    """An order of 11.60, less 1.00, plus 2.00 to ship it, with its history: kind, amount, days after it was placed."""
    line = OrderLine(
        id="1", product_id="tea", variant_id="tea-250", sku="T", title=Words(en="Tea"), quantity=2, price=500,
        discount=100, tax=TAX, total=1060,
    )  # fmt: skip
    entries = [
        Entry(id=str(number), at=NOON + timedelta(days=days), kind=kind, details={"amount": str(amount)} | dict(*said))
        for number, (kind, amount, days, *said) in enumerate(history)
    ]
    totals = Totals(goods=1000, discount=100, shipping=200, tax=160, tax_added=160, rounding=-60, total=1200)
    values: dict[str, Any] = {
        "number": "MS-1", "email": "", "currency": "KES", "created_at": NOON, "lines": [line], "totals": totals,
        "held_until": NOON, "timeline": entries,
    } | more  # fmt: skip
    return Order(**values)


def days_of(found: Order) -> dict[str, tuple[int, int, int]]:
    """What each day says: orders, what went back, and what is left."""
    return {each.day[-2:]: (each.orders, each.refunded, each.net) for each in rules.meaning(found, NAIROBI).days}


PAID = [("money_received", 1200, 1), ("confirmed", 0, 2)]


@pytest.mark.parametrize(
    ("history", "days"),
    [
        ([], {"01": (0, 0, 0)}),
        (PAID, {"01": (0, 0, 0), "03": (1, 0, 1200)}),
        ([*PAID, ("refunded", 500, 4)], {"01": (0, 0, 0), "03": (1, 0, 1200), "05": (0, 500, -500)}),
        # Paid twice: the second time goes back and was never counted; what goes back after it was.
        (
            [*PAID, ("money_received", 1200, 3), ("refunded", 1300, 4)],
            {"01": (0, 0, 0), "03": (1, 0, 1200), "05": (0, 100, -100)},
        ),
        # The money came when the order had expired, and goes back: it was never sold.
        ([("expired", 0, 1), ("money_received", 1200, 2), ("refunded", 1200, 3)], {"01": (0, 0, 0)}),
        ([("money_received", 1200, 1), ("short", 0, 1), ("cancelled", 0, 2), ("refunded", 1200, 3)], {"01": (0, 0, 0)}),
        # Short, and filled by hand the next day.
        ([("money_received", 1200, 0), ("short", 0, 0), ("confirmed", 0, 1)], {"01": (0, 0, 0), "02": (1, 0, 1200)}),
        # Paid in part, expired and paid back; then paid whole after all.
        (
            [("money_received", 500, 0), ("expired", 0, 0), ("refunded", 500, 1), *PAID],
            {"01": (0, 0, 0), "03": (1, 0, 1200)},
        ),
        # A bank had set the money aside; the order was cancelled before it was taken.
        ([("confirmed", 0, 0), ("cancelled", 0, 1)], {"01": (1, 0, 1200), "02": (0, 1200, -1200)}),
        (
            [("confirmed", 0, 0), ("cancelled", 0, 1), ("money_received", 1200, 2), ("refunded", 1200, 3)],
            {"01": (1, 0, 1200), "02": (0, 1200, -1200), "04": (0, 0, 0)},
        ),
        (
            [*PAID, ("cancelled", 0, 3), ("refunded", 1200, 3)],
            {"01": (0, 0, 0), "03": (1, 0, 1200), "04": (0, 1200, -1200)},
        ),
    ],
)
def test_what_counts_on_which_day(history: list[Any], days: dict[str, tuple[int, int, int]]) -> None:
    assert days_of(order(*history)) == days


def test_the_sums_of_a_sale_add_up_to_what_was_owed() -> None:
    (_, sold) = rules.meaning(order(*PAID), NAIROBI).days
    assert (sold.items, sold.gross, sold.discount, sold.shipping, sold.tax) == (2, 1160, 160, 200, 160)
    assert sold.net == sold.gross - sold.discount + sold.shipping - sold.refunded == 1200


def test_how_far_an_order_came_counts_on_the_day_on_which_it_was_placed() -> None:
    def reached(*kinds: str, **more: Any) -> tuple[int, int, int, int]:
        first = rules.meaning(order(*((kind, 0, 5) for kind in kinds), **more), NAIROBI).days[0]
        assert first.day == "2026-03-01"
        return first.ordered, first.paid, first.sent, first.delivered

    assert reached() == (1, 0, 0, 0)
    assert reached("short") == (1, 1, 0, 0)
    assert reached("confirmed", "shipped", "delivered") == (1, 1, 1, 0)  # another shipment is on its way
    assert reached("confirmed", "shipped", "delivered", state="delivered") == (1, 1, 1, 1)


def test_what_came_back_or_was_cancelled_counts_for_its_product() -> None:
    back = Return(id="r", at=NOON, lines={"1": 1}, reason="torn", state="received")
    found = order(*PAID, ("return_received", 0, 6, {"returned": "r"}), returns=[back])
    told = [
        (each.day[-2:], each.quantity, each.returned, each.revenue) for each in rules.meaning(found, NAIROBI).products
    ]
    assert told == [("03", 2, 0, 1060), ("07", 0, 1, 0)]
    cancelled = rules.meaning(order(*PAID, ("cancelled", 0, 2)), NAIROBI).products
    assert [(each.quantity, each.returned) for each in cancelled] == [(2, 2)]
    assert rules.meaning(order(("cancelled", 0, 2)), NAIROBI).products == []


def test_a_day_begins_at_midnight_in_the_shop() -> None:
    late = datetime(2026, 1, 31, 21, 0, tzinfo=UTC)
    assert rules.day_of(late, NAIROBI) == "2026-02-01"
    assert rules.day_of(late - timedelta(milliseconds=1), NAIROBI) == "2026-01-31"
    begin, end = rules.bounds(date(2026, 1, 31), date(2026, 2, 1), NAIROBI)
    assert (begin, end) == (datetime(2026, 1, 30, 21, tzinfo=UTC), datetime(2026, 2, 1, 21, tzinfo=UTC))
    begin, end = rules.bounds(date(2026, 3, 29), date(2026, 3, 29), ZoneInfo("Europe/Berlin"))
    assert end - begin == timedelta(hours=23)  # the clocks went forward


def test_steps_begin_on_mondays_and_on_firsts() -> None:
    since, until = date(2026, 1, 30), date(2026, 2, 9)
    assert len(rules.steps(since, until, "day")) == 11
    assert rules.steps(since, until, "week") == [date(2026, 1, 26), date(2026, 2, 2), date(2026, 2, 9)]
    assert rules.steps(since, until, "month") == [date(2026, 1, 1), date(2026, 2, 1)]


def test_a_span_is_of_at_most_1100_days() -> None:
    today = date(2026, 3, 1)
    assert rules.checked_span(None, None, today) == (date(2026, 1, 31), today)
    assert rules.checked_span(None, date(2026, 1, 30), today) == (date(2026, 1, 1), date(2026, 1, 30))
    longest = today - timedelta(days=1099)
    assert rules.checked_span(longest, today, today) == (longest, today)
    for since, until in ((longest - timedelta(days=1), today), (today, longest), (date.min, date.min)):
        with pytest.raises(rules.BadSpan):
            rules.checked_span(since, until, today)
    assert rules.checked_span(None, rules.FIRST, today) == (rules.FIRST, rules.FIRST)


def test_a_time_zone_that_is_none_keeps_the_shop_from_starting() -> None:
    for name in ("Africa/Nowhere", "../etc/passwd"):
        with pytest.raises(config.BadSettings, match="MSINGI_SHOP_ZONE"):
            config.load(ShopSettings, {"MSINGI_SHOP_ZONE": name})
    assert config.load(ShopSettings, {"MSINGI_SHOP_ZONE": "Europe/Berlin"}).zone == "Europe/Berlin"


def test_a_tax_pin_that_the_revenue_authority_would_not_know_keeps_the_shop_from_starting() -> None:
    for pin in ("P05123456X", "X051234567P", "p051234567x", "P0512345678", "P051234567X ", "P٠٥١٢٣٤٥٦٧X"):
        with pytest.raises(config.BadSettings, match="MSINGI_SHOP_TAX_PIN"):
            config.load(ShopSettings, {"MSINGI_SHOP_TAX_PIN": pin})
    for pin in ("", "P051234567X", "A001234567Z"):
        assert config.load(ShopSettings, {"MSINGI_SHOP_TAX_PIN": pin}).tax_pin == pin
    uganda = {"MSINGI_SHOP_TAX_PIN": "1000123456", "MSINGI_SHOP_COUNTRY": "UG"}
    assert config.load(ShopSettings, uganda).tax_pin == "1000123456"
