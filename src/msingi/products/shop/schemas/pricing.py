"""What is sent of coupons, taxes and shipping, and what is told of them."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from msingi.kit.db import Form, View
from msingi.kit.money import Currency, Minor

Code = Annotated[
    str,
    Meta(
        pattern=r"^\s*[A-Za-z0-9_-]{3,40}\s*$",
        max_length=60,
        description="3 to 40 letters, digits, `-` and `_`; small letters are capitals",
        examples=["KARIBU"],
    ),
]
Moment = Annotated[datetime, Meta(tz=True, examples=["2026-12-24T00:00:00Z"])]
Limit = Annotated[int, Meta(ge=1, le=10**9)]
BasisPoints = Annotated[int, Meta(ge=0, le=10_000, description="hundredths of a percent: 16 % are 1600")]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$", description="ISO 3166-1, as KE")]
Key = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,39}$", examples=["standard"])]
Id = Annotated[str, Meta(min_length=1, max_length=64)]
CategoryIds = Annotated[list[Id], Meta(max_length=50)]
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
OtherName = Annotated[str, Meta(max_length=100)]
Town = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
Kind = Literal["percent", "amount", "free_shipping"]
Way = Literal["delivery", "pick_up", "rider"]
Position = Annotated[int, Meta(ge=-(10**6), le=10**6)]
Grams = Annotated[int, Meta(ge=0, le=10**8)]
Days = Annotated[int, Meta(ge=0, le=365)]
Step = tuple[Grams, Minor]
Steps = Annotated[list[Step], Meta(min_length=1, max_length=50)]
Prices = Annotated[dict[Currency, Steps], Meta(min_length=1, max_length=20)]
FreeFrom = Annotated[dict[Currency, Minor], Meta(max_length=20)]
Countries = Annotated[list[Country], Meta(min_length=1, max_length=250)]
Towns = Annotated[list[Town], Meta(max_length=500)]


# ---- coupons


class NewCoupon(Form):
    code: Code
    kind: Kind
    value: Minor = 0
    currency: Currency | None = None
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    minimum: Minor = 0
    limit: Limit | None = None
    limit_each: Limit | None = None
    category_ids: CategoryIds = []
    stacks: bool = False
    priority: Position = 0


class CouponPatch(Form):
    value: Minor | UnsetType = UNSET
    currency: Currency | UnsetType | None = UNSET
    starts_at: Moment | UnsetType | None = UNSET
    ends_at: Moment | UnsetType | None = UNSET
    minimum: Minor | UnsetType = UNSET
    limit: Limit | UnsetType | None = UNSET
    limit_each: Limit | UnsetType | None = UNSET
    category_ids: CategoryIds | UnsetType = UNSET
    stacks: bool | UnsetType = UNSET
    priority: Position | UnsetType = UNSET
    closed: bool | UnsetType = UNSET


class CouponView(View):
    """A coupon as those see it who manage them. `waiting` is how many orders that are not paid yet hold it now."""

    code: str
    kind: Kind
    value: int
    currency: str | None
    starts_at: datetime | None
    ends_at: datetime | None
    minimum: int
    limit: int | None
    limit_each: int | None
    spent: int
    waiting: int
    category_ids: list[str]
    stacks: bool
    priority: int
    closed: bool
    created_at: datetime
    updated_at: datetime
    version: int


# ---- taxes


class TaxRateForm(Form):
    rate: BasisPoints
    included: bool = True
    name: Name = "VAT"


class TaxRateView(View):
    country: str
    tax_class: str
    rate: int
    included: bool
    name: str
    created_at: datetime
    updated_at: datetime
    version: int


# ---- shipping


class NewShippingMethod(Form):
    name: Name
    countries: Countries
    prices: Prices
    name_sw: OtherName = ""
    towns: Towns = []
    kind: Way = "delivery"
    location_id: Id | None = None
    free_from: FreeFrom = {}
    tax_class: Key = "standard"
    days: tuple[Days, Days] | UnsetType = UNSET  # 1 to 3
    position: Position = 0


class ShippingMethodPatch(Form):
    name: Name | UnsetType = UNSET
    countries: Countries | UnsetType = UNSET
    prices: Prices | UnsetType = UNSET
    name_sw: OtherName | UnsetType = UNSET
    towns: Towns | UnsetType = UNSET
    kind: Way | UnsetType = UNSET
    location_id: Id | UnsetType | None = UNSET
    free_from: FreeFrom | UnsetType = UNSET
    tax_class: Key | UnsetType = UNSET
    days: tuple[Days, Days] | UnsetType = UNSET
    position: Position | UnsetType = UNSET
    closed: bool | UnsetType = UNSET


class ShippingMethodView(View):
    """A way of shipping as those see it who manage them."""

    id: str
    name: str
    name_sw: str
    countries: list[str]
    towns: list[str]
    kind: Way
    location_id: str | None
    prices: dict[str, list[tuple[int, int]]]
    free_from: dict[str, int]
    tax_class: str
    days: tuple[int, int]
    position: int
    closed: bool
    created_at: datetime
    updated_at: datetime
    version: int


class ShippingOffer(View):
    """A way in which goods can reach an address, and what it costs."""

    id: str
    name: str
    name_sw: str
    kind: Way
    location_id: str | None
    days: tuple[int, int]
    price: int
    currency: str


class ShippingOffers(View):
    items: list[ShippingOffer]
