"""What happens to a cart: lines and codes, agreed prices, and two carts that become one."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Literal, Protocol

from msgspec.structs import replace

from msingi.kit.errors import Conflict, Invalid, Stale
from msingi.products.shop.models.carts import Cart, CartLine
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.rules.coupons import MOST_CODES, TooManyCoupons
from msingi.products.shop.rules.pricing import Notice

MOST_LINES = 100
MOST_OF_ONE = 1_000
FEW = 5  # so many left are few
ABANDONED_AFTER = 24 * 3600  # seconds without a change
FORGOTTEN_AFTER = 14 * 24 * 3600  # seconds after which nobody is reminded any more

Left = Literal["none", "few", "enough"]


class CartFull(Conflict):
    """A cart takes {most} different things."""


class CartEmpty(Conflict):
    """There is nothing in the cart."""


class UnknownCurrency(Invalid):
    """{currency} is no currency."""


class Sold(Protocol):
    """What a cart needs to know of a variant that is sold."""

    @property
    def variant_id(self) -> str: ...

    @property
    def price(self) -> int: ...

    @property
    def title(self) -> Words: ...

    @property
    def tracked(self) -> bool: ...


# ---- whose it is


def cart_of_person(person: str) -> str:
    return f"user.{person}"


def cart_of_guest(token: str) -> str:
    """The id of the cart that a token opens; nobody who reads it in the database can open the cart."""
    return f"guest.{sha256(token.encode('utf-8', 'replace')).hexdigest()}"


def check_version(cart: Cart, if_match: int | None) -> None:
    """Raise Stale if the caller decided on another version."""
    if if_match is not None and cart.version != if_match:
        raise Stale


# ---- changes: each gives the cart as it is after it


def with_line(cart: Cart, offer: Sold, quantity: int) -> Cart:
    """So many of a variant. A new line agrees to the price of now; one that is there keeps what was agreed to."""
    known = line_of(cart, offer.variant_id)
    if known is not None:
        changed = replace(known, quantity=quantity)
        return replace(cart, lines=[changed if each is known else each for each in cart.lines])
    if len(cart.lines) >= MOST_LINES:
        raise CartFull(most=MOST_LINES)
    line = CartLine(variant_id=offer.variant_id, quantity=quantity, price=offer.price, title=offer.title)
    return replace(cart, lines=[*cart.lines, line])


def line_of(cart: Cart, variant_id: str) -> CartLine | None:
    return next((each for each in cart.lines if each.variant_id == variant_id), None)


def without_line(cart: Cart, variant_id: str) -> Cart:
    return replace(cart, lines=[each for each in cart.lines if each.variant_id != variant_id])


def with_code(cart: Cart, code: str) -> Cart:
    if code in cart.coupons:
        return cart
    if len(cart.coupons) >= MOST_CODES:
        raise TooManyCoupons(most=MOST_CODES)
    return replace(cart, coupons=[*cart.coupons, code])


def without_code(cart: Cart, code: str) -> Cart:
    return replace(cart, coupons=[each for each in cart.coupons if each != code])


def in_currency(cart: Cart, currency: str, offers: Mapping[str, Sold]) -> Cart:
    """The same goods in another currency, at its prices of now: who asks for it sees them in the answer."""
    lines = [_at_price(each, offers.get(each.variant_id)) for each in cart.lines]
    return replace(cart, currency=currency, lines=lines)


def _at_price(line: CartLine, offer: Sold | None) -> CartLine:
    return replace(line, price=None if offer is None else offer.price)


def agreed(cart: Cart, prices: Mapping[str, int], offers: Mapping[str, Sold]) -> Cart:
    """The cart with those of these prices agreed to that are the prices of now."""
    current = {id: offer for id, offer in offers.items() if prices.get(id) == offer.price}
    lines = [_at_price(each, current[each.variant_id]) if each.variant_id in current else each for each in cart.lines]
    return replace(cart, lines=lines)


def emptied(cart: Cart) -> Cart:
    return replace(cart, lines=[], coupons=[], reminded_at=None)


def merged(own: Cart, guest: Cart) -> Cart:
    """A person's cart with what they put into another one as a guest.

    Quantities of a variant add up, to MOST_OF_ONE at most; its agreed price is the one of the person's own cart, so
    that another one is shown as changed. What was agreed to in another currency is not agreed to in this one. Beyond
    MOST_LINES and MOST_CODES the guest's last ones are left out.
    """
    currency = own.currency if own.lines else guest.currency
    added = [each if guest.currency == currency else replace(each, price=None) for each in guest.lines]
    lines = {each.variant_id: each for each in own.lines}
    for each in added:
        known = lines.get(each.variant_id)
        if known is not None:
            quantity = min(known.quantity + each.quantity, MOST_OF_ONE)
            lines[each.variant_id] = replace(known, quantity=quantity)
        elif len(lines) < MOST_LINES:
            lines[each.variant_id] = each
    codes = list(dict.fromkeys([*own.coupons, *guest.coupons]))[:MOST_CODES]
    return replace(own, currency=currency, lines=list(lines.values()), coupons=codes)


# ---- what a person should know


def notices_of(lines: Sequence[CartLine], offers: Mapping[str, Sold], left: Mapping[str, int]) -> list[Notice]:
    """What is different from what was agreed to, line by line."""
    return [notice for each in lines for notice in _notices_of(each, offers.get(each.variant_id), left)]


def _notices_of(line: CartLine, offer: Sold | None, left: Mapping[str, int]) -> list[Notice]:
    variant = {"variant_id": line.variant_id}
    if offer is None:
        return [Notice("not_sold_any_more", variant)]
    found = []
    if line.price != offer.price:
        found.append(Notice("price_changed", {**variant, "before": line.price, "now": offer.price}))
    if offer.tracked and left.get(line.variant_id, 0) < line.quantity:
        found.append(Notice("out_of_stock", {**variant, "left": max(0, left.get(line.variant_id, 0))}))
    return found


def how_many_left(line: CartLine, offer: Sold | None, left: Mapping[str, int]) -> Left:
    """Whether there is enough of it, by a word: how many there are is nobody's business."""
    if offer is None:
        return "none"
    if not offer.tracked:
        return "enough"
    count = left.get(line.variant_id, 0)
    if count <= 0:
        return "none"
    return "few" if count <= FEW or count < line.quantity else "enough"
