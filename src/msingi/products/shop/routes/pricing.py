"""Coupons, taxes and shipping, over HTTP."""

from collections.abc import Sequence
from typing import Annotated

from litestar.params import Parameter, PathParameter
from litestar.types import ControllerRouterHandler

from msingi.kit import state
from msingi.kit.clock import now
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import AlreadyExists, Stale
from msingi.kit.http import Body, Filters, Given, Path, Query, delete, get, patch, post, put
from msingi.kit.replies import KitResponse, created
from msingi.products.shop.actions import coupons, shipping, taxes
from msingi.products.shop.models.pricing import Coupon, ShippingMethod
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries import pricing as queries
from msingi.products.shop.rules.coupons import BadCoupon, CouponInUse, normal
from msingi.products.shop.rules.pricing import BadShipping, NoSuchLocation, PricingFull
from msingi.products.shop.schemas.pricing import (
    CouponPatch,
    CouponView,
    NewCoupon,
    NewShippingMethod,
    ShippingMethodPatch,
    ShippingMethodView,
    ShippingOffer,
    ShippingOffers,
    TaxRateForm,
    TaxRateView,
)

MANAGE = "shop:pricing"
COUPONS = Filters(kind=str, closed=bool, stacks=bool, code=("_id", str), priority=int)
RATES = Filters(country=str, tax_class=str)
METHODS = Filters(country=("countries", str), kind=str, closed=bool)
CountryPath = Annotated[str, PathParameter(pattern="^[A-Z]{2}$")]
ClassPath = Annotated[str, PathParameter(pattern="^[a-z0-9][a-z0-9-]{0,39}$")]
CountryQuery = Annotated[str | None, Parameter(pattern="^[A-Z]{2}$")]
TownQuery = Annotated[str, Parameter(max_length=100)]
CurrencyQuery = Annotated[str | None, Parameter(pattern="^[A-Z]{3}$")]
GramsQuery = Annotated[int, Parameter(ge=0, le=10**9)]
MinorQuery = Annotated[int, Parameter(ge=0, le=10**15)]


# ---- coupons


@get("/admin/coupons", permission=MANAGE, filters=COUPONS)
async def list_coupons(page: Given[Paging], where: Given[Where]) -> Page[CouponView]:
    """All coupons, the newest first."""
    return (await queries.all_coupons(where, page)).map(_shown_coupon)


@post("/admin/coupons", permission=MANAGE, problems=[BadCoupon, AlreadyExists])
async def make_coupon(data: Body[NewCoupon]) -> KitResponse[CouponView]:
    """Make a coupon."""
    coupon = await coupons.add(data)
    return created(_shown_coupon(coupon), f"/v1/shop/admin/coupons/{coupon.id}")


@get("/admin/coupons/{code:str}", permission=MANAGE)
async def show_coupon(code: Path[str]) -> CouponView:
    """One coupon."""
    return _shown_coupon(await queries.coupon(normal(code)))


@patch("/admin/coupons/{code:str}", permission=MANAGE, problems=[BadCoupon, Stale])
async def edit_coupon(code: Path[str], data: Body[CouponPatch], if_match: Given[int | None]) -> CouponView:
    """Change or close a coupon. Its version rises with each hold too: change a busy one without If-Match."""
    return _shown_coupon(await coupons.edit(normal(code), data, if_match))


@delete("/admin/coupons/{code:str}", permission=MANAGE, problems=[CouponInUse, Stale])
async def remove_coupon(code: Path[str], if_match: Given[int | None]) -> None:
    """Remove a coupon that nobody used; one that was used is closed instead."""
    await coupons.remove(normal(code), if_match)


def _shown_coupon(coupon: Coupon) -> CouponView:
    waiting = sum(each.until > now() for each in coupon.uses)
    view: CouponView = CouponView.of(coupon, code=coupon.id, waiting=waiting)
    return view


# ---- taxes


@get("/admin/tax-rates", permission=MANAGE, filters=RATES)
async def list_tax_rates(page: Given[Paging], where: Given[Where]) -> Page[TaxRateView]:
    """All tax rates, by country and class."""
    return (await queries.all_tax_rates(where, page)).map(TaxRateView.of)


