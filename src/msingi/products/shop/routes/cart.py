"""The cart, over HTTP: of who is signed in, else of the guest who brings its token."""

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.params import HeaderParameter, Parameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit.auth import Actor
from msingi.kit.errors import Stale
from msingi.kit.http import BadIfMatch, Body, Given, Path, Query, delete, get, post, put
from msingi.kit.replies import KitResponse
from msingi.products.shop.actions import carts
from msingi.products.shop.queries import carts as queries
from msingi.products.shop.queries.carts import NOWHERE, Going
from msingi.products.shop.routes.pricing import CountryQuery, TownQuery, offers_of
from msingi.products.shop.rules.carts import CartFull, UnknownCurrency
from msingi.products.shop.rules.coupons import CouponRefused, TooManyCoupons
from msingi.products.shop.schemas.carts import CartView, CurrencyForm, LineForm, PricesForm
from msingi.products.shop.schemas.pricing import ShippingOffers

AnyRequest = Request[Any, Any, Any]
TOKEN = "X-Cart-Token"  # noqa: S105  (the name of a header)
TOKEN_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}")
IF_MATCH = re.compile(r'(?:W/)?"?(\d{1,15})(?:-[0-9a-f]{8})?"?')


class Shopper(Struct, frozen=True):
    """Who asks: a person, or a guest who may have a token."""

    actor: Actor | None
    token: str | None


async def shopper_who_asks(
    request: AnyRequest, x_cart_token: Annotated[str | None, HeaderParameter(name=TOKEN)] = None
) -> Shopper:
    """A token that cannot be ours opens nothing."""
    token = x_cart_token if x_cart_token and TOKEN_SHAPE.fullmatch(x_cart_token) else None
    return Shopper(request.user, token)


async def version_decided_on(request: AnyRequest) -> int | None:
    """The version in If-Match: of the ETag of a cart what stands before the `-`. Raises BadIfMatch."""
    header = request.headers.get("if-match", "").strip()
    if header in ("", "*"):
        return None
    found = IF_MATCH.fullmatch(header)
    if found is None:
        raise BadIfMatch
    return int(found[1])


SHOPPER: Mapping[str, Callable[..., Any]] = {"shopper": shopper_who_asks}
WRITER: Mapping[str, Callable[..., Any]] = {**SHOPPER, "if_match": version_decided_on}
ShippingQuery = Annotated[str | None, Parameter(max_length=64)]


@get("/cart", public=True, dependencies=SHOPPER)
async def show_cart(
    shopper: Given[Shopper],
    country: Query[CountryQuery] = None,
    town: Query[TownQuery] = "",
    shipping: Query[ShippingQuery] = None,
) -> KitResponse[CartView]:
    """The cart with the prices of now; with a way of shipping to an address, what all of it will cost."""
    cart = await carts.own_cart(shopper.actor, shopper.token)
    return _reply(await queries.shown(cart, shopper.actor, Going(country or "", town, shipping)))


@get("/cart/shipping-methods", public=True, dependencies=SHOPPER)
async def list_cart_shipping(
    shopper: Given[Shopper], country: Query[CountryQuery] = None, town: Query[TownQuery] = ""
) -> KitResponse[ShippingOffers]:
    """The ways in which what is in the cart can reach an address, and what each costs."""
    cart = await carts.own_cart(shopper.actor, shopper.token)
    found = await queries.shipping_for(cart, shopper.actor, Going(country or "", town))
    return KitResponse(offers_of(found, cart.currency), headers={"Cache-Control": "no-store"})


@put("/cart/lines/{variant_id:str}", public=True, dependencies=WRITER, problems=[CartFull, Stale])
async def put_cart_line(
    shopper: Given[Shopper], variant_id: Path[str], data: Body[LineForm], if_match: Given[int | None]
) -> KitResponse[CartView]:
    """Have so many of a variant in the cart. A guest without a cart gets one, and its token in `X-Cart-Token`."""
    return await _written(
        shopper, await carts.put_line(shopper.actor, shopper.token, variant_id, data.quantity, if_match)
    )


@delete("/cart/lines/{variant_id:str}", public=True, status_code=200, dependencies=WRITER, problems=[Stale])
async def remove_cart_line(
    shopper: Given[Shopper], variant_id: Path[str], if_match: Given[int | None]
) -> KitResponse[CartView]:
    """Have none of a variant in the cart."""
    return await _written(shopper, await carts.drop_line(shopper.actor, shopper.token, variant_id, if_match))


@put(
    "/cart/coupons/{code:str}",
    public=True,
    limit="60/minute",
    dependencies=WRITER,
    problems=[CouponRefused, TooManyCoupons, Stale],
)
async def put_cart_coupon(
    shopper: Given[Shopper], code: Path[str], if_match: Given[int | None]
) -> KitResponse[CartView]:
    """Use a coupon. One that only waits for more goods, or for others to go, is kept, with a notice."""
    return await _written(shopper, await carts.put_code(shopper.actor, shopper.token, code, if_match))


@delete("/cart/coupons/{code:str}", public=True, status_code=200, dependencies=WRITER, problems=[Stale])
async def remove_cart_coupon(
    shopper: Given[Shopper], code: Path[str], if_match: Given[int | None]
) -> KitResponse[CartView]:
    """Do without a coupon."""
    return await _written(shopper, await carts.drop_code(shopper.actor, shopper.token, code, if_match))


@put("/cart/currency", public=True, dependencies=WRITER, problems=[UnknownCurrency, Stale])
async def put_cart_currency(
    shopper: Given[Shopper], data: Body[CurrencyForm], if_match: Given[int | None]
) -> KitResponse[CartView]:
    """Have the cart in another currency, at its prices of now."""
    return await _written(shopper, await carts.put_currency(shopper.actor, shopper.token, data.currency, if_match))


@post("/cart/prices", public=True, status_code=200, idempotency="off", dependencies=WRITER, problems=[Stale])
async def agree_to_prices(
    shopper: Given[Shopper], data: Body[PricesForm], if_match: Given[int | None]
) -> KitResponse[CartView]:
    """Agree to these prices, as far as they are those of now; a line whose price has moved on stays `changed`."""
    return await _written(shopper, await carts.agree(shopper.actor, shopper.token, data.prices, if_match))


@delete("/cart", public=True, status_code=200, dependencies=WRITER, problems=[Stale])
async def clear_cart(shopper: Given[Shopper], if_match: Given[int | None]) -> KitResponse[CartView]:
    """Have nothing in the cart."""
    return await _written(shopper, await carts.clear(shopper.actor, shopper.token, if_match))


async def _written(shopper: Shopper, written: carts.Written) -> KitResponse[CartView]:
    reply = _reply(await queries.shown(written.cart, shopper.actor, NOWHERE))
    if written.token is not None:
        reply.headers[TOKEN] = written.token
    return reply


def _reply(view: CartView) -> KitResponse[CartView]:
    """A cart and its ETag, which names the version and all else that the answer is made of: prices and stock too."""
    mark = blake2b(msgspec.json.encode(view), digest_size=4).hexdigest()
    return KitResponse(view, headers={"ETag": f'"{view.version}-{mark}"', "Cache-Control": "no-store"})


routes: Sequence[ControllerRouterHandler] = [
    show_cart,
    list_cart_shipping,
    put_cart_line,
    remove_cart_line,
    put_cart_coupon,
    remove_cart_coupon,
    put_cart_currency,
    agree_to_prices,
    clear_cart,
]
