"""From a cart to an order: priced anew, held, placed, and asked to be paid.

Each step is such that the process may die after it. The order's id comes first and is noted under the request's
Idempotency-Key, so that a retry goes on with the same order; holds are named by that id, and end by themselves; order
and cart are written in one transaction; and a payment is kept, under an id that follows from the order's, before its
provider is asked for it.
"""

from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import structlog
from msgspec import UNSET, Struct
from pymongo.errors import PyMongoError

from msingi.kit import sealing, state
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import AlreadyExists, Busy, Problem, Stale
from msingi.kit.ids import new_id
from msingi.kit.unit import atomic
from msingi.products.shop.actions import carts, coupons, money, prompts, stock
from msingi.products.shop.actions.orders import entry
from msingi.products.shop.actions.telling import tell_placed
from msingi.products.shop.contract import OrderPlaced
from msingi.products.shop.models.carts import Cart
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.orders import Address, Allocation, Order, OrderLine, orders
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries.catalogue import offers
from msingi.products.shop.queries.orders import database_now, known, mark_of, new_token
from msingi.products.shop.queries.pricing import Priced, PricedLine, priced
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.rules.pricing import BadShipping
from msingi.products.shop.schemas.orders import CheckoutForm

log = structlog.get_logger("shop.checkout")
NUMBERS = 5  # tries to find a number that no other order has


class Buyer(NamedTuple):
    """Who orders: somebody who is signed in, or the guest whose cart a token opens; and how to write to them."""

    actor: Actor | None
    cart_token: str | None
    language: str


class Ordered(NamedTuple):
    order: Order
    token: str | None


class Begun(Struct, frozen=True):
    """What is decided first, so that a retry decides the same."""

    order_id: str
    token: str


async def check_out(form: CheckoutForm, buyer: Buyer) -> Ordered:
    """Order what is in the cart, if it costs what the buyer expects.

    Raises CartEmpty, NotAllSold, TotalChanged, ContactNeeded, OutOfStock, CouponRefused, BadShipping, NoSuchWayToPay,
    TooManyPrompts.
    """
    begun = await _begin()
    placed = await orders.find({"_id": begun.order_id})
    order = await (_take(await _draft(begun, form, buyer), form) if placed is None else _place(placed))
    if order.totals.total:
        await _open_payment(order, form)
    return Ordered(await orders.get(order.id), begun.token if buyer.actor is None else None)


@atomic
async def _begin() -> Begun:
    return Begun(new_id(), new_token())


# ---- what it will be


async def _draft(begun: Begun, form: CheckoutForm, buyer: Buyer) -> Order:
    """The order as it would be, from the cart and the prices of this moment. Nothing is taken yet."""
    email, language = await _reached_at(form, buyer)
    cart = await carts.cart_for_checkout(buyer.actor, buyer.cart_token)
    person = buyer.actor.id if buyer.actor else sealing.blind("shop.guests", email.lower())
    result = await _priced(begun, cart, form, person)
    total = result.totals.total
    if total != form.expected_total:
        raise rules.TotalChanged(total=total, expected=form.expected_total, totals=msgspec.to_builtins(result.totals))
    if total:
        _check_way_to_pay(form, total, form.currency or cart.currency)
    at = now()
    return Order(
        id=begun.order_id,
        created_at=at,
        updated_at=at,
        number=await _free_number(begun.order_id),
        customer_id=buyer.actor.id if buyer.actor else None,
        guest=None if buyer.actor else mark_of(begun.token),
        person=person,
        email=email,
        address=Address(**form.address.given()),
        language=language,
        currency=form.currency or cart.currency,
        lines=[_line(number, each) for number, each in enumerate(result.lines, 1)],
        totals=result.totals,
        coupons=result.coupons,
        shipping_id=form.shipping_id,
        **_shipping(result),
        held_until=await database_now() + timedelta(seconds=state.part(ShopSettings).hold_seconds),
        timeline=[entry("placed", by=buyer.actor.id if buyer.actor else "")],
        cart_id=cart.id,
        cart_version=cart.version,
    )


async def _free_number(order_id: str) -> str:
    """A number that no other order has."""
    for attempt in range(NUMBERS):
        number = rules.number_of(order_id, attempt)
        if not await orders.exists({"number": number}):
            return number
    raise Busy(retry_after=1)


async def _reached_at(form: CheckoutForm, buyer: Buyer) -> tuple[str, str]:
    """Where to write to, and in which language: as the form says, else as accounts knows. Raises ContactNeeded."""
    person = None
    if buyer.actor is not None and (form.email is None or form.language is None):
        person = await known(buyer.actor.id)
    email = form.email or (person.email if person else "")
    if not email:
        raise rules.ContactNeeded
    return email, form.language or (person.language if person else buyer.language)


