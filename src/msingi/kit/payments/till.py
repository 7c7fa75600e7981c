"""The till: payments of a product, with whichever provider, that end in one truth.

Three laws. What is to happen is kept before a provider is asked for it, under an id that is the provider's idempotency
key. Whatever a provider says is kept in the inbox before anything follows from it. Who does not answer is asked until
it is known what became of it: nothing is guessed, and nothing is given up in silence.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import bson
import structlog
from bson.errors import BSONError

from msingi.kit.clock import now
from msingi.kit.db import Collection, Where, plain
from msingi.kit.errors import Busy, Problem
from msingi.kit.events import Event
from msingi.kit.ids import new_id
from msingi.kit.payments import truth
from msingi.kit.payments.asking import LEASE, UNANSWERED, Asking, Circuits
from msingi.kit.payments.books import Books, Whose
from msingi.kit.payments.face import Asked, BadCallback, Fact, Provider, Refused
from msingi.kit.payments.models import FactRow, Meant, Payment, Refund
from msingi.kit.payments.problems import (
    AnotherPersonDecides,
    CannotCapture,
    CannotVoid,
    NoSuchProvider,
    NotUnasked,
    NotWaiting,
    PaymentDiffers,
    RefundTooHigh,
    SumNotTaken,
)
from msingi.kit.payments.refunds import Refunds
from msingi.kit.payments.wishes import Wishes

__all__ = [
    "AnotherPersonDecides",
    "CannotCapture",
    "CannotVoid",
    "Circuits",
    "Meant",
    "NoSuchProvider",
    "NotUnasked",
    "NotWaiting",
    "PaymentDiffers",
    "RefundTooHigh",
    "SumNotTaken",
    "Till",
]
log = structlog.get_logger("payments")

LOOKS = timedelta(seconds=5)  # between two looks at the wish of somebody who waits
AT_ONCE = 8  # questions under way


class Till:
    """The payments of one product. `told` is the event that each change of a payment carries, in the same write.

    The event has the fields payment_id, purpose, state, captured and refunded. `whose` tells of money that
    somebody sent unasked, by what they wrote beside it (`fact.account`), which of our payments it is, or what it is
    meant for: then it becomes a payment of its own. None: nobody knows yet, it waits.
    """

    def __init__(
        self,
        product: str,
        providers: Mapping[str, Provider],
        told: Callable[..., Event],
        whose: Whose | None = None,
    ) -> None:
        self.books = Books(product, told, whose)
        self.asking = Asking(self.books, providers)
        self.wishes = Wishes(self.books, self.asking)
        self.refunds = Refunds(self.books, self.asking)

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Whom it asks, by name."""
        return self.asking.providers

    @property
    def kept(self) -> Collection[Payment]:
        """Its payments, to be read."""
        return self.books.kept

    @property
    def inbox(self) -> Collection[FactRow]:
        """What its providers said, to be read."""
        return self.books.inbox

    # ---- paying

    async def open(
        self,
        *,
        purpose: str,
        provider: str,
        amount: int,
        currency: str,
        payer_id: str | None,
        phone: str = "",
        email: str = "",
        note: str = "",
        capture: bool = True,
        callback: str = "",
        id: str = "",
    ) -> Payment:
        """Keep a payment, then ask the provider for it; returns it as far as it is known.

        Its state tells what became of that: `pending` (see `action`), `failed` (the provider refused, see `code`),
        `unknown` (nobody heard an answer; it will be asked). Opened again under the same id (given here, or remembered
        for a request with an Idempotency-Key) it goes on where it stands. In `callback` the words `{payment_id}` become
        its id. Raises NoSuchProvider, SumNotTaken (422), ProviderSilent (503), PaymentDiffers (409).
        """
        teller = self.asking.provider(provider)
        if amount <= 0 or not teller.takes(amount, currency):
            raise SumNotTaken(provider=provider, amount=amount, currency=currency)
        self.asking.check_circuit(provider)
        at = now()
        fresh = Payment(
            id=id or new_id(),
            purpose=purpose,
            payer_id=payer_id,
            provider=provider,
            amount=amount,
            currency=currency,
            capture=capture,
            phone=phone,
            email=email,
            ask_at=at + LEASE,
            asking_since=at,
        )
        payment = await self.books.open(fresh)
        return await self._begin(
            await self.kept.get(payment.id),
            Asked(
                id=payment.id,
                amount=amount,
                currency=currency,
                note=note,
                phone=phone,
                email=email,
                capture=capture,
                callback=callback.replace("{payment_id}", payment.id),
            ),
            again=payment is not fresh,
        )

    async def _begin(self, payment: Payment, asked: Asked, *, again: bool) -> Payment:
        """Ask the provider, unless it is known that it was asked."""
        if payment.reference or truth.is_over(payment) or payment.wanted == "void":
            return payment
        teller = self.asking.provider(payment.provider)
        try:
            found = await teller.find(asked.id) if again else None
            if found:
                return await self.asking.ask(await self.books.settle(payment.id, found))
            begun = await self.asking.answer(payment.provider, teller.begin(asked))
        except Refused as refusal:
            return await self.asking.refused(payment, refusal)
        except UNANSWERED as silence:
            return await self.asking.doubt(payment, silence)
        await self.books.keep_facts(payment.provider, begun.facts, payment.id)
        return await self.books.settle(payment.id, begun.reference, begun.action)

    # ---- hearing

    async def hear(self, provider: str, headers: Mapping[str, str], body: bytes, secret: str) -> None:
        """Keep what a callback says, then let it have its effect.

        When this returns, what it says is kept durably, and is applied now or by `reconcile`. Raises NoSuchProvider,
        BadCallback.
        """
        teller = self.asking.provider(provider)
        facts = teller.hear(headers, body, secret)
        await self.take(provider, facts)

    async def take(self, provider: str, facts: Sequence[Fact], payment_id: str = "") -> list[Payment]:
        """Keep facts, wherever they come from (a file of the provider's, say), and apply them.

        Returns the payments that they are about. What is of none of ours yet waits for its payment.
        """
        for fact in facts:
            _check(fact)
        rows = await self.books.keep_facts(provider, facts, payment_id)
        try:
            return await self.books.apply(rows)
        except Busy:
            log.warning("payment_facts_wait", provider=provider, facts=[row.id for row in rows])
            return []

    async def assign(self, fact_row_id: str, to: str | Meant) -> Payment:
        """Say whose money it is that came unasked, as a person found out: a payment's id, or what it is meant for.

        Raises NotFound, NotUnasked (409).
        """
        return await self.books.assign(fact_row_id, to)

    # ---- asking

    async def look(self, payment_id: str) -> Payment:
        """The payment, after asking the provider if anything is open; at most once in LOOKS, whoever looks.

        Raises NotFound.
        """
        payment = await self.kept.get(payment_id)
        rested = payment.asked_at is None or payment.asked_at <= now() - LOOKS
        if truth.is_settled(payment) or not rested or not self.asking.answers(payment.provider):
            return payment
        claimed = await self.asking.claim(payment)
        return await self._asked(claimed) if claimed else await self.kept.get(payment_id)

    async def reconcile(self, limit: int = 100) -> int:
        """Apply facts that wait, and ask about payments that are due; returns how many were asked about.

        Several processes may do it at once: each payment is claimed by one.
        """
        await self.books.apply_waiting(limit)
        awake = [name for name in self.providers if not self.asking.rests(name)]
        where: Where = {"ask_at": {"$lte": now()}, "provider": {"$in": awake}}
        due = await self.kept.many(where, sort=[("ask_at", 1)], limit=limit)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(payment: Payment) -> bool:
            async with gate:
                return await self._due(payment)

        return sum(await asyncio.gather(*(one(payment) for payment in due)))

    async def _due(self, payment: Payment) -> bool:
        """Ask about one that is due, unless somebody else does; what goes wrong with it holds up no other."""
        try:
            if not self.asking.answers(payment.provider):
                return False
            claimed = await self.asking.claim(payment)
            if claimed is not None:
                await self._asked(claimed)
        except Exception:
            log.exception("payment_not_reconciled", payment=payment.id, provider=payment.provider)
            return False
        return claimed is not None

    async def _asked(self, claimed: Payment) -> Payment:
        """Ask about a payment that was claimed, do what is wanted of it, and note when to ask again."""
        try:
            payment = await self.asking.ask(claimed)
            payment = await self._pursue(payment)
        except UNANSWERED as silence:
            log.info("payment_provider_silent", payment=claimed.id, provider=claimed.provider, why=repr(silence)[:200])
        except Problem as problem:
            log.warning("payment_not_asked", payment=claimed.id, provider=claimed.provider, why=str(problem)[:200])
        return await self.asking.plan_next(claimed)

    # ---- what is wanted of a payment

    async def capture(self, payment_id: str, amount: int | None = None) -> Payment:
        """Take what was set aside, or a part of it: the wish is kept, then the provider is asked.

        Asked for again it goes on where it stands. If nobody hears an answer the state is `unknown`, and `reconcile`
        goes on. Raises NotFound, CannotCapture, Refused.
        """
        await self.wishes.want_capture(payment_id, amount)
        return await self._now(payment_id)

    async def void(self, payment_id: str) -> Payment:
        """Give a payment up before its money is ours: the wish is kept, then the provider is asked.

        What nobody knows anything of yet is given up as soon as it is found. Asked for again it goes on where it
        stands. Raises NotFound, CannotVoid, Refused.
        """
        await self.wishes.want_void(payment_id)
        return await self._now(payment_id)

    async def _now(self, payment_id: str) -> Payment:
        payment = await self.kept.get(payment_id)
        try:
            return await self._pursue(payment)
        except UNANSWERED as silence:
            return await self.asking.doubt(payment, silence)

    async def _pursue(self, payment: Payment) -> Payment:
        """Do what is wanted of it and not done yet. The provider knows each wish again, however often it is told."""
        if truth.is_wanting(payment) and payment.reference:
            payment = await self.wishes.pursue(payment)
        for refund in payment.refunds:
            if refund.state in truth.UNDER_WAY:
                payment = await self.refunds.pursue(payment, refund.id)
        return payment

    async def ask_refund(self, payment_id: str, amount: int, reason: str, by: str, *, needs_approval: bool) -> Refund:
        """Reserve some of what was captured to go back; `by` is a person's id.

        With `needs_approval` it waits for another person; else `send_refund` sends it, or the next `reconcile`. Raises
        NotFound, RefundTooHigh (409), Invalid.
        """
        return await self.refunds.ask(payment_id, amount, reason, by, needs_approval=needs_approval)

    async def approve_refund(self, payment_id: str, refund_id: str, by: str) -> Refund:
        """Let a refund go that somebody else asked for. Doing it again changes nothing.

        Raises NotFound, AnotherPersonDecides (403), NotWaiting (409).
        """
        return await self.refunds.decide(payment_id, refund_id, by, "approved")

    async def refuse_refund(self, payment_id: str, refund_id: str, by: str) -> Refund:
        """Do not let it go; what it had reserved is free again. Raises NotFound, NotWaiting (409)."""
        return await self.refunds.decide(payment_id, refund_id, by, "refused")

    async def send_refund(self, payment_id: str, refund_id: str) -> Payment:
        """Have the provider send an approved refund back, or find out what became of it; any number of times.

        It is noted before the provider is asked, under the refund's id, which the provider knows again; so the money
        goes once. Who did not answer is asked what it did before it is asked again, and not asked again at all once it
        may have forgotten the id. Raises NotFound; what was left open is asked about by `reconcile`.
        """
        return await self.refunds.send(payment_id, refund_id)

    # ---- housekeeping

    async def settle(self, payment_id: str) -> Payment:
        """Compute a payment anew from all that was said of it; doing it again changes nothing. Raises NotFound."""
        return await self.books.settle(payment_id)

    async def forget_raw(self, older_than: timedelta = timedelta(days=90)) -> int:
        """Empty what old facts were made of (`raw`); what they say stays. Returns how many were emptied."""
        return await self.books.forget_raw(now() - older_than)


def _check(fact: Fact) -> None:
    """Raises BadCallback for what no database can hold."""
    try:
        bson.encode(plain(fact))
    except (BSONError, OverflowError, ValueError):
        raise BadCallback(reason="it holds what cannot be kept") from None
