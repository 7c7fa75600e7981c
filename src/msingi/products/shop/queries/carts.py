"""What is in a cart, with the prices and the stock of now."""

from datetime import timedelta
from typing import Any, NamedTuple

import msgspec

from msingi.kit import state
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.products.shop.models.carts import Cart, CartLine, carts
from msingi.products.shop.models.pricing import ShippingMethod, personal_uses
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries import pricing, stock
from msingi.products.shop.queries.catalogue import Offer, offers
from msingi.products.shop.queries.pricing import Priced, PricedLine
from msingi.products.shop.rules import carts as rules
from msingi.products.shop.rules.pricing import weight_of
from msingi.products.shop.schemas.carts import CartLineView, CartView, NoticeView


class Going(NamedTuple):
    """Where a cart's goods would go, as far as that is known yet. `country` "": the shop's own."""

    country: str = ""
    town: str = ""
    shipping_id: str | None = None


NOWHERE = Going()


# ---- whose it is


async def cart_of(actor: Actor | None, token: str | None) -> Cart | None:
    """The cart of a signed-in person, else of the guest who knows this token; None if there is none (any more)."""
    if actor is not None:
        return await carts.find({"_id": rules.cart_of_person(actor.id)})
    return await guests_cart(token) if token is not None else None


async def guests_cart(token: str) -> Cart | None:
    """The cart that a token opens, unless it was left alone for too long."""
    return await carts.find({"_id": rules.cart_of_guest(token), "expires_at": {"$gt": now()}})


def new_cart(id: str, actor: Actor | None) -> Cart:
    """A cart with nothing in it, which nobody has stored."""
    currency = state.part(ShopSettings).currency
    return Cart(id=id, currency=currency, owner_id=actor.id if actor else None, version=0)


# ---- what it looks like


async def shown(cart: Cart, actor: Actor | None, going: Going = NOWHERE) -> CartView:
    """A cart as its owner sees it: each line beside the offer of now."""
    sold = await offers([each.variant_id for each in cart.lines], cart.currency)
    left = await stock.left([each.variant_id for each in sold.values() if each.tracked])
    result = await priced(cart, sold, actor, going)
    by_variant = {each.offer.variant_id: each for each in result.lines}
    lines = [
        _line(each, by_variant.get(each.variant_id), rules.how_many_left(each, sold.get(each.variant_id), left))
        for each in cart.lines
    ]
    notices = [*rules.notices_of(cart.lines, sold, left), *result.notices]
    view: CartView = CartView.of(
        cart,
        lines=lines,
        coupons_used=result.coupons,
        shipping=result.shipping.id if result.shipping else None,
        totals=result.totals,
        notices=[NoticeView(code=each.code, details=each.details) for each in notices],
    )
    return view


async def priced(cart: Cart, sold: dict[str, Offer], actor: Actor | None, going: Going) -> Priced:
    """What those goods of a cart cost that are sold."""
    return await pricing.priced(
        bought(cart, sold),
        cart.currency,
        country=going.country or state.part(ShopSettings).country,
        town=going.town,
        coupons=cart.coupons,
        shipping_id=going.shipping_id,
        person=actor.id if actor else None,
    )


def bought(cart: Cart, sold: dict[str, Offer]) -> list[tuple[Offer, int]]:
    """Those lines of a cart that are sold, as what a price is made from."""
    return [(sold[each.variant_id], each.quantity) for each in cart.lines if each.variant_id in sold]


def _line(line: CartLine, priced: PricedLine | None, left: rules.Left) -> CartLineView:
    if priced is None:
        view: CartLineView = CartLineView.of(line, price=None, price_agreed=line.price, changed=True, left="none")
        return view
    offer = priced.offer
    return CartLineView(
        variant_id=line.variant_id,
        quantity=line.quantity,
        price=offer.price,
        price_agreed=line.price,
        changed=line.price != offer.price,
        left=left,
        title=offer.title,
        product_id=offer.product_id,
        sku=offer.sku,
        options=offer.options,
        picture=offer.picture,
        compare_at=offer.compare_at,
        discount=priced.discount,
        tax=priced.tax,
        total=priced.total,
    )


async def shipping_for(cart: Cart, actor: Actor | None, going: Going) -> list[tuple[ShippingMethod, int]]:
    """The ways in which a cart's goods can reach an address, and what each costs."""
    sold = await offers([each.variant_id for each in cart.lines], cart.currency)
    totals = (await priced(cart, sold, actor, NOWHERE)).totals
    country = going.country or state.part(ShopSettings).country
    worth = totals.goods - totals.discount
    return await pricing.shipping_to(country, going.town, cart.currency, weight_of(bought(cart, sold)), worth)


# ---- left behind


async def abandoned() -> list[Cart]:
    """Carts of people, with something in them, that nobody touched for a day and whose owner was not written to."""
    at = now()
    since = {
        "$lte": at - timedelta(seconds=rules.ABANDONED_AFTER),
        "$gt": at - timedelta(seconds=rules.FORGOTTEN_AFTER),
    }
    wanted = {"owner_id": {"$type": "string"}, "reminded_at": None, "updated_at": since, "lines.0": {"$exists": True}}
    return await carts.many(wanted, sort=[("updated_at", 1)], limit=200)


async def person(user_id: str) -> dict[str, Any]:
    """All that there is of somebody here, for them to take away: their cart, and how often they used which coupon."""
    return {
        "cart": msgspec.to_builtins(await carts.find({"_id": rules.cart_of_person(user_id)})),
        "coupons": {each.id.partition(".")[0]: each.spent async for each in personal_uses.each({"person": user_id})},
    }
