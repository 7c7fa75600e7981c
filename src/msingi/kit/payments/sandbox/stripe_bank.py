"""What a stand-in of Stripe remembers, and how a payment moves through it: as docs.stripe.com/api says, in memory.

Objects are dicts, since they go out as they are. Old ones are forgotten: of each kind the last MOST are kept.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import time
from typing import Any

from msingi.kit.money import is_currency
from msingi.kit.payments.stripe_facts import LARGEST, SMALLEST

Thing = dict[str, Any]
MOST = 5000
VERSION = "2026-10-28.endive"
OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
CREATES = frozenset(
    (
        *("amount", "currency", "capture_method", "metadata", "description", "receipt_email", "payment_method"),
        *("confirm", "payment_method_types", "automatic_payment_methods", "expand", "off_session", "return_url"),
    )
)

# Test cards, as docs.stripe.com/testing lists them: what becomes of a charge.
GOOD = "pm_card_visa pm_card_visa_debit pm_card_mastercard pm_card_amex pm_card_discover pm_card_unionpay".split()  # noqa: SIM905
DECLINES: dict[str, tuple[str, str, str]] = {  # payment method → code, decline code, message
    "pm_card_chargeDeclined": ("card_declined", "generic_decline", "Your card was declined."),
    "pm_card_visa_chargeDeclined": ("card_declined", "generic_decline", "Your card was declined."),
    "pm_card_visa_chargeDeclinedInsufficientFunds": (
        "card_declined",
        "insufficient_funds",
        "Your card has insufficient funds.",
    ),
    "pm_card_visa_chargeDeclinedLostCard": ("card_declined", "lost_card", "Your card was declined."),
    "pm_card_visa_chargeDeclinedStolenCard": ("card_declined", "stolen_card", "Your card was declined."),
    "pm_card_chargeDeclinedFraudulent": ("card_declined", "fraudulent", "Your card was declined."),
    "pm_card_chargeDeclinedExpiredCard": ("expired_card", "expired_card", "Your card has expired."),
    "pm_card_chargeDeclinedIncorrectCvc": ("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."),
    "pm_card_chargeDeclinedProcessingError": (
        "processing_error",
        "processing_error",
        "An error occurred while processing your card. Try again in a little bit.",
    ),
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": (
        "card_declined",
        "card_velocity_exceeded",
        "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
    ),
}
ASKS = "pm_card_authenticationRequired"  # the bank wants the payer to prove it
SLOW = "pm_usBankAccount_success"  # not a card: days later in truth, told by `settle` here
DISPUTED = "pm_card_createDispute"
REFUND_FAILS = "pm_card_refundFail"  # succeeds, and fails afterwards
REFUND_LATER = "pm_card_pendingRefund"
KNOWN = frozenset((*GOOD, *DECLINES, ASKS, SLOW, DISPUTED, REFUND_FAILS, REFUND_LATER))


class No(Exception):
    """An error as Stripe tells it."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **more}}


class Kept(OrderedDict[str, Thing]):
    """The last MOST things of a kind, oldest first."""

    def keep(self, thing: Thing) -> Thing:
        self[thing["id"]] = thing
        if len(self) > MOST:
            self.popitem(last=False)
        return thing

    def find(self, id: str, what: str) -> Thing:
        if id not in self:
            raise No(404, f"No such {what}: '{id}'", code="resource_missing", param="intent")
        return self[id]


