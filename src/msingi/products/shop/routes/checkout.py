"""Ordering, over HTTP."""

from collections.abc import Sequence
from typing import Any

from litestar import Request
from litestar.types import ControllerRouterHandler

from msingi.kit import pages
from msingi.kit.errors import Forbidden
from msingi.kit.http import Body, Given, post
from msingi.kit.replies import KitResponse, created
from msingi.products.shop.actions import checkout
from msingi.products.shop.actions.checkout import Buyer
from msingi.products.shop.queries import orders as queries
from msingi.products.shop.routes.cart import SHOPPER, Shopper
from msingi.products.shop.rules import carts, coupons, pricing, stock
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.schemas.orders import CheckoutForm, OrderView

FAULTS = [
    carts.CartEmpty,
    coupons.CouponCrowded,
    coupons.CouponRefused,
    pricing.BadShipping,
    stock.OutOfStock,
    stock.TooManyWaiting,
    rules.CartChanged,
    rules.ContactNeeded,
    rules.NoSuchWayToPay,
    rules.NotAllSold,
    rules.PaymentNeeded,
    rules.TotalChanged,
    rules.TooManyPrompts,
]


@post("/checkout", public=True, idempotency="required", dependencies=SHOPPER, problems=FAULTS)
async def check_out(
    data: Body[CheckoutForm], shopper: Given[Shopper], request: Request[Any, Any, Any]
) -> KitResponse[OrderView]:
    """Order what is in the cart. A guest gets the order's token, once: it opens the order from now on."""
    actor = shopper.actor
    if actor is not None and not actor.reaches("shop:write"):
        raise Forbidden
    buyer = Buyer(actor, shopper.token, pages.language_of(request))
    order, token = await checkout.check_out(data, buyer)
    seen = queries.Seen(order, actor.id if actor else "", False)
    view = await queries.shown(seen, **({"order_token": token} if token else {}))
    return created(view, f"/v1/shop/orders/{order.id}")


routes: Sequence[ControllerRouterHandler] = [check_out]
