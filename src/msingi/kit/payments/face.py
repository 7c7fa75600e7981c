"""What a provider of payments is to the house: it is asked, it tells facts, and it may be silent.

A provider knows nothing of orders. Whatever it says (in a reply, a callback, a poll, a file) becomes a Fact, and facts
may come late, twice, in any order or never; kit.payments.till makes one truth of them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct

from msingi.kit.errors import Busy, Invalid, Malformed

Kind = Literal[
    "pending",  # the provider has it, the payer has not decided; with a `code` one try failed and another may follow
    "authorised",  # the money is set aside
    "captured",  # the money is ours; `amount` is the total captured so far
    "failed",  # it is over without money, for certain
    "voided",  # what was set aside is free again
    "refunded",  # `amount` went back under `refund`
    "refund_failed",  # also after it was `refunded`: a bank may send it back
    "disputed",  # the payer's bank wants `amount` back, because of `code`: people have to answer
]


class Fact(Struct, frozen=True, kw_only=True):
    """Something a provider said. Two facts with one `id` are the same fact."""

    id: str  # the provider's own event id, or one made of what it says
    reference: str  # the provider's id of the payment; "" for money that came without being asked for
    kind: Kind
    account: str = ""  # what the payer named as the account of money that was not asked for
    payment: str = ""  # our id of the payment, where the provider tells it: finds it before we know the reference
    amount: int = 0  # minor units; 0: it does not say, so that it is what was asked for
    currency: str = ""  # empty: it does not say
    receipt: str = ""  # the provider's number of the money's movement: it credits one payment only
    refund: str = ""  # our id of the refund it is about
    # Why it failed, as kit.payments.<provider> names it. With `pending`: what it says now, but money may still come.
    code: str = ""
    at: datetime | None = None
    raw: dict[str, Any] = {}  # what it was made of, without secrets and without what a person would not want kept


class Begun(Struct, frozen=True, kw_only=True):
    """A payment that a provider has taken on, and what the payer does next."""

    reference: str
    action: dict[str, str] = {}  # {"kind": "prompt", "phone": "…12"} · {"kind": "confirm", "client_secret": …}
    facts: Sequence[Fact] = ()


class Asked(Struct, frozen=True, kw_only=True):
    """What is asked of a provider. `id` is ours, and the provider's idempotency key: asked twice is asked once."""

    id: str
    amount: int
    currency: str
    note: str = ""  # what the payer reads: "Order MS-4F7K"
    phone: str = ""  # E.164
    email: str = ""
    capture: bool = True  # False: authorise only
    callback: str = ""  # where the provider tells, with the secret that is only known to it


class Refunding(Struct, frozen=True, kw_only=True):
    """Money to go back: `id` is ours, and the provider's idempotency key."""

    id: str
    reference: str
    amount: int
    currency: str
    receipt: str = ""
    phone: str = ""
    reason: str = ""


class Unknown(Exception):
    """The provider did not answer clearly: money may have moved. It is asked until that is known."""


class Refused(Invalid):
    """The payment provider refused this: {reason}"""


class ProviderSilent(Busy):
    """{provider} has not answered several times in a row; pay in another way, or try again later."""


class BadCallback(Malformed):
    """This is no message of the payment provider."""


class Provider(Protocol):
    """A provider. Each method raises Unknown when nobody can tell whether it was done, Refused when it was not."""

    name: str

    def takes(self, amount: int, currency: str) -> bool:
        """Whether such a sum can be paid with it (mobile money: whole shillings, at most so many)."""
        ...

    async def begin(self, asked: Asked) -> Begun: ...

    async def ask(self, reference: str) -> Sequence[Fact]:
        """What it knows of a payment now, as facts with ids that are the same each time it says the same."""
        ...

    async def find(self, id: str) -> str | None:
        """The reference of what was begun under our id, if it was: after a `begin` that nobody heard the answer of."""
        ...

    async def capture(self, reference: str, amount: int, currency: str) -> Sequence[Fact]: ...

    async def void(self, reference: str) -> Sequence[Fact]: ...

    async def refund(self, refunding: Refunding) -> Sequence[Fact]: ...

    def hear(self, headers: Mapping[str, str], body: bytes, secret: str) -> Sequence[Fact]:
        """The facts of a callback. Raises BadCallback for what the provider did not send."""
        ...


@runtime_checkable
class RingsPhones(Protocol):
    """A provider whose `begin` makes the payer's phone ring, whoever asked for it: that wants a limit."""

    def rung(self, phone: str) -> str:
        """The number that would ring, always written alike. Raises Refused for what is none."""
        ...


@runtime_checkable
class AnswersForRefunds(Protocol):
    """A provider whose `ask` does not tell of refunds, but that can be asked about one."""

    async def ask_refund(self, refunding: Refunding) -> Sequence[Fact]:
        """What became of a refund that it took on. Nothing if it does not say."""
        ...
