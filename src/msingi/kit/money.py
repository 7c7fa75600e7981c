"""Money: whole minor units of one currency. No sum is ever rounded unless somebody says how.

Two laws of rounding, used everywhere and stated in docs/contracts/shop.md: what is *computed* (tax, a percentage) is
rounded half away from zero, each line by itself; what is *shared out* (a discount over lines, a refund over taxes) is
shared by largest remainder, so that the parts are always the whole.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from babel.numbers import format_currency, get_currency_precision, list_currencies
from msgspec import Meta, Struct

from msingi.kit.errors import Invalid

Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$", description="ISO 4217", examples=["KES"])]
Minor = Annotated[int, Meta(ge=0, le=10**13, description="in minor units, as cents")]
LOCALES = {"en": "en_KE", "sw": "sw_KE"}
BASIS = 10_000  # basis points in one: 16 % are 1600


class CurrencyMismatch(Invalid):
    """{one} and {other} cannot be added up: say at which rate first."""


class Money(Struct, frozen=True, order=False):
    """An amount in minor units (129900 KES is KSh 1,299.00; 500 UGX is USh 500). It may be negative."""

    amount: int
    currency: str

    def __add__(self, other: "Money") -> "Money":
        return Money(self.amount + self._same(other).amount, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.amount - self._same(other).amount, self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.amount, self.currency)

    def __lt__(self, other: "Money") -> bool:
        return self.amount < self._same(other).amount

    def __le__(self, other: "Money") -> bool:
        return self.amount <= self._same(other).amount

    def _same(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise CurrencyMismatch(one=self.currency, other=other.currency)
        return other


def rounded(value: Fraction) -> int:
    """The nearest whole number; a half goes away from zero (2.5 → 3, -2.5 → -3), as invoices are rounded by hand."""
    whole = abs(value.numerator) * 2 + value.denominator
    return (whole // (2 * value.denominator)) * (1 if value >= 0 else -1)


def part(amount: int, basis_points: int) -> int:
    """So many basis points of an amount, rounded: `part(999, 1600)` is 160."""
    return rounded(Fraction(amount * basis_points, BASIS))


def part_within(amount: int, basis_points: int) -> int:
    """The part that is contained in an amount which includes it: of 1160 with 16 % tax within, 160 is the tax."""
    return rounded(Fraction(amount * basis_points, BASIS + basis_points))


def shared(amount: int, weights: Sequence[int]) -> list[int]:
    """An amount shared out by weights, by largest remainder: the parts are always the whole.

    Equal remainders go to the earlier one first. Weights must not be negative; if all are 0 the shares are equal.
    Raises ValueError for no weights, or a negative one.
    """
    if not weights or min(weights) < 0:
        raise ValueError("shares need weights of 0 and more")
    total = sum(weights)
    if total == 0:
        weights, total = [1] * len(weights), len(weights)
    sign, left = (1, amount) if amount >= 0 else (-1, -amount)
    parts = [left * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda at: (-(left * weights[at] % total), at))
    for at in by_remainder[: left - sum(parts)]:
        parts[at] += 1
    return [sign * each for each in parts]


def total(amounts: Iterable[Money], currency: str) -> Money:
    """The sum, which is nothing of that currency if there are none. Raises CurrencyMismatch."""
    found = Money(0, currency)
    for each in amounts:
        found += each
    return found


def is_currency(code: str) -> bool:
    """Whether ISO 4217 knows it."""
    return code in list_currencies()


def decimals(currency: str) -> int:
    """How many digits its minor unit has: 2 for KES, 0 for UGX."""
    return int(get_currency_precision(currency))


def shown(money: Money, language: str = "en") -> str:
    """As people of a language write it, by Unicode's CLDR: `Ksh1,299.00`, in Swahili with a space."""
    number = Decimal(money.amount).scaleb(-decimals(money.currency))
    return str(format_currency(number, money.currency, locale=LOCALES.get(language, "en_KE")))
