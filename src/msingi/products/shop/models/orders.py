"""What was ordered. Its lines, prices and words are of the moment of ordering, for ever."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Struct

from msingi.kit.db import SEALED, Collection, Doc, Index
from msingi.products.shop.models.catalogue import Words

State = Literal[
    "awaiting_payment",  # held until `held_until`
    "confirmed",  # paid (or authorised), allocated
    "partly_shipped",
    "shipped",
    "delivered",
    "cancelled",
    "expired",  # nobody paid in time
    "short",  # paid too late, when the goods were gone: to be refunded, or filled by hand
]


class Tax(Struct, frozen=True):
    name: str
    rate: int  # basis points
    included: bool
    amount: int


class Allocation(Struct, frozen=True):
    """So many of a line, from there."""

    location_id: str
    quantity: int


class OrderLine(Struct, kw_only=True):
    """`total = quantity * price - discount`, and plus the tax if that is not included."""

    id: str
    product_id: str
    variant_id: str
    sku: str
    title: Words
    options: dict[str, str] = {}
    quantity: int
    price: int
    discount: int = 0
    tax: Tax
    total: int
    weight: int = 0
    tracked: bool = True
    allocations: list[Allocation] = []
    shipped: int = 0
    cancelled: int = 0
    returned: int = 0


class Totals(Struct, frozen=True):
    """`total = goods - discount + shipping + tax_added + rounding`; `tax` is all tax, contained and added."""

    goods: int
    discount: int
    shipping: int
    tax: int
    tax_added: int
    rounding: int
    total: int


class Address(Struct, frozen=True):
    name: str
    phone: str = ""
    country: str = "KE"
    town: str = ""
    street: str = ""
    notes: str = ""


class Entry(Struct, frozen=True, kw_only=True):
    """One line of an order's history. `kind` is what happened, `details` what a person's language needs to say it."""

    id: str
    at: datetime
    kind: str
    by: str = ""  # a person's id; empty: the house itself
    before: str = ""
    after: str = ""
    details: dict[str, str] = {}
    public: bool = True


class Shipment(Struct, frozen=True):
    id: str
    at: datetime
    location_id: str
    lines: dict[str, int]  # by line id
    carrier: str = ""
    tracking: str = ""
    code: str = ""  # the receiver tells it to the carrier, who shows it as proof
    misses: int = 0  # how often a wrong code was shown
    delivered_at: datetime | None = None


class Return(Struct, frozen=True):
    id: str
    at: datetime
    lines: dict[str, int]
    reason: str
    state: Literal["asked", "approved", "refused", "received"] = "asked"
    note: str = ""  # of whoever decided
    approved_by: str = ""
    received_by: str = ""
    damaged: bool = False
    refund: int = 0


class Seller(Struct, frozen=True):
    """Who sold, as they called themselves then."""

    name: str
    address: str = ""  # its lines separated by commas
    tax_pin: str = ""
    zone: str = "Africa/Nairobi"  # by whose clock it is dated


class PaidWith(Struct, frozen=True):
    """What had been paid when the invoice was written, and by what."""

    provider: str
    amount: int
    receipt: str = ""


class Invoice(Doc, kw_only=True):
    """The id is its number, `2026-000017`: a year's numbers have no gap, and an order has one invoice.

    What an order's snapshot does not hold is kept here as it was when it was written, so that it reads the same for
    ever. Those of before have no `seller`.
    """

    order_id: str
    year: int
    place: int  # in its year, from 1
    seller: Seller | None = None
    payments: list[PaidWith] = []
    refunds_before: list[str] = []  # of money that came and went before there was an invoice: not of it
    address: str = ""  # of the house, where whoever doubts it asks


class Order(Doc, kw_only=True):
    number: str
    customer_id: str | None = None
    guest: str | None = None  # the hash of the token with which a guest reads it
    person: str = ""  # who coupons know the buyer as
    email: Annotated[str, SEALED]
    address: Annotated[Address | None, SEALED] = None
    language: str = "en"
    currency: str
    lines: list[OrderLine]
    totals: Totals
    coupons: list[str] = []
    shipping_id: str = ""
    shipping_name: Words = Words(en="")
    shipping_tax: Tax = Tax(name="", rate=0, included=True, amount=0)
    pick_up_at: str | None = None
    state: State = "awaiting_payment"
    held_until: datetime
    payment_ids: list[str] = []
    paid: int = 0  # captured, by what the payments told
    refunded: int = 0
    shipments: list[Shipment] = []
    returns: list[Return] = []
    timeline: list[Entry] = []
    invoice: str | None = None  # its number, once it is paid
    credit_notes: list[str] = []  # their numbers
    steps: list[str] = []  # what is done of what a state asks for, so that each is done once
    cart_id: str = ""
    cart_version: int = 0


orders = Collection(
    Order,
    "orders",
    indexes=[
        Index("number", unique=True),
        "customer_id -_id",
        "state -_id",
        Index("state held_until", where={"state": "awaiting_payment"}),
        Index("returns.state _id", where={"returns.0": {"$exists": True}}),
        "lines.product_id -_id",
        "-created_at",
    ],
    tags=lambda order: [f"order:{order.id}"],
)
invoices = Collection(Invoice, "invoices", indexes=[Index("order_id", unique=True), Index("year place", unique=True)])
