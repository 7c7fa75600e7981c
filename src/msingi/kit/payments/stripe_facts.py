"""What Stripe's objects say, as facts: the same thing told by a reply, a poll or a callback is one and the same fact.

Ids of facts are made of what is said, not of who said it. All of this is pure.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from msingi.kit.money import decimals, is_currency
from msingi.kit.payments.face import Fact, Kind

PAYMENT, REFUND = "msingi_payment", "msingi_refund"  # the names in `metadata` under which our ids travel

# Stripe's units are not everywhere those of ISO 4217 (docs.stripe.com/currencies, with its special cases: shillings of
# Uganda and crowns of Iceland have no cents any more, and are still told in hundredths).
WHOLE = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF")
)
THOUSANDTHS = frozenset(("BHD", "JOD", "KWD", "OMR", "TND"))
# Until this version a part that was not captured, and a hold that was let go of, were told as refunds too. Callbacks
# come in the version that their address was set up with.
NO_REFUND_OF_WHAT_NEVER_CAME = "2025-03-31"
LARGEST = 99_999_999  # eight digits, in Stripe's units
SMALLEST = {  # in Stripe's units, by the same page; elsewhere it is what half a dollar is worth on that day
    **dict.fromkeys(("USD", "EUR", "CHF", "AUD", "CAD", "NZD", "SGD", "BRL", "INR", "JPY"), 50),
    **{"GBP": 30, "AED": 200, "HKD": 400, "SEK": 300, "NOK": 300, "DKK": 250, "PLN": 200, "MXN": 1000, "CZK": 1500},
}


class Charge(Struct, frozen=True):
    """One try to take money."""

    id: str
    payment_intent: str | None = None
    disputed: bool = False
    refunds: Mapping[str, Any] | None = None  # not there unless the callbacks are set up to hold it


class Failure(Struct, frozen=True):
    """Why the last try failed."""

    code: str | None = None
    decline_code: str | None = None
    charge: str | None = None


class Intent(Struct, frozen=True):
    """A PaymentIntent. A failed try does not end it: the payer may try again with another card."""

    id: str
    amount: int
    currency: str
    status: str
    created: int = 0
    client_secret: str | None = None
    amount_received: int | None = None
    amount_capturable: int | None = None
    cancellation_reason: str | None = None
    latest_charge: str | Charge | None = None
    last_payment_error: Failure | None = None
    metadata: Mapping[str, str] = {}


class Refund(Struct, frozen=True):
    """Money on its way back."""

    id: str
    amount: int
    currency: str
    status: str | None = None
    payment_intent: str | None = None
    failure_reason: str | None = None
    created: int = 0
    metadata: Mapping[str, str] | None = None


class Dispute(Struct, frozen=True):
    """A payer's bank that wants the money back: people have to answer, within days."""

    id: str
    amount: int
    currency: str
    status: str = ""
    reason: str = ""
    payment_intent: str | None = None
    created: int = 0


class Told(Struct, frozen=True):
    """What an event is about."""

    object: Mapping[str, Any]


class Event(Struct, frozen=True):
    """A callback."""

    id: str
    type: str
    data: Told
    created: int = 0
    api_version: str | None = None


# ---- amounts


def theirs(amount: int, currency: str) -> int | None:
    """Our minor units in Stripe's, or None for a sum that Stripe cannot tell."""
    whole, rest = divmod(amount * 10 ** _digits(currency), 10 ** decimals(currency))
    return None if rest else int(whole)


