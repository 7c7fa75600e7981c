"""What of an invoice was given back: a document of its own for each refund, in a series of its own."""

from typing import Literal

from msgspec import Struct

from msingi.kit.db import Collection, Doc, Index
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.orders import Seller

Why = Literal[
    "return",  # goods came back
    "rest",  # what was not sent of an order that was partly sent
    "cancelled",  # all of it
    "reduction",  # money went back, and no goods
]


class CreditLine(Struct, frozen=True):
    """So many of a line of the invoice, and what they cost."""

    title: Words
    options: dict[str, str]
    sku: str
    quantity: int
    amount: int


class CreditTax(Struct, frozen=True):
    """How much of one kind of tax is given back with it."""

    name: str
    rate: int
    amount: int


class CreditNote(Doc, kw_only=True):
    """The id is its number, `C2026-000017`: a year's numbers have no gap, and a refund has at most one.

    `amount = sum of the lines + other`: what else there is to it is rounding, shipping, or on another note. All is as
    it was when it was written.
    """

    order_id: str
    nth: int  # of its order, from 1: so two that are written at once never add up to more than the invoice
    invoice: str
    refund_id: str
    year: int
    place: int  # in its year, from 1
    amount: int
    currency: str
    why: Why
    of: str = ""  # the return's id
    reason: str = ""
    lines: list[CreditLine] = []
    other: int = 0
    taxes: list[CreditTax] = []
    provider: str
    receipt: str = ""
    seller: Seller
    address: str = ""  # of the house, where whoever doubts it asks


credit_notes = Collection(
    CreditNote,
    "credit_notes",
    indexes=[
        Index("refund_id", unique=True),
        Index("order_id nth", unique=True),
        Index("year place", unique=True),
    ],
)