async def _priced(begun: Begun, cart: Cart, form: CheckoutForm, person: str) -> Priced:
    """What it costs now. Raises NotAllSold; TotalChanged says the rest, since a coupon that is refused costs more."""
    currency = form.currency or cart.currency
    sold = await offers([each.variant_id for each in cart.lines], currency)
    gone = [each.variant_id for each in cart.lines if each.variant_id not in sold]
    if gone:
        raise rules.NotAllSold(currency=currency, variants=gone)
    result = await priced(
        [(sold[each.variant_id], each.quantity) for each in cart.lines],
        currency,
        country=form.address.country,
        town=form.address.town,
        coupons=cart.coupons if form.coupons is UNSET else form.coupons,
        shipping_id=form.shipping_id,
        person=person,
        order_id=begun.order_id,
    )
    if result.shipping is None:
        refused = (each.details for each in result.notices if each.code == "shipping_refused")
        raise BadShipping(reason=next(refused, {}).get("reason", "unknown"))
    return result


def _check_way_to_pay(form: CheckoutForm, total: int, currency: str) -> None:
    if form.pay is None:
        raise rules.PaymentNeeded
    money.check_provider(form.pay.provider, total, currency)


def _shipping(result: Priced) -> dict[str, Any]:
    chosen = result.shipping
    if chosen is None:
        return {}
    return {
        "shipping_name": Words(en=chosen.name, sw=chosen.name_sw),
        "shipping_tax": result.shipping_tax,
        "pick_up_at": chosen.location_id if chosen.kind == "pick_up" else None,
    }


def _line(number: int, each: PricedLine) -> OrderLine:
    sold = each.offer
    return OrderLine(
        id=str(number),
        product_id=sold.product_id,
        variant_id=sold.variant_id,
        sku=sold.sku,
        title=sold.title,
        options=dict(sold.options),
        quantity=each.quantity,
        price=each.price,
        discount=each.discount,
        tax=each.tax,
        total=each.total,
        weight=sold.weight,
        tracked=sold.tracked,
    )


# ---- taking it


async def _take(draft: Order, form: CheckoutForm) -> Order:
    """Hold what it needs, then place it. What is refused on the way gives back what was taken.

    That a phone will ring is counted at the end: a buyer who is refused for another reason has made none ring.
    """
    seconds = state.part(ShopSettings).hold_seconds
    held = await stock.hold(draft.id, _wanted(draft), seconds=seconds, location_id=draft.pick_up_at)
    try:
        await coupons.hold_coupons(draft.id, draft.coupons, draft.person, seconds)
        if draft.totals.total and form.pay is not None:
            await prompts.count(form.pay.provider, form.pay.phone)
        return await _place(_with_allocations(draft, held))
    except Busy:
        raise  # whether it was placed is open; the holds serve the retry, and end by themselves
    except Problem:
        await stock.release(draft.id, stock.pairs_of(held))
        await coupons.release_coupons(draft.id, draft.coupons, draft.person)
        raise


def _wanted(draft: Order) -> dict[str, int]:
    return {line.variant_id: line.quantity for line in draft.lines if line.tracked}


def _with_allocations(draft: Order, held: dict[str, list[Allocation]]) -> Order:
    lines = [msgspec.structs.replace(line, allocations=held.get(line.variant_id, [])) for line in draft.lines]
    return msgspec.structs.replace(draft, lines=lines)


@atomic
async def _place(draft: Order) -> Order:
    """The order is there and the cart is empty: both or neither, so that one cart makes one order."""
    try:
        await carts.empty_cart(draft.cart_id, draft.cart_version)
    except Stale:
        raise rules.CartChanged from None
    try:
        placed = await orders.add(draft, tells=[OrderPlaced(order_id=draft.id)])
    except AlreadyExists:
        raise Busy(retry_after=1) from None  # two orders drew one number at this moment: the retry draws another
    await tell_placed(placed)
    return placed


# ---- paying it


async def _open_payment(order: Order, form: CheckoutForm) -> None:
    """Ask for the money. The order stands whatever comes of that: it can be paid again while it is held."""
    if form.pay is None:
        return
    try:
        await money.pay(order, money.payment_id(order.id, 1), form.pay.provider, form.pay.phone)
    except (Problem, PyMongoError) as problem:
        if isinstance(problem, Busy):
            raise
        log.warning("payment_not_opened", order=order.id, why=str(problem)[:200])