def ours(amount: int, currency: str) -> int:
    """Stripe's units in our minor units; a part that ours cannot tell is left out, never added."""
    known = currency.upper()
    return int(amount * 10 ** decimals(known) // 10 ** _digits(known))


def takes(amount: int, currency: str) -> bool:
    """Whether Stripe takes such a sum."""
    if not is_currency(currency):
        return False
    told = theirs(amount, currency)
    if told is None or (currency in THOUSANDTHS and told % 10):
        return False
    return SMALLEST.get(currency, 1) <= told <= LARGEST


def _digits(currency: str) -> int:
    return 0 if currency in WHOLE else 3 if currency in THOUSANDTHS else 2


# ---- facts


def of_intent(intent: Intent, at: datetime | None = None) -> list[Fact]:
    """What a PaymentIntent says as it stands."""
    if intent.status == "succeeded":
        # A lesser server than Stripe leaves `amount_received` out; a success is then of all that was asked.
        received = intent.amount if intent.amount_received is None else intent.amount_received
        return [_fact(intent, "captured", f"captured.{received}", at, amount=received, receipt=_charge(intent))]
    if intent.status == "requires_capture":
        held = intent.amount if intent.amount_capturable is None else intent.amount_capturable
        return [_fact(intent, "authorised", f"authorised.{held}", at, amount=held)]
    if intent.status == "canceled":
        return [_fact(intent, "voided", "voided", at, code=intent.cancellation_reason or "")]
    failed = intent.last_payment_error
    if failed is None or intent.status != "requires_payment_method":
        return [_fact(intent, "pending", "pending", at)]
    code = failed.decline_code or failed.code or "declined"
    return [_fact(intent, "pending", f"declined.{failed.charge or code}", at, code=code)]


def of_refund(refund: Refund, at: datetime | None = None) -> list[Fact]:
    """What a refund says: nothing until it is decided. One that had been paid out may still fail afterwards."""
    kinds: dict[str | None, Kind] = {"succeeded": "refunded", "failed": "refund_failed", "canceled": "refund_failed"}
    kind = kinds.get(refund.status)
    if kind is None or not refund.payment_intent:
        return []
    fact = Fact(
        id=f"{refund.id}.{kind}",
        reference=refund.payment_intent,
        kind=kind,
        receipt=refund.id,
        amount=ours(refund.amount, refund.currency),
        currency=refund.currency.upper(),
        refund=(refund.metadata or {}).get(REFUND, ""),
        code=(refund.failure_reason or refund.status or "") if kind == "refund_failed" else "",
        at=at or _time(refund.created),
        raw={"refund": refund.id, "status": refund.status},
    )
    return [fact]


def of_charge(charge: Charge, at: datetime | None = None) -> list[Fact]:
    """What a refunded charge says of each refund, where it holds them; else the refunds' own events tell."""
    rows = (charge.refunds or {}).get("data", [])
    return [fact for row in rows for fact in of_refund(msgspec.convert(row, Refund), at)]


def of_dispute(dispute: Dispute, at: datetime | None = None) -> list[Fact]:
    """A dispute, told again when it changes: `code` is the reason, and at the end how it went (`won`, `lost`)."""
    if not dispute.payment_intent:
        return []
    over = dispute.status in ("won", "lost", "warning_closed", "prevented")
    fact = Fact(
        id=f"{dispute.id}.{dispute.status if over else 'opened'}",
        reference=dispute.payment_intent,
        kind="disputed",
        amount=ours(dispute.amount, dispute.currency),
        currency=dispute.currency.upper(),
        code=dispute.status if over else dispute.reason,
        at=at or _time(dispute.created),
        raw={"dispute": dispute.id, "status": dispute.status, "reason": dispute.reason},
    )
    return [fact]


HEARD: dict[str, tuple[type[Struct], Callable[[Any, datetime | None], list[Fact]]]] = {
    "payment_intent.created": (Intent, of_intent),
    "payment_intent.requires_action": (Intent, of_intent),
    "payment_intent.processing": (Intent, of_intent),
    "payment_intent.amount_capturable_updated": (Intent, of_intent),
    "payment_intent.succeeded": (Intent, of_intent),
    "payment_intent.payment_failed": (Intent, of_intent),
    "payment_intent.canceled": (Intent, of_intent),
    "refund.created": (Refund, of_refund),
    "refund.updated": (Refund, of_refund),
    "refund.failed": (Refund, of_refund),
    "charge.refund.updated": (Refund, of_refund),
    "charge.refunded": (Charge, of_charge),
    "charge.dispute.created": (Dispute, of_dispute),
    "charge.dispute.closed": (Dispute, of_dispute),
}


def of_event(event: Event) -> Sequence[Fact]:
    """What an event says; nothing if it is of no kind that matters here, or of a payment that somebody else began."""
    if event.type not in HEARD:
        return []
    kind, facts = HEARD[event.type]
    told = msgspec.convert(event.data.object, kind)
    if isinstance(told, Intent) and PAYMENT not in told.metadata:
        return []
    said = facts(told, _time(event.created))
    if (event.api_version or "") < NO_REFUND_OF_WHAT_NEVER_CAME:
        return [fact for fact in said if fact.kind != "refunded" or fact.refund]
    return said


def _fact(intent: Intent, kind: Kind, said: str, at: datetime | None, *, amount: int = 0, **more: str) -> Fact:
    return Fact(
        id=f"{intent.id}.{said}",
        reference=intent.id,
        kind=kind,
        payment=intent.metadata.get(PAYMENT, ""),
        amount=ours(amount, intent.currency),
        currency=intent.currency.upper(),
        at=at,
        raw={"status": intent.status, "charge": _charge(intent)},
        **more,
    )


def _charge(intent: Intent) -> str:
    latest = intent.latest_charge
    return latest.id if isinstance(latest, Charge) else latest or ""


def _time(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
