"""Putting things into a cart, agreeing to prices, and a guest's cart that becomes a person's own."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from secrets import token_urlsafe
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from msingi.kit import db, mail, unit
from msingi.kit.again import until_it_fits
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import AlreadyExists, NotFound, Stale
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts.contract import Person
from msingi.products.shop.models.carts import GUESTS_KEPT, Cart, carts
from msingi.products.shop.models.catalogue import CURRENCIES
from msingi.products.shop.models.pricing import personal_uses
from msingi.products.shop.queries.carts import cart_of, guests_cart, new_cart
from msingi.products.shop.queries.catalogue import offers
from msingi.products.shop.queries.pricing import standings
from msingi.products.shop.rules import carts as rules
from msingi.products.shop.rules.coupons import CouponRefused, normal, refused_by_itself

R = TypeVar("R")
TOKEN_BYTES = 32
CHANGING = ("currency", "lines", "coupons", "reminded_at")
Change = Callable[[Cart], Awaitable[Cart]]


class Written(NamedTuple):
    """A cart after a write; `token` opens it, and is told once, if the cart was made for a guest just now."""

    cart: Cart
    token: str | None = None


# ---- by its owner


async def own_cart(actor: Actor | None, token: str | None) -> Cart:
    """The cart of who asks, with what they put into another one as a guest, if that is their token.

    Where there is none it is an empty one of version 0, which is not stored.
    """
    await merge(actor, token)
    return await cart_of(actor, token) or new_cart("", actor)


async def put_line(
    actor: Actor | None, token: str | None, variant_id: str, quantity: int, if_match: int | None
) -> Written:
    """Have so many of a variant in the cart. Raises NotFound for what is not sold; CartFull."""

    async def change(cart: Cart) -> Cart:
        offer = (await offers([variant_id], cart.currency)).get(variant_id)
        if offer is None:
            raise NotFound
        return rules.with_line(cart, offer, quantity)

    return await _change(actor, token, if_match, change)


async def drop_line(actor: Actor | None, token: str | None, variant_id: str, if_match: int | None) -> Written:
    """Have none of a variant in the cart."""

    async def change(cart: Cart) -> Cart:
        return rules.without_line(cart, variant_id)

    return await _change(actor, token, if_match, change)


async def put_code(actor: Actor | None, token: str | None, code: str, if_match: int | None) -> Written:
    """Use a coupon. What only other goods or coupons stand in the way of is kept. Raises CouponRefused."""
    wanted = normal(code)

    async def change(cart: Cart) -> Cart:
        standing = (await standings([wanted], actor.id if actor else None)).get(wanted)
        reason = "unknown" if standing is None else refused_by_itself(standing)
        if reason is not None:
            raise CouponRefused(coupon=wanted, reason=reason)
        return rules.with_code(cart, wanted)

    return await _change(actor, token, if_match, change)


async def drop_code(actor: Actor | None, token: str | None, code: str, if_match: int | None) -> Written:
    """Do without a coupon."""

    async def change(cart: Cart) -> Cart:
        return rules.without_code(cart, normal(code))

    return await _change(actor, token, if_match, change)


async def put_currency(actor: Actor | None, token: str | None, currency: str, if_match: int | None) -> Written:
    """Have the cart in another currency. Raises UnknownCurrency."""
    if currency not in CURRENCIES:
        raise rules.UnknownCurrency(currency=currency)

    async def change(cart: Cart) -> Cart:
        if cart.currency == currency:
            return cart
        return rules.in_currency(cart, currency, await offers([each.variant_id for each in cart.lines], currency))

    return await _change(actor, token, if_match, change)


async def agree(actor: Actor | None, token: str | None, prices: dict[str, int], if_match: int | None) -> Written:
    """Agree to these prices, as far as they are those of now."""

    async def change(cart: Cart) -> Cart:
        return rules.agreed(cart, prices, await offers([each.variant_id for each in cart.lines], cart.currency))

    return await _change(actor, token, if_match, change)


async def clear(actor: Actor | None, token: str | None, if_match: int | None) -> Written:
    """Have nothing in the cart."""

    async def change(cart: Cart) -> Cart:
        return rules.emptied(cart)

    return await _change(actor, token, if_match, change)


async def _change(actor: Actor | None, token: str | None, if_match: int | None, change: Change) -> Written:
    """Change the cart of who asks, as it is when it is written; a guest who has none gets one, and its token."""
    await merge(actor, token)

    async def write() -> Written:
        known = await cart_of(actor, token)
        fresh = token_urlsafe(TOKEN_BYTES)
        cart = known or new_cart(_id_of(actor, fresh), actor)
        rules.check_version(cart, if_match)
        changed = await change(cart)
        if all(getattr(changed, name) == getattr(cart, name) for name in CHANGING):
            return Written(cart)
        if known is not None:
            return Written(await _save(changed, known.version))
        return Written(await _add(replace(changed, version=1)), None if actor else fresh)

    return await until_it_fits(write, if_match)


def _id_of(actor: Actor | None, token: str) -> str:
    return rules.cart_of_person(actor.id) if actor else rules.cart_of_guest(token)


@guarded
async def _save(cart: Cart, version: int) -> Cart:
    changes = {name: getattr(cart, name) for name in CHANGING}
    if not cart.lines:
        changes["reminded_at"] = None
    return await carts.change(cart.id, {"$set": {**changes, "expires_at": _expiry(cart)}}, when={"version": version})


@guarded
async def _add(cart: Cart) -> Cart:
    try:
        return await carts.add(replace(cart, expires_at=_expiry(cart)))
    except AlreadyExists:
        raise Stale from None  # another request of theirs made it at this moment


def _expiry(cart: Cart) -> datetime | None:
    return None if cart.owner_id is not None else now() + timedelta(seconds=GUESTS_KEPT)


# ---- at sign-in


async def merge(actor: Actor | None, token: str | None) -> None:
    """Put what a person has in a guest's cart into their own, once, however many requests bring its token."""
    if actor is None or token is None or await guests_cart(token) is None:
        return
    noted = unit.journal.set(None)  # it is no step of a request: done again, it finds nothing to merge
    try:
        await until_it_fits(lambda: _merge(actor, token))
    finally:
        unit.journal.reset(noted)


