"""Stripe as a provider of payments, spoken to by its own library: cards and what else an account there is open to.

The payer decides in the browser (Stripe.js confirms with the client's secret), so a try that fails is no end: the same
PaymentIntent waits for another card, until it is voided. Whoever gives up an order voids its payment.
"""

import logging
import re
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from datetime import timedelta
from time import time
from typing import Any, TypeVar

import msgspec
import stripe
import structlog
from msgspec import Struct

from msingi.kit import fetch, ids
from msingi.kit.payments import stripe_facts as facts_of
from msingi.kit.payments.face import Asked, BadCallback, Begun, Fact, Kind, Refunding, Refused, Unknown
from msingi.kit.payments.stripe_codes import text_of
from msingi.kit.payments.stripe_facts import PAYMENT, REFUND, Dispute, Event, Intent, Refund, theirs

T = TypeVar("T")
S = TypeVar("S", bound=Struct)
log = structlog.get_logger("stripe")

VERSION = "2026-10-28.endive"  # of the API: what is read here has these shapes, whatever the library was made for
TOLERANCE = 300  # seconds that a callback's time may be off
WITHIN = 20.0  # seconds that a call may take with all its tries
LARGEST_REPLY = 4_000_000  # bytes: a hundred PaymentIntents at once are the most
EARLIER = timedelta(minutes=10)  # by which their clock may be behind ours
MOST_LISTED = 2000  # PaymentIntents looked through for one of ours before their index is asked

stripe.enable_telemetry = False  # how long calls take, and on which machine, is nobody else's matter
logging.getLogger("stripe").setLevel(logging.WARNING)  # below that it writes down what is sent and answered


class Wire(stripe.HTTPClient):
    """Carries the library's requests by kit.fetch: with its deadlines, tries, circuits and kept connections.

    Every POST bears an Idempotency-Key, so trying again does no harm.
    """

    name = "msingi"

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        body = post_data.encode() if post_data else None
        try:
            reply = await fetch.request(
                method.upper(), url, content=body, headers=headers, within=WITHIN, largest=LARGEST_REPLY
            )
        except (fetch.Unreachable, fetch.ReplyTooLarge) as fault:
            raise stripe.APIConnectionError(str(fault)) from fault  # type: ignore[no-untyped-call]
        return reply.body, reply.status, reply.headers