class Bank:
    """One account. `tell(type, object)` hears of each event."""

    def __init__(self, tell: Callable[[str, Thing], None]) -> None:
        self.tell = tell
        self.intents, self.charges, self.refunds, self.disputes = Kept(), Kept(), Kept(), Kept()

    # ---- payments

    def create(self, given: Mapping[str, Any]) -> Thing:
        """A new PaymentIntent, confirmed at once if that is asked for."""
        _known(given, CREATES)
        currency = str(given.get("currency", "")).upper()
        if not is_currency(currency):
            raise No(400, f"Invalid currency: {currency.lower()}.", param="currency")
        amount = _amount(given, "amount", SMALLEST.get(currency, 1), LARGEST)
        if given.get("capture_method", "automatic") not in ("automatic", "automatic_async", "manual"):
            raise No(
                400, "Invalid capture_method: must be one of automatic, automatic_async, or manual", param="capture"
            )
        id = _new("pi")
        intent = self.intents.keep(
            {
                "id": id,
                "object": "payment_intent",
                "amount": amount,
                "amount_capturable": 0,
                "amount_received": 0,
                "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
                "canceled_at": None,
                "cancellation_reason": None,
                "capture_method": given.get("capture_method", "automatic_async"),
                "client_secret": f"{id}_secret_{secrets.token_urlsafe(18)}",
                "confirmation_method": "automatic",
                "created": int(time()),
                "currency": currency.lower(),
                "description": given.get("description"),
                "last_payment_error": None,
                "latest_charge": None,
                "livemode": False,
                "metadata": dict(given.get("metadata") or {}),
                "next_action": None,
                "payment_method": None,
                "payment_method_types": ["card"],
                "processing": None,
                "receipt_email": given.get("receipt_email"),
                "status": "requires_payment_method",
            }
        )
        self.tell("payment_intent.created", intent)
        if given.get("payment_method"):
            intent |= {"payment_method": given["payment_method"], "status": "requires_confirmation"}
        return self.confirm(id, given) if given.get("confirm") == "true" else intent

    def confirm(self, id: str, given: Mapping[str, Any]) -> Thing:
        """The payer's try, with a test card as `payment_method`. Raises No with 402 when it is declined."""
        intent = self.intents.find(id, "payment_intent")
        if intent["status"] not in OPEN:
            raise _unexpected(intent, "confirm")
        card = given.get("payment_method") or intent["payment_method"]
        if not card:
            raise No(400, "You cannot confirm this PaymentIntent because it's missing a payment method.")
        if card not in KNOWN:
            raise No(404, f"No such PaymentMethod: '{card}'", code="resource_missing", param="payment_method")
        intent |= {"payment_method": card, "last_payment_error": None, "next_action": None}
        if card in DECLINES:
            self._decline(intent, *DECLINES[card])
        if card == ASKS and given.get("proven") != "true":
            intent |= {"status": "requires_action", "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {}}}
            self.tell("payment_intent.requires_action", intent)
            return intent
        if card == SLOW:
            intent["status"] = "processing"
            self.tell("payment_intent.processing", intent)
            return intent
        return self._charge(intent)

    def settle(self, id: str, works: bool = True) -> Thing:
        """What was `processing` comes to its end."""
        intent = self.intents.find(id, "payment_intent")
        if intent["status"] != "processing":
            raise _unexpected(intent, "settle")
        if works:
            return self._charge(intent)
        with suppress(No):
            self._decline(intent, "payment_intent_payment_attempt_failed", "", "The bank did not pay.")
        return intent

    def _decline(self, intent: Thing, code: str, decline_code: str, message: str) -> None:
        charge = self._new_charge(intent, status="failed", paid=False, failure_code=code, failure_message=message)
        told = {"code": code, "message": message, "charge": charge["id"], "doc_url": ""}
        if code == "card_declined":
            told["decline_code"] = decline_code
        intent |= {"status": "requires_payment_method", "payment_method": None}
        intent["last_payment_error"] = {**told, "type": "card_error"}
        self.tell("charge.failed", charge)
        self.tell("payment_intent.payment_failed", intent)
        raise No(402, kind="card_error", payment_intent=intent, **told)

    def _charge(self, intent: Thing) -> Thing:
        charge = self._new_charge(intent, status="succeeded", paid=True)
        self.tell("charge.succeeded", charge)
        if intent["capture_method"] == "manual":
            intent |= {"status": "requires_capture", "amount_capturable": intent["amount"]}
            self.tell("payment_intent.amount_capturable_updated", intent)
            return intent
        return self._take(intent, charge, intent["amount"])

    def _new_charge(self, intent: Thing, **more: Any) -> Thing:
        charge = self.charges.keep(
            {
                "id": _new("ch"),
                "object": "charge",
                "amount": intent["amount"],
                "amount_captured": 0,
                "amount_refunded": 0,
                "captured": False,
                "created": int(time()),
                "currency": intent["currency"],
                "disputed": False,
                "failure_code": None,
                "failure_message": None,
                "livemode": False,
                "metadata": dict(intent["metadata"]),
                "payment_intent": intent["id"],
                "payment_method": intent["payment_method"],
                "refunded": False,
                **more,
            }
        )
        intent["latest_charge"] = charge["id"]
        return charge

    def capture(self, id: str, given: Mapping[str, Any]) -> Thing:
        """Take what was set aside, or a part of it; the rest is let go of, and is no refund (since 2025-03-31)."""
        _known(given, {"amount_to_capture", "metadata", "expand"})
        intent = self.intents.find(id, "payment_intent")
        if intent["status"] != "requires_capture":
            raise _unexpected(intent, "capture")
        held = intent["amount_capturable"]
        amount = _amount(given, "amount_to_capture", 1, held) if "amount_to_capture" in given else held
        charge = self.charges[intent["latest_charge"]]
        self._take(intent, charge, amount)
        self.tell("charge.captured", charge)
        return intent

    def _take(self, intent: Thing, charge: Thing, amount: int) -> Thing:
        charge |= {"captured": True, "amount_captured": amount}
        intent |= {"status": "succeeded", "amount_capturable": 0, "amount_received": amount}
        self.tell("payment_intent.succeeded", intent)
        if intent["payment_method"] == DISPUTED:
            self.dispute(intent["id"])
        return intent

    def cancel(self, id: str, given: Mapping[str, Any]) -> Thing:
        """Let go of a payment that is not taken yet."""
        _known(given, {"cancellation_reason", "expand"})
        intent = self.intents.find(id, "payment_intent")
        if intent["status"] not in (*OPEN, "requires_capture"):
            raise _unexpected(intent, "cancel")
        intent |= {"status": "canceled", "canceled_at": int(time()), "amount_capturable": 0, "next_action": None}
        intent["cancellation_reason"] = given.get("cancellation_reason")
        self.tell("payment_intent.canceled", intent)
        return intent

    # ---- money back

    def refund(self, given: Mapping[str, Any]) -> Thing:
        """Send back a part of what was taken, or all that is left of it."""
        _known(given, {"payment_intent", "charge", "amount", "metadata", "reason", "expand"})
        charge = self._charge_of(given)
        left = charge["amount_captured"] - self._refunded(charge)
        if left == 0:
            said = f"Charge {charge['id']} has already been refunded."
            raise No(400, said, code="charge_already_refunded")
        amount = _amount(given, "amount", 1, left) if "amount" in given else left
        later = charge["payment_method"] == REFUND_LATER
        refund = self.refunds.keep(
            {
                "id": _new("re"),
                "object": "refund",
                "amount": amount,
                "charge": charge["id"],
                "created": int(time()),
                "currency": charge["currency"],
                "failure_reason": None,
                "metadata": dict(given.get("metadata") or {}),
                "payment_intent": charge["payment_intent"],
                "reason": given.get("reason"),
                "status": "pending" if later else "succeeded",
            }
        )
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
        self.tell("refund.created", refund)
        self.tell("charge.refunded", charge)
        answer = dict(refund)
        if charge["payment_method"] == REFUND_FAILS:
            self.end_refund(refund["id"], works=False)
        return answer

    def end_refund(self, id: str, works: bool = True) -> Thing:
        """A refund comes to its end: the bank has it, or sends it back."""
        refund = self.refunds.find(id, "refund")
        charge = self.charges[refund["charge"]]
        if works:
            refund["status"] = "succeeded"
            self.tell("refund.updated", refund)
            return refund
        refund |= {"status": "failed", "failure_reason": "expired_or_canceled_card"}
        charge["amount_refunded"] -= refund["amount"]
        charge["refunded"] = False
        self.tell("refund.updated", refund)
        self.tell("refund.failed", refund)
        return refund

    def _charge_of(self, given: Mapping[str, Any]) -> Thing:
        id = given.get("charge")
        if given.get("payment_intent"):
            intent = self.intents.find(str(given["payment_intent"]), "payment_intent")
            if intent["status"] != "succeeded":
                said = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
                raise No(400, said, code="payment_intent_unexpected_state")
            id = intent["latest_charge"]
        if not id:
            raise No(400, "One of the following params should be provided: payment_intent or charge.")
        return self.charges.find(str(id), "charge")

    def _refunded(self, charge: Thing) -> int:
        rows = [row for row in self.refunds.values() if row["charge"] == charge["id"] and row["status"] != "failed"]
        return sum(row["amount"] for row in rows)

    def dispute(self, id: str, reason: str = "fraudulent") -> Thing:
        """The payer's bank wants the money back."""
        intent = self.intents.find(id, "payment_intent")
        charge = self.charges[intent["latest_charge"]]
        charge["disputed"] = True
        dispute = self.disputes.keep(
            {
                "id": _new("du"),
                "object": "dispute",
                "amount": charge["amount_captured"],
                "charge": charge["id"],
                "created": int(time()),
                "currency": charge["currency"],
                "payment_intent": id,
                "reason": reason,
                "status": "needs_response",
            }
        )
        self.tell("charge.dispute.created", dispute)
        return dispute

    # ---- looking

    def with_expanded(self, thing: Thing, expand: Iterable[str]) -> Thing:
        """The thing with its charge in place of the charge's id, if that is asked for."""
        known = {"latest_charge": self.charges, "charge": self.charges, "payment_intent": self.intents}
        found = {name: known[name][thing[name]] for name in expand if name in known and thing.get(name)}
        return {**thing, **found}

    def listed(self, kept: Kept, given: Mapping[str, Any], url: str) -> Thing:
        """A page, newest first."""
        wanted = {name: given[name] for name in ("payment_intent", "charge") if name in given}
        rows = [row for row in reversed(kept.values()) if all(row.get(name) == wanted[name] for name in wanted)]
        if given.get("starting_after"):
            ids = [row["id"] for row in rows]
            after = str(given["starting_after"])
            rows = rows[ids.index(after) + 1 :] if after in ids else []
        most = _amount(given, "limit", 1, 100) if "limit" in given else 10
        return {"object": "list", "url": url, "has_more": len(rows) > most, "data": rows[:most]}


def _new(prefix: str) -> str:
    return f"{prefix}_3{secrets.token_hex(11)}"


def _known(given: Mapping[str, Any], names: Iterable[str]) -> None:
    unknown = sorted(set(given) - set(names))
    if unknown:
        said = f"Received unknown parameter: {unknown[0]}"
        raise No(400, said, code="parameter_unknown", param=unknown[0])


def _amount(given: Mapping[str, Any], name: str, least: int, most: int) -> int:
    text = str(given.get(name, ""))
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise No(400, f"Invalid integer: {text}", code="parameter_invalid_integer", param=name)
    number = int(text)
    if number < least:
        raise No(400, f"Amount must be at least {least}", code="amount_too_small", param=name)
    if number > most:
        raise No(400, f"Amount must be no more than {most}", code="amount_too_large", param=name)
    return number


def _unexpected(intent: Thing, what: str) -> No:
    said = f"You cannot {what} this PaymentIntent because it has a status of {intent['status']}."
    return No(400, said, code="payment_intent_unexpected_state", payment_intent=intent)
