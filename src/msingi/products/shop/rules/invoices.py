"""Which numbers papers have, and what of an invoice a refund gives back."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from msingi.kit.money import rounded
from msingi.kit.payments.models import Payment, Refund
from msingi.products.shop.models.credit_notes import CreditLine, CreditNote, CreditTax, Why
from msingi.products.shop.models.orders import Invoice, Order, PaidWith, Tax
from msingi.products.shop.rules import bookkeeping
from msingi.products.shop.rules import orders as rules

CREDIT = "C"  # how the numbers of credit notes begin
Kind = tuple[str, int]  # a tax's name and rate


class Credit(NamedTuple):
    """What one refund gives back of an invoice."""

    amount: int
    why: Why
    of: str
    reason: str
    lines: list[CreditLine]
    other: int
    taxes: list[CreditTax]


def invoice_number(year: int, place: int) -> str:
    return f"{year}-{place:06d}"


def credit_number(year: int, place: int) -> str:
    return f"{CREDIT}{invoice_number(year, place)}"


def paid_with(payments: Sequence[Payment]) -> list[PaidWith]:
    """By what an order is paid, as far as it is."""
    return [
        PaidWith(provider=each.provider, amount=each.captured, receipt=each.receipt or "")
        for each in payments
        if each.captured
    ]


def refunds_of(invoice: Invoice, payments: Sequence[Payment]) -> list[tuple[Payment, Refund]]:
    """The refunds that are done and of the invoice, in the order in which they were asked for.

    What was paid beyond the total never was on it, nor what came and went before there was one.
    """
    done = [
        (payment, each)
        for payment in payments
        for each in payment.refunds
        if each.state == "done"
        and each.id not in invoice.refunds_before
        and not (each.asked_by == rules.HOUSE and each.reason == rules.SURPLUS)
    ]
    return sorted(done, key=lambda pair: (pair[1].asked_at, pair[1].id))


def to_credit(order: Order, invoice: Invoice, payments: Sequence[Payment]) -> int:
    """What all credit notes of an order add up to: never more than its invoice."""
    return min(sum(went(each) for _, each in refunds_of(invoice, payments)), order.totals.total)


def went(refund: Refund) -> int:
    """How much of a refund went back: what the provider said, else what was asked for."""
    return refund.told or refund.amount


def credit(order: Order, refund: Refund, notes: Sequence[CreditNote]) -> Credit | None:
    """What a refund gives back of the invoice, beside what these notes do; None if there is nothing left of it."""
    amount = min(went(refund), order.totals.total - sum(each.amount for each in notes))
    if amount <= 0:
        return None
    why, of = _why(order, refund)
    alike = [each for each in notes if (each.why, each.of) == (why, of)]
    others = [each for each in notes if each not in alike]
    before = sum(each.amount for each in alike)
    whole = max(_whole(order, why, of, others) or amount, before + amount)
    lines = _lines(order, _quantities(order, why, of))
    taxes = _taxes(order, why, of)
    taxes.subtract({kind: much for kind, much in _noted(others).items() if why == "cancelled"})
    return Credit(
        amount=amount,
        why=why,
        of=of,
        reason=_reason(order, refund, why, of),
        lines=lines,
        other=amount - sum(each.amount for each in lines) if lines else 0,
        taxes=[
            CreditTax(name=name, rate=rate, amount=part)
            for (name, rate), much in taxes.items()
            if (part := _share(much, before + amount, whole) - _share(much, before, whole))
        ],
    )


def _why(order: Order, refund: Refund) -> tuple[Why, str]:
    """What a refund is for, and of which return."""
    if refund.asked_by == rules.HOUSE:
        if refund.reason == rules.REST:
            return "rest", ""
        if refund.reason == rules.NO_ORDER and order.state == "cancelled":
            return "cancelled", ""
        found = next((each for each in order.returns if refund.reason == f"Return {each.id}"), None)
        if found is not None:
            return "return", found.id
    return "reduction", ""


def _whole(order: Order, why: Why, of: str, others: Sequence[CreditNote]) -> int:
    """What all notes of the same reason give back together; 0 if that is not known."""
    if why == "return":
        found = rules.find_return(order, of)
        return found.refund if found else 0
    if why == "rest":
        return bookkeeping.rest_of(order)
    return order.totals.total - sum(each.amount for each in others) if why == "cancelled" else 0


def _quantities(order: Order, why: Why, of: str) -> Mapping[str, int]:
    """How many of which line it is for."""
    if why == "return":
        found = rules.find_return(order, of)
        return found.lines if found else {}
    if why == "rest":
        return {line.id: line.cancelled for line in order.lines if line.cancelled}
    return {line.id: line.quantity for line in order.lines} if why == "cancelled" else {}


def _lines(order: Order, quantities: Mapping[str, int]) -> list[CreditLine]:
    return [
        CreditLine(
            title=line.title,
            options=line.options,
            sku=line.sku,
            quantity=quantities[line.id],
            amount=rounded(Fraction(line.total * quantities[line.id], line.quantity)),
        )
        for line in order.lines
        if line.id in quantities
    ]


def _taxes(order: Order, why: Why, of: str) -> Counter[Kind]:
    """The taxes of what it is for, as the ledger takes them back: of a reduction none."""
    found: Counter[Kind] = Counter()
    for tax, quantity, of_all in _taxed(order, why, of):
        found[tax.name, tax.rate] += rounded(Fraction(tax.amount * quantity, of_all))
    return found


def _taxed(order: Order, why: Why, of: str) -> Iterator[tuple[Tax, int, int]]:
    quantities = _quantities(order, why, of)
    for line in order.lines:
        if line.id in quantities:
            yield line.tax, quantities[line.id], line.quantity
    if why == "cancelled":
        yield order.shipping_tax, 1, 1


def _noted(notes: Sequence[CreditNote]) -> Counter[Kind]:
    found: Counter[Kind] = Counter()
    for note in notes:
        for tax in note.taxes:
            found[tax.name, tax.rate] += tax.amount
    return found


def _share(much: int, part: int, whole: int) -> int:
    return rounded(Fraction(much * part, whole))


def _reason(order: Order, refund: Refund, why: Why, of: str) -> str:
    """What somebody said why, in their own words."""
    if why == "return":
        found = rules.find_return(order, of)
        return found.reason if found else ""
    if why == "reduction":
        return refund.reason if refund.asked_by != rules.HOUSE else ""
    kind = "rest_cancelled" if why == "rest" else "cancelled"
    return next((each.details.get("reason", "") for each in order.timeline if each.kind == kind), "")