class Stripe:
    """An account at Stripe, or a stand-in of it at another `url`.

    `publishable_key` and `pay_at` go out to the payer's browser: what Stripe.js wants, and, where a stand-in has one,
    the page on which the payer decides.
    """

    name = "stripe"

    def __init__(
        self, key: str, *, url: str = "https://api.stripe.com", publishable_key: str = "", pay_at: str = ""
    ) -> None:
        client = stripe.StripeClient(
            key,
            stripe_version=VERSION,
            base_addresses={"api": url.rstrip("/")},
            http_client=Wire(),
            max_network_retries=0,  # kit.fetch tries again, and waits as long as it is told to
        )
        self.intents, self.refunds, self.disputes = client.v1.payment_intents, client.v1.refunds, client.v1.disputes
        self.publishable_key, self.pay_at = publishable_key, pay_at.rstrip("/")

    def takes(self, amount: int, currency: str) -> bool:
        """Whether it takes such a sum: at most eight digits, and no less than it is worth its while."""
        return facts_of.takes(amount, currency)

    async def begin(self, asked: Asked) -> Begun:
        """Open a PaymentIntent. Who pays is not told: our own letters are the receipt."""
        params: stripe.params.PaymentIntentCreateParams = {
            "amount": _sum(asked.amount, asked.currency),
            "currency": asked.currency.lower(),
            "capture_method": "automatic" if asked.capture else "manual",
            "metadata": {PAYMENT: asked.id},
        }
        if asked.note:
            params["description"] = asked.note
        made = await _done(self.intents.create_async(params, {"idempotency_key": asked.id}), Intent)
        return Begun(reference=made.id, action=self._action(made), facts=facts_of.of_intent(made))

    def _action(self, intent: Intent) -> dict[str, str]:
        secret = intent.client_secret or ""
        said = {"kind": "confirm", "client_secret": secret, "publishable_key": self.publishable_key}
        said["url"] = f"{self.pay_at}/{secret}" if self.pay_at else ""
        return {name: value for name, value in said.items() if value}

    async def ask(self, reference: str) -> Sequence[Fact]:
        """What became of a PaymentIntent, its refunds and disputes. Raises Refused if there is none of that id."""
        asking = self.intents.retrieve_async(reference, {"expand": ["latest_charge"]})
        intent = await _done(asking, Intent, reading=True)
        facts = facts_of.of_intent(intent)
        if intent.status == "succeeded":
            facts += [fact for refund in await self._refunds(reference) for fact in facts_of.of_refund(refund)]
        if isinstance(intent.latest_charge, facts_of.Charge) and intent.latest_charge.disputed:
            disputes = await _all(self.disputes.list_async({"payment_intent": reference, "limit": 100}), Dispute)
            facts += [fact for dispute in disputes for fact in facts_of.of_dispute(dispute)]
        return facts

    async def _refunds(self, reference: str) -> list[Refund]:
        return await _all(self.refunds.list_async({"payment_intent": reference, "limit": 100}), Refund)

    async def find(self, id: str) -> str | None:
        """The PaymentIntent that bears our id.

        The list shows what is there at once, their index up to an hour later: so the list is looked through as far back
        as our id is old, and the index is asked only where that is too far.
        """
        since = _made_at(id)
        page = await _told(self.intents.list_async({"limit": 100}), reading=True)
        looked = 0
        while True:
            for intent in _read(page, Listed).data:
                if intent.metadata.get(PAYMENT) == id:
                    return intent.id
                if intent.created < since:
                    return None
                looked += 1
            if not page.has_more:
                return None
            if looked >= MOST_LISTED:
                return await self._search(id)
            page = await _told(page.next_page_async(), reading=True)

    async def _search(self, id: str) -> str | None:
        quoted = id.replace("\\", "\\\\").replace("'", "\\'")
        asking = self.intents.search_async({"query": f"metadata['{PAYMENT}']:'{quoted}'", "limit": 1})
        try:
            found = _read(await _told(asking, reading=True), Listed).data
        except Refused as no:  # accounts of some countries have no index
            raise Unknown("it is too long ago to be looked for") from no
        return found[0].id if found else None

    async def capture(self, reference: str, amount: int, currency: str) -> Sequence[Fact]:
        """Take so much of what was set aside; the rest is free again."""
        asking = self.intents.capture_async(
            reference,
            {"amount_to_capture": _sum(amount, currency)},
            {"idempotency_key": f"{reference}.capture.{amount}"},
        )
        return await self._moved(reference, "captured", asking)

    async def void(self, reference: str) -> Sequence[Fact]:
        """Let go of it: nobody can pay it any more. Refused once it is captured."""
        asking = self.intents.cancel_async(reference, {}, {"idempotency_key": f"{reference}.void"})
        return await self._moved(reference, "voided", asking)

    async def _moved(self, reference: str, wanted: Kind, asking: Coroutine[Any, Any, Any]) -> Sequence[Fact]:
        """The facts after a move; one that is refused because it was made before is no refusal."""
        try:
            return facts_of.of_intent(await _done(asking, Intent))
        except Refused:
            facts = await self.ask(reference)
            if any(fact.kind == wanted for fact in facts):
                return facts
            raise

    async def refund(self, refunding: Refunding) -> Sequence[Fact]:
        """Send money back, once for each id: Stripe forgets keys after a day, so its refunds are looked through first.

        No facts mean that it is on its way.
        """
        for refund in await self._refunds(refunding.reference):
            if (refund.metadata or {}).get(REFUND) == refunding.id:
                return facts_of.of_refund(refund)
        params: stripe.params.RefundCreateParams = {
            "payment_intent": refunding.reference,
            "amount": _sum(refunding.amount, refunding.currency),
            "metadata": {REFUND: refunding.id, "reason": refunding.reason[:500]},
        }
        made = await _done(self.refunds.create_async(params, {"idempotency_key": refunding.id}), Refund)
        return facts_of.of_refund(made)

    def hear(self, headers: Mapping[str, str], body: bytes, secret: str) -> Sequence[Fact]:
        """The facts of a callback that Stripe signed, at most five minutes ago or ahead.

        `secret` may be several, with spaces or commas between: while one is changed for another, both are good.
        """
        signature = next((value for name, value in headers.items() if name.lower() == "stripe-signature"), "")
        if not any(_signed(body, signature, each) for each in re.split(r"[\s,]+", secret) if each):
            raise BadCallback(reason="its signature is not Stripe's")
        try:
            event = msgspec.json.decode(body, type=Event)
            return facts_of.of_event(event)
        except msgspec.MsgspecError as fault:
            raise BadCallback(reason=str(fault)) from None


