"""What an order means for the ledger: what it earns when it is confirmed, and what it takes back later.

Each posting has an id that follows from what it is of, and lines that follow from the order's snapshot; so it can be
made anew at any time, and is posted once. When all is paid, or all is paid back, nothing is owed for the order.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from msingi.kit.money import rounded
from msingi.kit.payments.ledger import receivable
from msingi.kit.payments.models import Line, Payment, Posting, Refund
from msingi.products.shop.models.orders import Order, Tax
from msingi.products.shop.rules.orders import HOUSE, purpose_of

SALES, SHIPPING, ROUNDING, REFUNDS = "sales", "shipping", "rounding", "refunds"


def of_order(order: Order, payments: Sequence[Payment]) -> list[Posting]:
    """All postings of an order beside those of its payments, as far as it has come."""
    if not any(each.kind == "confirmed" for each in order.timeline):
        return []
    given = [
        each for payment in payments for each in payment.refunds if each.state == "done" and each.asked_by != HOUSE
    ]
    kept = [_posting(order, "sale", sale(order), "confirmed")]
    kept += [_posting(order, f"refund.{each.id}", _gift(order, each), "refunded") for each in given]
    if order.state == "cancelled":
        return [*kept, *(_reversed(each) for each in kept)]
    kept += [
        _posting(order, f"return.{each.id}", _taken_back(order, each.lines, each.refund), "returned")
        for each in order.returns
        if each.state == "received"
    ]
    given_up = {line.id: line.cancelled for line in order.lines if line.cancelled}
    if given_up:
        kept.append(_posting(order, "rest", _taken_back(order, given_up, rest_of(order)), "cancelled"))
    return kept


def sale(order: Order) -> list[Line]:
    """What is owed for it, and for what: goods and shipping without tax, each tax, and what rounding cost the house."""
    totals = order.totals
    carried = totals.total - totals.rounding - sum(line.total for line in order.lines)
    taxed = Counter[str]()
    for tax in (*(line.tax for line in order.lines), order.shipping_tax):
        taxed[_account(tax)] += tax.amount
    goods = sum(line.total - line.tax.amount for line in order.lines)
    return [
        Line(receivable(purpose_of(order.id)), totals.total),
        Line(SALES, -goods),
        Line(SHIPPING, order.shipping_tax.amount - carried),
        Line(ROUNDING, -totals.rounding),
        *(Line(account, -amount) for account, amount in taxed.items()),
    ]


def rest_of(order: Order) -> int:
    """What is paid back for what was given up of an order that was partly shipped, as it was reckoned then."""
    return sum(int(each.details["amount"]) for each in order.timeline if each.kind == "rest_cancelled")


def _taken_back(order: Order, quantities: Mapping[str, int], amount: int) -> list[Line]:
    """A credit note: the goods' part of each tax, and the rest out of sales."""
    taxed = Counter[str]()
    for line in order.lines:
        if line.id in quantities:
            taxed[_account(line.tax)] += rounded(Fraction(line.tax.amount * quantities[line.id], line.quantity))
    return [
        Line(receivable(purpose_of(order.id)), -amount),
        Line(SALES, amount - sum(taxed.values())),
        *(Line(account, much) for account, much in taxed.items()),
    ]


def _gift(order: Order, refund: Refund) -> list[Line]:
    """Money that went back without goods coming back."""
    return [Line(REFUNDS, refund.told), Line(receivable(purpose_of(order.id)), -refund.told)]


def _account(tax: Tax) -> str:
    return f"tax:{tax.name or 'none'}"


def _posting(order: Order, what: str, lines: Iterable[Line], note: str) -> Posting:
    kept = [each for each in lines if each.amount]
    return Posting(
        id=f"order.{order.id}.{what}", currency=order.currency, lines=kept, purpose=purpose_of(order.id), note=note
    )


def _reversed(posting: Posting) -> Posting:
    lines = [Line(each.account, -each.amount) for each in posting.lines]
    return Posting(
        id=f"{posting.id}.reversed", currency=posting.currency, lines=lines, purpose=posting.purpose, note="cancelled"
    )
