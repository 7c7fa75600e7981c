"""Asking providers, and what it means when they are silent: who asks, when again, and who is left alone for a while."""

import time
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

import httpx
import structlog

from msingi.kit import fetch, observe, state, unit
from msingi.kit.clock import now
from msingi.kit.db import Row
from msingi.kit.errors import Stale
from msingi.kit.payments import truth
from msingi.kit.payments.books import FIRST, TRIES, Books
from msingi.kit.payments.face import Fact, Provider, ProviderSilent, Refused, Unknown
from msingi.kit.payments.models import Payment
from msingi.kit.payments.problems import NoSuchProvider

T = TypeVar("T")
log = structlog.get_logger("payments")

PAUSES = (10, 30, 60, 120, 240, 480, 600)  # seconds until it is asked again, the last one from then on
LEASE = timedelta(seconds=60)  # nobody else asks while one does
PATIENCE = timedelta(days=1)  # then it is shown as odd, and asked once in SELDOM
SELDOM = timedelta(hours=1)
AT_LAST = timedelta(days=30)  # then it is not asked any more; that too is shown
# What leaves open whether a provider did it.
UNANSWERED = (Unknown, fetch.Unreachable, fetch.ReplyTooLarge, httpx.TransportError, TimeoutError, OSError)


class Circuits:
    """Per provider, whether it answers: as this process sees it."""

    def __init__(self) -> None:
        self.by_name: dict[str, fetch.Circuit] = {}

    def start_over(self) -> None:
        """For tests: every provider is trusted again."""
        self.by_name.clear()

    def of(self, provider: str) -> fetch.Circuit:
        """The health of one."""
        return self.by_name.setdefault(provider, fetch.Circuit())


