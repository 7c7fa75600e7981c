"""What may be done with stock, and in which words it is refused: no database, no clock."""

from base64 import b32hexencode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

from msgspec import Struct

from msingi.kit.drift import Drift
from msingi.kit.errors import Conflict, Invalid
from msingi.products.shop.models.stock import Level

MOST_WAITING = 2000  # holds on one stock: each write goes through them all
MOST_LOCATIONS = 200
MOST_ASKED = 100  # variants in one question
FEW = 3  # what is left of, is said to be nearly gone


class OutOfStock(Conflict):
    """There is not enough of it: {left} left."""


class TooManyWaiting(Conflict):
    """Too many orders for this wait to be paid; try again in some minutes."""


class NotAllocated(Conflict):
    """This order has no more of it set aside there."""


class StillPromised(Conflict):
    """{allocated} of it belong to orders that are paid, and {held} are held for buyers: so many must stay there."""


class SamePlace(Invalid):
    """It lies there already: move it to another place."""


class LocationInUse(Conflict):
    """Goods lie here, or did: close this place instead, so that what happened to them can still be told."""


class TooManyLocations(Conflict):
    """There are {most} places, and no more than that."""


class BadVariants(Invalid):
    """Name 1 to {most} variants, separated by commas."""


class Place(Struct, frozen=True):
    """A location that has some of a variant, and how much an order holds there, ended or not."""

    location_id: str
    own: int = 0


class Sums(Struct, frozen=True):
    """What movements add up to, or what a stock says of itself."""

    on_hand: int = 0
    allocated: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.on_hand + other.on_hand, self.allocated + other.allocated)


def level(left: int) -> Level:
    """What guests are told of how much is left."""
    if left <= 0:
        return "none"
    return "few" if left <= FEW else "in_stock"


def is_low(unsold: int, low_at: int) -> bool:
    """Whether so few are not yet sold that somebody wants to be told; at 0 nobody does."""
    return low_at > 0 and unsold <= low_at


def variants_asked(text: str) -> list[str]:
    """The variants of `a,b`, each once, in their order. Raises BadVariants."""
    asked = list(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))
    if not 1 <= len(asked) <= MOST_ASKED:
        raise BadVariants(most=MOST_ASKED)
    return asked


def receipt(order_id: str, stock: str) -> str:
    """The id of the movement that allocates a stock to an order for the first time: known before it happens.

    It begins as the order's id does, and so with the order's time.
    """
    return (
        order_id[:10] + b32hexencode(blake2b(f"{order_id} {stock}".encode(), digest_size=10).digest()).decode().lower()
    )


def in_order(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Variants at locations in the one order in which everybody takes them."""
    return sorted(set(pairs))


def own(places: Mapping[str, Sequence[Place]]) -> list[tuple[str, str]]:
    """Where an order holds something already."""
    return [(variant, each.location_id) for variant, here in places.items() for each in here if each.own]


def drifts(derived: Mapping[str, Sums], found: Mapping[str, Sums]) -> list[Drift]:
    """Each stock that does not say what its movements add up to."""
    known: list[Drift] = []
    for id in sorted({*derived, *found}):
        wanted, there = derived.get(id, Sums()), found.get(id, Sums())
        if wanted.on_hand != there.on_hand:
            known.append(Drift("stock_on_hand", id, wanted.on_hand, there.on_hand))
        if wanted.allocated != there.allocated:
            known.append(Drift("stock_allocated", id, wanted.allocated, there.allocated))
    return known
