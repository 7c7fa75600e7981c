"""Stock and places over the wire: forms come in, views go out."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from msingi.kit.db import Form, View
from msingi.products.shop.contract import Movement
from msingi.products.shop.models.stock import Level

Name = Annotated[
    str, Meta(min_length=1, max_length=100, pattern=r"^\S([\s\S]*\S)?$", examples=["Nairobi, Biashara Street"])
]
LocationId = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,39}$", examples=["nairobi"])]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$", examples=["KE"])]
Town = Annotated[str, Meta(max_length=100)]
Address = Annotated[str, Meta(max_length=500)]
Priority = Annotated[int, Meta(ge=0, le=1000)]
Quantity = Annotated[int, Meta(ge=1, le=1_000_000, examples=[24])]
Counted = Annotated[int, Meta(ge=0, le=1_000_000_000, examples=[24])]
Reason = Annotated[str, Meta(max_length=200, examples=["delivery note 1042"])]


# ---- forms


class NewLocation(Form):
    name: Name
    id: LocationId | UnsetType = UNSET
    country: Country = "KE"
    town: Town = ""
    address: Address = ""
    priority: Priority = 0
    pick_up: bool = False
    closed: bool = False


class LocationPatch(Form):
    name: Name | UnsetType = UNSET
    country: Country | UnsetType = UNSET
    town: Town | UnsetType = UNSET
    address: Address | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    pick_up: bool | UnsetType = UNSET
    closed: bool | UnsetType = UNSET


class StockPatch(Form):
    """When no more than `low_at` are not yet sold, somebody is told; 0: nobody."""

    low_at: Counted


class Receipt(Form):
    quantity: Quantity
    reason: Reason = ""


class StockCount(Form):
    counted: Counted
    reason: Reason = ""


class Damage(Form):
    quantity: Quantity
    reason: Reason = ""


class Transfer(Form):
    to: Annotated[str, Meta(min_length=1, max_length=64, examples=["mombasa"])]
    quantity: Quantity
    reason: Reason = ""


# ---- views


class LocationView(View):
    id: str
    name: str
    country: str
    town: str
    address: str
    priority: int
    pick_up: bool
    closed: bool
    created_at: datetime
    updated_at: datetime
    version: int


class StockView(View):
    """`available` is what can be sold now: `on_hand` without what is allocated or held."""

    id: str
    variant_id: str
    location_id: str
    on_hand: int
    allocated: int
    held: int
    available: int
    low_at: int
    low: bool
    created_at: datetime
    updated_at: datetime
    version: int


class VariantStockView(View):
    """All that there is of a variant, and where."""

    variant_id: str
    on_hand: int
    allocated: int
    held: int
    available: int
    items: list[StockView]


class MovementView(View):
    id: str
    variant_id: str
    location_id: str
    kind: Movement
    on_hand: int
    allocated: int
    reason: str
    by: str
    created_at: datetime


class PickUpView(Struct):
    """Where it can be fetched."""

    location_id: str
    name: str
    town: str
    state: Level


class VariantAvailability(Struct):
    variant_id: str
    state: Level
    pick_up: list[PickUpView]


class AvailabilityView(Struct):
    items: list[VariantAvailability]