class Asking:
    """Whom a till asks, and how it keeps at it."""

    def __init__(self, books: Books, providers: Mapping[str, Provider]) -> None:
        self.books, self.providers = books, providers

    # ---- one question

    def provider(self, name: str) -> Provider:
        """The provider of a name. Raises NoSuchProvider."""
        found = self.providers.get(name)
        if found is None:
            raise NoSuchProvider(provider=name)
        return found

    async def answer(self, provider: str, question: Awaitable[T]) -> T:
        """The provider's answer; what it leaves open counts against it."""
        circuit = state.part(Circuits).of(provider)
        try:
            answer = await question
        except UNANSWERED:
            circuit.failed()
            observe.count("payment_provider_silent", provider=provider)
            raise
        except Refused:
            circuit.succeeded()
            raise
        circuit.succeeded()
        return answer

    def check_circuit(self, provider: str) -> None:
        """Raise ProviderSilent while it is left alone."""
        if not self.answers(provider):
            raise ProviderSilent(provider=provider, retry_after=5)

    def rests(self, provider: str) -> bool:
        """Whether its circuit is open; looking does not take the place of the one call that may try it."""
        circuit = state.part(Circuits).of(provider)
        return circuit.failures >= fetch.FAILURES and time.monotonic() < circuit.until

    def answers(self, provider: str) -> bool:
        """Whether it may be asked now. While it is tried again, one caller hears yes."""
        try:
            state.part(Circuits).of(provider).check(provider)
        except fetch.Unreachable:
            return False
        return True

    # ---- about one payment

    async def ask(self, payment: Payment) -> Payment:
        """Have the provider say what it knows of it. Raises what leaves it open."""
        teller = self.provider(payment.provider)
        if payment.reference is None:
            found = await self._found(payment)
            if found is None:
                return await self._suspect(payment)
            payment = await self.books.settle(payment.id, found)
        facts = await self.answer(payment.provider, teller.ask(payment.reference or ""))
        await self.books.keep_facts(payment.provider, facts, payment.id)
        if payment.in_doubt:
            await self._clear(payment)
        return await self.books.settle(payment.id)

    async def _found(self, payment: Payment) -> str | None:
        """Its name at the provider. A provider that cannot be asked by our id is silent here, which is no fault."""
        try:
            return await self.provider(payment.provider).find(payment.id)
        except UNANSWERED:
            return None

    async def _suspect(self, payment: Payment) -> Payment:
        """It was kept, and the provider knows nothing of it yet: whether it was asked for is not known either."""
        if payment.in_doubt:
            return payment
        await self._note_in_doubt(payment.id)
        return await self.books.settle(payment.id)

    @unit.repeatable
    async def _note_in_doubt(self, payment_id: str) -> None:
        with suppress(Stale):  # its name became known meanwhile
            await self.books.kept.change(payment_id, {"$set": {"in_doubt": True}}, when={"reference": None})

    @unit.repeatable
    async def _clear(self, payment: Payment) -> None:
        """The provider has answered since. A doubt that came up meanwhile stays."""
        with suppress(Stale):
            await self.books.kept.change(payment.id, {"$set": {"in_doubt": False}}, when={"asked": payment.asked})

    async def doubt(self, payment: Payment, silence: BaseException) -> Payment:
        """Nobody knows what became of what was asked; facts will tell, or the provider when it is asked again."""
        log.warning("payment_unknown", payment=payment.id, provider=payment.provider, why=repr(silence)[:200])
        await self._note_doubt(payment)
        return await self.books.settle(payment.id)

    @unit.repeatable
    async def _note_doubt(self, payment: Payment) -> None:
        since = {"$ifNull": ["$asking_since", now()]}
        to = {"in_doubt": True, "asked": 0, "ask_at": now() + FIRST, "asking_since": since}
        with suppress(Stale):  # its name became known: another was heard of it
            await self.books.change(payment.id, to, {"reference": payment.reference})

    async def refused(self, payment: Payment, refusal: Refused, refund: str = "") -> Payment:
        """A refusal is a fact too, kept like all others: of a refund, or of the payment itself."""
        fact = Fact(
            id=f"{refund or payment.id}.refused",
            reference=payment.reference or payment.id,
            kind="refund_failed" if refund else "failed",
            refund=refund,
            code=str(refusal.details.get("why", "refused"))[:100],
            at=now(),
        )
        await self.books.keep_facts(payment.provider, [fact], payment.id)
        return await self.books.settle(payment.id)

    # ---- by one at a time

    @unit.repeatable
    async def claim(self, payment: Payment) -> Payment | None:
        """Be the one who asks about it now. The lease ends by itself if this process does."""
        at = now()
        to = {"$set": {"ask_at": at + LEASE, "leased_until": at + LEASE, "asked_at": at}, "$inc": {"asked": 1}}
        free = {"$or": [{"leased_until": None}, {"leased_until": {"$lte": at}}]}
        try:
            return await self.books.kept.change(payment.id, to, when={"asked": payment.asked, **free})
        except Stale:
            return None

    async def plan_next(self, claimed: Payment) -> Payment:
        """Note when to ask again about a payment that was claimed, unless that is noted by now; the lease is over."""
        payment = await self.books.kept.get(claimed.id)
        if payment.ask_at != claimed.ask_at:
            return await self._at(claimed, payment, payment.ask_at, payment.odd)
        age = now() - (payment.asking_since or payment.created_at)
        pause = timedelta(seconds=PAUSES[min(payment.asked, len(PAUSES) - 1)])
        if age < PATIENCE:
            return await self._at(claimed, payment, now() + pause, payment.odd)
        waits_for_us = payment.state == "authorised" and not payment.wanted
        since = f"{truth.SILENCE} asked since {payment.asking_since or payment.created_at:%Y-%m-%d %H:%M}"
        if age > AT_LAST:
            return await self._at(claimed, payment, None, [*payment.odd, f"{since}, and not any more"])
        odd = payment.odd if waits_for_us or since in payment.odd else [*payment.odd, since]
        return await self._at(claimed, payment, now() + SELDOM, odd)

    async def _at(self, claimed: Payment, payment: Payment, when: datetime | None, odd: list[str]) -> Payment:
        for _ in range(TRIES):
            try:
                return await self._note_plan(claimed, payment, when, odd)
            except Stale:  # it changed meanwhile: then it was planned with that, or by another who has claimed it
                payment = await self.books.kept.get(payment.id)
                if payment.leased_until != claimed.leased_until:
                    break
                when, odd = payment.ask_at, payment.odd
        return payment

    @unit.repeatable
    async def _note_plan(self, claimed: Payment, payment: Payment, when: datetime | None, odd: list[str]) -> Payment:
        mine = {"ask_at": payment.ask_at, "leased_until": claimed.leased_until}
        if odd == payment.odd:
            to = {"$set": {"ask_at": when, "leased_until": None}}
            return await self.books.kept.change(payment.id, to, when=mine)
        log.warning("payment_odd", payment=payment.id, odd=odd)
        observe.count("payments_odd", provider=payment.provider)
        stages: Row = {"ask_at": when, "leased_until": None, "odd": {"$literal": sorted(odd)}}
        return await self.books.change(payment.id, stages, {"version": payment.version, **mine})


def due_at(when: datetime) -> Row:
    """What makes it due then, the first time of a new asking."""
    return {"ask_at": when, "asked": 0, "asking_since": now()}