class Listed(Struct):
    """A page of PaymentIntents."""

    data: list[Intent]


def _sum(amount: int, currency: str) -> int:
    told = theirs(amount, currency)
    if told is None:
        raise Refused(reason=text_of("invalid_amount"), why="invalid_amount")
    return told


def _made_at(id: str) -> float:
    """Before this there is nothing of that id, in seconds since 1970."""
    try:
        return (ids.time_of(id) - EARLIER).timestamp()
    except ValueError:
        return 0


def _signed(body: bytes, signature: str, secret: str) -> bool:
    """Whether this was signed with that secret. The library compares in constant time, and looks only for old ones."""
    try:
        stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE)
    except (stripe.SignatureVerificationError, UnicodeDecodeError):
        return False
    signed_at = re.search(r"(?:^|,)t=(\d{1,12})(?:,|$)", signature)
    return signed_at is not None and int(signed_at[1]) <= time() + TOLERANCE


# ---- answers


async def _done(asking: Awaitable[Any], kind: type[S], *, reading: bool = False) -> S:
    return _read(await _told(asking, reading=reading), kind)


async def _all(asking: Awaitable[Any], kind: type[S]) -> list[S]:
    """All rows of a list, page after page."""

    async def rows() -> list[Any]:
        return [row async for row in (await asking).auto_paging_iter()]

    return [_read(row, kind) for row in await _told(rows(), reading=True)]


def _read(answer: Any, kind: type[S]) -> S:
    try:
        return msgspec.convert(answer.to_dict(), kind)
    except msgspec.ValidationError as fault:
        raise Unknown(f"an answer that is none: {fault}") from fault


async def _told(asking: Awaitable[T], *, reading: bool = False) -> T:
    """The answer; else Refused where it is certain that nothing was done, and Unknown where it is not.

    Their idempotency layer's own refusals are Unknown: something was begun under that key.
    """
    try:
        return await asking
    except (stripe.CardError, stripe.InvalidRequestError) as no:
        code = _code(no)
        log.info("stripe_refused", code=code, message=no.user_message, request=no.request_id)
        raise Refused(reason=text_of(code), why=code) from no
    except (stripe.AuthenticationError, stripe.PermissionError) as no:
        log.error("stripe_does_not_know_us", status=no.http_status, request=no.request_id)
        if reading:
            raise Unknown("it does not let us ask") from no
        raise Refused(reason=text_of("not_set_up"), why="not_set_up") from no
    except stripe.StripeError as fault:
        kind = type(fault).__name__
        log.warning("stripe_gave_no_answer", kind=kind, status=fault.http_status, code=fault.code)
        raise Unknown(f"{kind} {fault.http_status or ''}".strip()) from fault


def _code(no: stripe.StripeError) -> str:
    """The nearest reason there is: the bank's, else Stripe's."""
    said = no.error
    return str(getattr(said, "decline_code", None) or no.code or "refused")