@atomic
async def _merge(actor: Actor, token: str) -> None:
    """One cart goes and the other grows, or neither: so no other request finds anything to merge."""
    guest = await guests_cart(token)
    if guest is None:
        return
    own = await cart_of(actor, None)
    cart = rules.merged(own or new_cart(_id_of(actor, ""), actor), guest)
    await carts.remove(guest)
    if own is None:
        await carts.add(replace(cart, version=1))
        return
    changes = {name: getattr(cart, name) for name in CHANGING}
    await carts.change(own.id, {"$set": changes}, when={"version": own.version})


# ---- at checkout


async def cart_for_checkout(actor: Actor | None, token: str | None, if_match: int | None = None) -> Cart:
    """The cart that is about to be ordered. Raises CartEmpty; Stale if it is not the version that was decided on."""
    cart = await own_cart(actor, token)
    rules.check_version(cart, if_match)
    if not cart.lines:
        raise rules.CartEmpty
    return cart


@guarded
async def empty_cart(cart_id: str, version: int) -> None:
    """Take everything out of a cart that was ordered. Raises Stale if it is not that version any more."""
    nothing: dict[str, Any] = {"lines": [], "coupons": [], "reminded_at": None}
    await carts.change(cart_id, {"$set": nothing}, when={"version": version})


# ---- without a request


@atomic
async def remind(cart_id: str, person: Person | None) -> None:
    """Write to somebody about the cart that they left, and note it: both or neither, so it is written once.

    The cart's version stays, since a person decides on that. Quiet about a cart that was touched meanwhile, and about
    people of whom nothing is known.
    """
    cart = await carts.find({"_id": cart_id, "reminded_at": None, "lines.0": {"$exists": True}})
    if cart is None or cart.updated_at > now() - timedelta(seconds=rules.ABANDONED_AFTER):
        return
    same = {"_id": cart.id, "version": cart.version, "reminded_at": None}
    await carts.raw.update_one(same, {"$set": {"reminded_at": now()}}, session=db.session())
    if person is None or not person.email:
        return
    await mail.send(
        "cart_left",
        to=person.email,
        language=person.language,
        product="shop",
        name=person.name,
        things=_things(cart, person.language),
    )


def _things(cart: Cart, language: str) -> list[dict[str, str]]:
    """What is in a cart, in somebody's language."""
    return [{"title": each.title.said_in(language), "quantity": str(each.quantity)} for each in cart.lines]


async def forget(person: str) -> None:
    """Somebody is no more: neither their cart nor their use of coupons is kept."""
    await _remove_carts([rules.cart_of_person(person)])
    await _remove_uses(person)


@guarded
async def _remove_carts(ids: Iterable[str]) -> None:
    await carts.remove_many({"_id": {"$in": list(ids)}})


@guarded
async def _remove_uses(person: str) -> None:
    await personal_uses.remove_many({"person": person})
