"""Orders over the wire: forms come in, views go out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from msingi.kit.db import Form, View
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.orders import State, Tax, Totals

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Email = Annotated[
    str, Meta(max_length=254, pattern=r"^[^\s@,;:<>()\[\]\"\\]+@[^\s@,;:<>()\[\]\"\\]+$", examples=["ann@msingi.test"])
]
Reason = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"\S", examples=["It came twice."])]
Language = Literal["en", "sw"]
Quantity = Annotated[int, Meta(ge=1, le=1000)]
Amount = Annotated[int, Meta(ge=1, le=10**13, description="in minor units, as cents")]
Code = Annotated[str, Meta(pattern="^[0-9]{6}$", examples=["402817"])]
Phone = Annotated[str, Meta(pattern=r"^\+[1-9][0-9]{6,14}$", description="E.164", examples=["+254712345678"])]
MaybePhone = Annotated[str, Meta(pattern=r"^(\+[1-9][0-9]{6,14})?$", description="E.164, or nothing")]


# ---- forms


class AddressForm(Form):
    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S", examples=["Ann Wanjiru"])]
    phone: MaybePhone = ""
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$", examples=["KE"])] = "KE"
    town: Annotated[str, Meta(max_length=100, examples=["Nairobi"])] = ""
    street: Annotated[str, Meta(max_length=200)] = ""
    notes: Annotated[str, Meta(max_length=500, description="for the rider: “blue gate, call first”")] = ""


class PayForm(Form):
    """With which provider; a phone for those that ask for one."""

    provider: Annotated[str, Meta(min_length=1, max_length=30, examples=["mpesa"])]
    phone: MaybePhone = ""


class CheckoutForm(Form):
    """What turns a cart into an order. `expected_total` is what the buyer agreed to, in minor units."""

    address: AddressForm
    shipping_id: Id
    expected_total: Annotated[int, Meta(ge=0, le=10**13)]
    pay: PayForm | None = None  # an order that costs nothing needs none
    email: Email | None = None
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] | None = None
    coupons: Annotated[list[Annotated[str, Meta(min_length=1, max_length=40)]], Meta(max_length=10)] | UnsetType = UNSET
    language: Language | None = None


class CancellationForm(Form):
    reason: Reason


class LineForm(Form):
    line_id: Id
    quantity: Quantity


Lines = Annotated[list[LineForm], Meta(min_length=1, max_length=100)]


class ShipmentForm(Form):
    location_id: Id
    lines: Lines
    carrier: Annotated[str, Meta(max_length=100)] = ""
    tracking: Annotated[str, Meta(max_length=200)] = ""


class DeliveryForm(Form):
    """The code that the receiver told; or, with the right to orders, why there is none."""

    code: Code | None = None
    reason: Reason | None = None


class ReturnForm(Form):
    lines: Lines
    reason: Reason


class ReturnDecision(Form):
    """`approved` or `refused`; then, when it has arrived, `received`, and whether it is damaged."""

    state: Literal["approved", "refused", "received"]
    damaged: bool = False
    note: Annotated[str, Meta(max_length=500)] = ""


class RefundForm(Form):
    amount: Amount
    reason: Reason


# ---- views


class AllocationView(View):
    location_id: str
    quantity: int


class LineView(View):
    id: str
    product_id: str
    variant_id: str
    sku: str
    title: Words
    options: dict[str, str]
    quantity: int
    price: int
    discount: int
    tax: Tax
    total: int
    tracked: bool
    shipped: int
    cancelled: int
    returned: int
    allocations: list[AllocationView] | UnsetType = UNSET  # staff only


class AddressView(View):
    name: str
    phone: str
    country: str
    town: str
    street: str
    notes: str


class ShipmentView(View):
    """`code` is shown to who ordered, and to nobody else."""

    id: str
    at: datetime
    location_id: str
    lines: dict[str, int]
    carrier: str
    tracking: str
    delivered_at: datetime | None
    code: str | UnsetType = UNSET


class ReturnView(View):
    id: str
    at: datetime
    lines: dict[str, int]
    reason: str
    state: str
    note: str
    damaged: bool
    refund: int


class RefundView(View):
    id: str
    payment_id: str
    amount: int
    reason: str
    state: str
    asked_at: datetime
    asked_by: str | UnsetType = UNSET  # staff only
    approved_by: str | UnsetType = UNSET


class PaymentView(View):
    """`action` is what the payer does next; `code` says why it failed."""

    id: str
    provider: str
    state: str
    amount: int
    captured: int
    refunded: int
    receipt: str | None
    code: str
    created_at: datetime
    action: dict[str, str] | UnsetType = UNSET  # for who pays, not for staff


class OrderLineItem(View):
    """An order in a list."""

    id: str
    number: str
    state: State
    currency: str
    total: int
    paid: int
    refunded: int
    items: int
    held_until: datetime
    created_at: datetime
    updated_at: datetime
    version: int


class OrderView(View):
    id: str
    number: str
    state: State
    currency: str
    language: str
    email: str
    address: AddressView | None
    lines: list[LineView]
    totals: Totals
    coupons: list[str]
    shipping_id: str
    shipping_name: Words
    pick_up_at: str | None
    held_until: datetime
    paid: int
    refunded: int
    payments: list[PaymentView]
    shipments: list[ShipmentView]
    returns: list[ReturnView]
    refunds: list[RefundView]
    invoice: str | None
    credit_notes: list[str]
    created_at: datetime
    updated_at: datetime
    version: int
    customer_id: str | UnsetType | None = UNSET  # staff only
    order_token: str | UnsetType = UNSET  # a guest's, once


class EntryView(View):
    id: str
    at: datetime
    kind: str
    text: str
    before: str
    after: str
    details: dict[str, str]
    by: str | UnsetType = UNSET  # staff only
    public: bool | UnsetType = UNSET


class Timeline(Struct):
    items: list[EntryView]
