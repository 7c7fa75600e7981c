"""Papers get their numbers: an invoice when an order is paid, a credit note for each refund that is done.

A number is the id of a document, and what it is for is unique among them, so that one insert decides: there is no gap
since the one before it is there, and no second paper for the same, whoever dies or hurries meanwhile.
"""

from collections.abc import Sequence

from msingi.kit import state
from msingi.kit.clock import now
from msingi.kit.errors import AlreadyExists
from msingi.kit.payments.models import Payment, Refund
from msingi.kit.unit import repeatable
from msingi.products.shop.models.credit_notes import CreditNote, credit_notes
from msingi.products.shop.models.orders import Invoice, Order, invoices, orders
from msingi.products.shop.queries.invoices import invoice_of, last_place, notes_of, seller_now
from msingi.products.shop.queries.orders import payments_of
from msingi.products.shop.queries.sales import zone
from msingi.products.shop.rules import invoices as rules
from msingi.products.shop.rules.orders import year_of

# ---- invoices


async def write_invoice(order: Order) -> Order:
    """Give a paid order its invoice, and note its number there."""
    return await _put_invoice(order, await number_invoice(order.id))


async def number_invoice(order_id: str) -> str:
    """The number of an order's invoice: the next of its year, and the same one ever after."""
    while True:
        known = await invoice_of(order_id)
        if known is not None:
            return known.id
        paid = await payments_of(order_id)
        year = year_of(now(), zone())
        place = await last_place(invoices, year) + 1
        try:
            return (await _number(order_id, year, place, paid)).id
        except AlreadyExists:
            continue


@repeatable
async def _number(order_id: str, year: int, place: int, paid: Sequence[Payment]) -> Invoice:
    fresh = Invoice(
        id=rules.invoice_number(year, place),
        order_id=order_id,
        year=year,
        place=place,
        seller=seller_now(),
        payments=rules.paid_with(paid),
        refunds_before=[each.id for payment in paid for each in payment.refunds],
        address=state.settings().base_url,
    )
    return await invoices.add(fresh)


@repeatable
async def _put_invoice(order: Order, number: str) -> Order:
    return await orders.change(order.id, {"$set": {"invoice": number}})


# ---- credit notes


async def write_credit_notes(order: Order, paid: Sequence[Payment]) -> Order:
    """Give each refund of an invoice that is done its credit note, and note their numbers at the order."""
    if order.invoice is None or not any(each.state == "done" for payment in paid for each in payment.refunds):
        return order
    invoice = await invoice_of(order.id)
    if invoice is None:
        return order
    for payment, refund in rules.refunds_of(invoice, paid):
        await _write_credit_note(order, invoice, payment, refund)
    numbers = [each.id for each in await notes_of(order.id)]
    return order if set(numbers) <= set(order.credit_notes) else await _put_credit_notes(order, numbers)


async def _write_credit_note(order: Order, invoice: Invoice, payment: Payment, refund: Refund) -> None:
    """The next number of its year, unless this refund has one, or nothing of the invoice is left to be given back."""
    while True:
        notes = await notes_of(order.id)
        credit = rules.credit(order, refund, notes)
        if credit is None or any(each.refund_id == refund.id for each in notes):
            return
        year = year_of(now(), zone())
        place = await last_place(credit_notes, year) + 1
        fresh = CreditNote(
            **credit._asdict(),
            id=rules.credit_number(year, place),
            order_id=order.id,
            nth=len(notes) + 1,
            invoice=invoice.id,
            refund_id=refund.id,
            year=year,
            place=place,
            currency=order.currency,
            provider=payment.provider,
            receipt=refund.receipt,
            seller=invoice.seller or seller_now(),
            address=invoice.address or state.settings().base_url,
        )
        try:
            await _add(fresh)
        except AlreadyExists:
            continue


@repeatable
async def _add(note: CreditNote) -> None:
    await credit_notes.add(note)


@repeatable
async def _put_credit_notes(order: Order, numbers: Sequence[str]) -> Order:
    return await orders.change(order.id, {"$addToSet": {"credit_notes": {"$each": list(numbers)}}})
