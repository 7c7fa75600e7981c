"""What is sent of carts, and what is told of them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from msingi.kit.db import Form, View
from msingi.kit.money import Currency, Minor
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.orders import Tax, Totals

Quantity = Annotated[int, Meta(ge=1, le=1_000, examples=[2])]
VariantId = Annotated[str, Meta(min_length=1, max_length=64)]


class LineForm(Form):
    quantity: Quantity


class CurrencyForm(Form):
    currency: Currency


class PricesForm(Form):
    """The prices that the person agrees to, by variant, as they were shown."""

    prices: Annotated[dict[VariantId, Minor], Meta(min_length=1, max_length=100, examples=[{"tea-250": 12000}])]


class CartLineView(View):
    """One line. What is sold no more has neither `price` nor sums; `price_agreed` is null if none ever was agreed to.

    `total = quantity * price - discount`, and plus the tax if that is not included.
    """

    variant_id: str
    quantity: int
    price: int | None
    price_agreed: int | None
    changed: bool
    left: Literal["none", "few", "enough"]
    title: Words
    product_id: str | None = None
    sku: str | None = None
    options: dict[str, str] = {}
    picture: str | None = None
    compare_at: int | None = None
    discount: int = 0
    tax: Tax | None = None
    total: int = 0


class NoticeView(View):
    """Something that a person should know: a code for programs, and what a sentence about it needs."""

    code: str
    details: dict[str, Any]


class CartView(View):
    """A cart with the prices of now. `coupons` are all its codes, `coupons_used` those that take something off.

    `shipping` is null until one is asked for that takes the goods there; until then the totals are without it.
    """

    currency: str
    lines: list[CartLineView]
    coupons: list[str]
    coupons_used: list[str]
    shipping: str | None
    totals: Totals
    notices: list[NoticeView]
    updated_at: datetime
    version: int
