"""What makes a price more or less: coupons, tax, shipping."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from msingi.kit.db import Collection, Doc, Index


class Use(Struct, frozen=True):
    """A coupon set aside for an order until then, by the database's clock."""

    order_id: str
    until: datetime


class Coupon(Doc):
    """The id is the code in capitals. No hold has `spent` and the holds that have not ended exceed `limit` together.

    One without a `limit` is held by nobody: there is nothing to run out of. `spent` counts each order that is paid with
    it, also one whose money came so late that its hold was over and others had the rest.
    """

    kind: Literal["percent", "amount", "free_shipping"]
    value: int = 0  # basis points, or minor units of `currency`
    currency: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    minimum: int = 0  # of goods, in minor units of `currency`
    limit: int | None = None
    limit_each: int | None = None
    spent: int = 0
    uses: list[Use] = []
    spent_by: list[str] = []  # the last orders that spent it, so that none does twice
    held_since: datetime | None = None  # when it was given a limit: orders from before hold none of it
    category_ids: list[str] = []  # only goods in these or in what is below them; empty: all
    stacks: bool = False  # whether it may stand beside others that say so
    priority: int = 0  # lower ones are taken off first
    closed: bool = False


class PersonalUse(Doc, kw_only=True):
    """The same count for one person; the id is `<code>.<person>`. Without a `limit_each` it is held by nobody.

    A guest is known by the blind index of the address that they order with.
    """

    person: str
    spent: int = 0
    uses: list[Use] = []
    spent_by: list[str] = []


class TaxRate(Doc):
    """The id is `<country>.<class>`: `KE.standard` is 1600 basis points, contained in the prices."""

    country: str
    tax_class: str
    rate: int
    included: bool = True
    name: str = "VAT"


class ShippingMethod(Doc):
    """A way for goods to reach people in a zone, and what it costs by weight: the first step that is heavy enough."""

    name: str
    countries: list[str]
    name_sw: str = ""
    towns: list[str] = []  # empty: all of the countries
    kind: Literal["delivery", "pick_up", "rider"] = "delivery"
    location_id: str | None = None  # where it is picked up
    prices: dict[str, list[tuple[int, int]]] = {}  # by currency: (up to so many grams, minor units), ascending
    free_from: dict[str, int] = {}  # by currency: goods worth so much travel for nothing
    tax_class: str = "standard"
    days: tuple[int, int] = (1, 3)
    position: int = 0
    closed: bool = False


coupons = Collection(Coupon, "coupons")
personal_uses = Collection(PersonalUse, "personal_uses", indexes=["person"])
tax_rates = Collection(
    TaxRate, "tax_rates", indexes=[Index("country tax_class", unique=True)], tags=lambda _: ["taxes"]
)
shipping_methods = Collection(
    ShippingMethod, "shipping_methods", indexes=["countries position"], tags=lambda _: ["shipping"]
)