@get("/admin/tax-rates/{country:str}/{tax_class:str}", permission=MANAGE)
async def show_tax_rate(country: CountryPath, tax_class: ClassPath) -> TaxRateView:
    """One tax rate."""
    view: TaxRateView = TaxRateView.of(await queries.tax_rate(country, tax_class))
    return view


@put("/admin/tax-rates/{country:str}/{tax_class:str}", permission=MANAGE, problems=[PricingFull, Stale])
async def set_tax_rate(
    country: CountryPath, tax_class: ClassPath, data: Body[TaxRateForm], if_match: Given[int | None]
) -> TaxRateView:
    """Set what a class of goods is taxed with in a country."""
    view: TaxRateView = TaxRateView.of(await taxes.put(country, tax_class, data, if_match))
    return view


@delete("/admin/tax-rates/{country:str}/{tax_class:str}", permission=MANAGE, problems=[Stale])
async def remove_tax_rate(country: CountryPath, tax_class: ClassPath, if_match: Given[int | None]) -> None:
    """Have no rate there: such goods are not taxed."""
    await taxes.remove(country, tax_class, if_match)


# ---- shipping


@get("/admin/shipping-methods", permission=MANAGE, filters=METHODS)
async def list_shipping_methods(page: Given[Paging], where: Given[Where]) -> Page[ShippingMethodView]:
    """All ways of shipping, in their order."""
    return (await queries.all_shipping_methods(where, page)).map(ShippingMethodView.of)


@post("/admin/shipping-methods", permission=MANAGE, problems=[BadShipping, NoSuchLocation, PricingFull])
async def make_shipping_method(data: Body[NewShippingMethod]) -> KitResponse[ShippingMethodView]:
    """Offer a way of shipping."""
    method = await shipping.add(data)
    return created(_shown_method(method), f"/v1/shop/admin/shipping-methods/{method.id}")


@get("/admin/shipping-methods/{id:str}", permission=MANAGE)
async def show_shipping_method(id: Path[str]) -> ShippingMethodView:
    """One way of shipping."""
    return _shown_method(await queries.shipping_method(id))


@patch("/admin/shipping-methods/{id:str}", permission=MANAGE, problems=[BadShipping, NoSuchLocation, Stale])
async def edit_shipping_method(
    id: Path[str], data: Body[ShippingMethodPatch], if_match: Given[int | None]
) -> ShippingMethodView:
    """Change or close a way of shipping."""
    return _shown_method(await shipping.edit(id, data, if_match))


@delete("/admin/shipping-methods/{id:str}", permission=MANAGE, problems=[Stale])
async def remove_shipping_method(id: Path[str], if_match: Given[int | None]) -> None:
    """Offer it no longer."""
    await shipping.remove(id, if_match)


def _shown_method(method: ShippingMethod) -> ShippingMethodView:
    view: ShippingMethodView = ShippingMethodView.of(method)
    return view


@get("/shipping-methods", public=True)
async def list_shipping_offers(
    country: Query[CountryQuery] = None,
    town: Query[TownQuery] = "",
    currency: Query[CurrencyQuery] = None,
    weight: Query[GramsQuery] = 0,
    goods: Query[MinorQuery] = 0,
) -> ShippingOffers:
    """The ways in which `weight` grams of goods that cost `goods` can reach an address, and what each costs."""
    settings = state.part(ShopSettings)
    paid_in = currency or settings.currency
    found = await queries.shipping_to(country or settings.country, town, paid_in, weight, goods)
    return offers_of(found, paid_in)


def offers_of(found: Sequence[tuple[ShippingMethod, int]], currency: str) -> ShippingOffers:
    """Ways of shipping as a buyer sees them."""
    return ShippingOffers(items=[_offer(method, cost, currency) for method, cost in found])


def _offer(method: ShippingMethod, cost: int, currency: str) -> ShippingOffer:
    offer: ShippingOffer = ShippingOffer.of(method, price=cost, currency=currency)
    return offer


routes: Sequence[ControllerRouterHandler] = [
    list_coupons,
    make_coupon,
    show_coupon,
    edit_coupon,
    remove_coupon,
    list_tax_rates,
    show_tax_rate,
    set_tax_rate,
    remove_tax_rate,
    list_shipping_methods,
    make_shipping_method,
    show_shipping_method,
    edit_shipping_method,
    remove_shipping_method,
    list_shipping_offers,
]
