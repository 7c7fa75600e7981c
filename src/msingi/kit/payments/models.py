"""What is kept of payments, in the database of the product that takes them."""

from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal

from msgspec import Struct

from msingi.kit.db import SEALED, Collection, Doc, Index

State = Literal[
    "new",  # kept, before anything is asked of the provider
    "pending",  # the payer has it
    "authorised",
    "captured",  # at least in part
    "failed",
    "voided",
    "unknown",  # asked, and nobody knows what became of it
]
RefundState = Literal["waiting", "approved", "sent", "unknown", "done", "failed", "refused"]


class Refund(Struct, frozen=True, kw_only=True):
    """Money to go back. `waiting` needs a second person to approve it; nobody approves what they asked for."""

    id: str
    amount: int
    reason: str
    asked_by: str  # empty: it was made at the provider, and we were told of it
    asked_at: datetime
    state: RefundState = "waiting"
    approved_by: str = ""
    sent_at: datetime | None = None  # when the provider was first asked for it
    code: str = ""
    told: int = 0  # how much of it went back, as the provider says
    receipt: str = ""


class Movement(Struct, frozen=True):
    """Money that moved by so much, as it became known: what the ledger is posted from. Only ever added to."""

    kind: Literal["captured", "refunded"]
    amount: int
    at: datetime


class Payment(Doc, kw_only=True):
    """Something to be paid, once. What is captured and refunded only grows, and refunds never exceed captures.

    `refunds` that are not failed or refused count against `captured` from the moment they are asked for. What follows
    from facts (state, captured, refunded, authorised, receipts, odd …) is computed by kit.payments.truth, and by
    nobody else.
    """

    purpose: str  # what for: "shop.order:<id>"
    payer_id: str | None = None
    provider: str
    amount: int
    currency: str
    state: State = "new"
    capture: bool = True
    authorised: int = 0  # the money set aside, also after it was captured
    captured: int = 0
    refunded: int = 0
    reference: str | None = None
    receipt: str | None = None
    receipts: list[str] = []  # all receipts that credit it
    action: dict[str, str] = {}
    code: str = ""  # why it failed
    phone: Annotated[str, SEALED] = ""
    email: Annotated[str, SEALED] = ""
    facts: list[str] = []  # the ids of the facts that have been applied
    refunds: list[Refund] = []
    movements: list[Movement] = []
    wanted: Literal["", "capture", "void"] = ""  # kept before it is asked for, until it is so
    to_capture: int = 0  # how much in all, when that is wanted
    void_refused: bool = False  # the provider would not let it go: whoever wants that again should know more by then
    in_doubt: bool = False  # something was asked, and nobody heard the answer
    ask_at: datetime | None = None  # when it is to be asked about; None when all is known
    asked: int = 0  # how often, since `asking_since`
    asked_at: datetime | None = None
    leased_until: datetime | None = None  # one process asks about it now, no other does until then
    asking_since: datetime | None = None
    odd: list[str] = []  # what does not add up, for people to look at: "amount: asked 100, captured 90"


class Meant(Struct, frozen=True):
    """What money is for that came unasked, where no payment of ours waits for it: it becomes one of its own."""

    purpose: str
    payer_id: str | None = None


class FactRow(Doc, kw_only=True):
    """A fact as it came in: kept before anything else is done, its id is `<provider>.<fact's id>`.

    What names no payment of ours yet waits: the answer to our question may be later than the callback.
    """

    provider: str
    reference: str
    fact: dict[str, Any]
    has_raw: bool = False
    payment_id: str | None = None
    applied_at: datetime | None = None  # also of what named no payment of ours for a day: then without `payment_id`
    credits: str = ""  # the payment that its receipt credits already: this fact credits nothing


class Line(Struct, frozen=True):
    """One side of a posting: debits are positive, credits negative."""

    account: str  # "provider:mpesa", "sales", "tax:KE.VAT", "receivable:<order>", "refunds"
    amount: int


class Posting(Doc, kw_only=True):
    """Lines that add up to nothing, in one currency. The id says what it is of, so that it is posted once."""

    currency: str
    lines: list[Line]
    purpose: str
    note: str = ""


@cache
def payments(product: str) -> Collection[Payment]:
    """The payments of a product. A receipt credits one payment, a reference names one."""
    kept = Collection(
        Payment,
        "payments",
        indexes=[
            "purpose",
            Index("provider reference", unique=True, where={"reference": {"$type": "string"}}),
            Index("provider receipts", unique=True, where={"receipt": {"$type": "string"}}),
            Index("ask_at", where={"ask_at": {"$type": "date"}}),
            "-created_at",
            Index("created_at _id", where={"refunds.state": "waiting"}),  # what waits for somebody's approval
        ],
    )
    kept.product = product
    return kept


@cache
def facts(product: str) -> Collection[FactRow]:
    """The inbox of what providers said."""
    kept = Collection(
        FactRow,
        "payment_facts",
        indexes=[
            "provider reference",
            "payment_id",
            Index("created_at", where={"applied_at": None}),
            Index("created_at", where={"has_raw": True}),
        ],
    )
    kept.product = product
    return kept


@cache
def postings(product: str) -> Collection[Posting]:
    """The ledger of a product."""
    kept = Collection(Posting, "postings", indexes=["purpose", "lines.account -_id"])
    kept.product = product
    return kept


def stores(product: str) -> list[Collection[Any]]:
    """The collections that payments need in a product's database."""
    return [payments(product), facts(product), postings(product)]
