"""Invoices and credit notes over the wire."""

from datetime import datetime

from msgspec import Struct

from msingi.kit.db import View
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.orders import Totals
from msingi.products.shop.schemas.orders import AddressView, LineView


class SellerView(View):
    name: str
    address: str
    tax_pin: str


class TaxLine(View):
    """All of one kind of tax on an invoice; `base` is what it is of, without it."""

    name: str
    rate: int
    base: int
    amount: int


class PaidWithView(View):
    """What had been paid when the invoice got its number."""

    provider: str
    amount: int
    receipt: str


class InvoiceView(View):
    """`paid`, `refunded` and `credit_notes` are as of now; all else is as it was when it got its number."""

    number: str
    issued_at: datetime
    order_id: str
    order_number: str
    currency: str
    language: str
    seller: SellerView
    buyer: AddressView | None
    email: str
    lines: list[LineView]
    totals: Totals
    taxes: list[TaxLine]
    shipping_name: Words
    payments: list[PaidWithView]
    paid: int
    refunded: int
    credit_notes: list[str]
    check: str


class CreditLineView(View):
    title: Words
    options: dict[str, str]
    sku: str
    quantity: int
    amount: int


class CreditTaxView(View):
    name: str
    rate: int
    amount: int


class CreditNoteView(View):
    """`amount` is the sum of the lines and `other`: rounding, shipping, or what stands on other notes."""

    number: str
    issued_at: datetime
    order_id: str
    invoice: str
    refund_id: str
    amount: int
    currency: str
    why: str
    reason: str
    lines: list[CreditLineView]
    other: int
    taxes: list[CreditTaxView]
    provider: str
    receipt: str
    check: str


class CreditNotes(Struct):
    items: list[CreditNoteView]


class CheckedView(View):
    """What anybody may know who holds a paper: nothing of who bought what.

    `amount` is the total of an invoice, or what a credit note gives back; `credited` what credit notes give back of
    the invoice so far, `invoice` the one that a credit note is for.
    """

    number: str
    kind: str
    issued_at: datetime
    currency: str
    amount: int
    credited: int
    state: str
    seller: SellerView
    invoice: str
