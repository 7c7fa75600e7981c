"""The books of a till: payments and what was said of them, and the one way in which the second makes the first.

Everything that is written of a payment is one guarded write, which carries the event that tells of it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec
import structlog
from msgspec import structs

from msingi.kit import observe, unit
from msingi.kit.clock import now
from msingi.kit.db import CARRIED, TOLD, Row, Where, plain
from msingi.kit.errors import AlreadyExists, Busy, Stale
from msingi.kit.events import Event
from msingi.kit.payments import models, truth
from msingi.kit.payments.face import Fact
from msingi.kit.payments.models import FactRow, Meant, Payment
from msingi.kit.payments.problems import NotUnasked, PaymentDiffers

log = structlog.get_logger("payments")
Whose = Callable[[Fact], Awaitable[str | Meant | None]]

FIRST = timedelta(seconds=10)  # until it is asked for the first time what became of something
SETTLING_IN = timedelta(seconds=5)  # an unapplied fact younger than this is being applied by who heard it
UNCLAIMED = timedelta(days=1)  # a fact that named no payment of ours for so long is somebody else's
TRIES = 100  # of a write that others were faster with
# What facts decide of a payment, and what of its asking goes with that.
KNOWN = (
    *("state", "authorised", "captured", "refunded", "receipt", "receipts", "refunds", "facts", "movements", "code"),
    *("odd", "in_doubt", "ask_at", "asked", "asking_since", "reference", "action"),
)


class Books:
    """The payments of one product, and the inbox of what providers said."""

    def __init__(self, product: str, told: Callable[..., Event], whose: Whose | None) -> None:
        self.told, self.whose = told, whose
        self.kept, self.inbox = models.payments(product), models.facts(product)

    # ---- payments

    async def open(self, fresh: Payment) -> Payment:
        """Keep a new payment; if it was kept before, that one. Raises PaymentDiffers."""
        try:
            return await self._keep(fresh)
        except AlreadyExists:  # it was opened twice at the same time
            return _same(await self.kept.get(fresh.id), fresh)

    @unit.guarded
    async def _keep(self, fresh: Payment) -> Payment:
        there = await self.kept.find({"_id": fresh.id})
        if there is None:
            return await self.kept.add(fresh, tells=[self._event(fresh)])
        return _same(there, fresh)

    async def settle(
        self, payment_id: str, reference: str | None = None, action: Mapping[str, str] | None = None
    ) -> Payment:
        """Compute a payment anew from all that was said of it; doing it again changes nothing. Raises NotFound.

        `reference` is the provider's name for it, as it became known: from then on the payment goes by that.
        """
        for _ in range(TRIES):
            payment = await self.kept.get(payment_id)
            named = _with_name(payment, reference, action)
            rows = await self.inbox.many(_about(named))
            known = truth.told_by(named, truth.said_in(rows), now())
            _plan(known)
            try:
                if known != payment:
                    known = await self._become(known, payment.version)
            except Stale:
                continue
            except AlreadyExists as taken:
                if "reference" in taken.details["fields"]:
                    log.error("payment_reference_taken", payment=payment.id, reference=reference)
                    reference = None
                else:
                    await self._pass_over_receipts(payment, rows)
                continue
            await self._applied([row.id for row in rows if row.applied_at is None], payment_id)
            if named.reference == payment.reference:
                return known
            reference = None  # what came under the new name while it was written has not found it: look again
        raise Busy

    @unit.repeatable
    async def _become(self, known: Payment, version: int) -> Payment:
        """Write what became known, if the payment is still the version that it was computed from."""
        to = {name: {"$literal": plain(getattr(known, name))} for name in KNOWN}
        changed = await self.change(known.id, to, {"version": version})
        observe.count("payments_changed", provider=changed.provider, state=changed.state)
        log.info(
            "payment_changed",
            payment=changed.id,
            state=changed.state,
            captured=changed.captured,
            refunded=changed.refunded,
            odd=changed.odd,
        )
        return changed

    async def _pass_over_receipts(self, payment: Payment, rows: Sequence[FactRow]) -> None:
        """A receipt credits one payment: mark the facts here whose receipt is another one's."""
        for row in rows:
            receipt = row.fact.get("receipt")
            if not receipt or row.credits:
                continue
            other = await self.kept.find(
                {"provider": payment.provider, "receipts": receipt, "_id": {"$ne": payment.id}}
            )
            if other is not None:
                log.warning("payment_receipt_twice", payment=payment.id, credits=other.id)
                await self._mark(row.id, other.id)

    @unit.repeatable
    async def _mark(self, row_id: str, credits: str) -> None:
        await self.inbox.change(row_id, {"$set": {"credits": credits}})

    # ---- what was said

    async def keep_facts(self, provider: str, facts: Iterable[Fact], payment_id: str = "") -> list[FactRow]:
        """Keep facts in the inbox, durably, each once; `payment_id` if it is known which payment they are about."""
        rows = []
        for fact in facts:
            owner = payment_id or fact.payment or None
            row = FactRow(
                id=f"{provider}.{fact.id}",
                provider=provider,
                reference=fact.reference,
                fact=plain(fact),
                payment_id=owner,
                has_raw=bool(fact.raw),
            )
            rows.append(await self._keep_fact(row))
        return rows

    async def _keep_fact(self, row: FactRow) -> FactRow:
        """One fact is kept once; what comes again under its id is the same."""
        try:
            kept = await self._add_fact(row)
        except AlreadyExists:
            return await self.inbox.get(row.id)
        observe.count("payment_facts", provider=row.provider, kind=row.fact["kind"])
        log.info("payment_fact_kept", provider=row.provider, fact=row.id, kind=row.fact["kind"])
        return kept

    @unit.repeatable
    async def _add_fact(self, row: FactRow) -> FactRow:
        return await self.inbox.add(row)

    async def apply(self, rows: Sequence[FactRow]) -> list[Payment]:
        """Have facts take effect on the payments that they are about."""
        found: dict[str, str | None] = {}
        for row in rows:
            payment = await self._payment_of(row)
            if payment is None:
                log.info("payment_fact_waits", provider=row.provider, fact=row.id)
            elif row.applied_at is None or row.payment_id != payment.id:
                found[payment.id] = found.get(payment.id) or _named(row, payment)
        return [await self.settle(id, reference) for id, reference in found.items()]

    async def _payment_of(self, row: FactRow) -> Payment | None:
        """By the provider's name for it, by ours, by a receipt that was seen before, or by what the payer wrote."""
        if row.reference:
            there = await self.kept.find({"provider": row.provider, "reference": row.reference})
            if there is not None:
                return there
        ours = row.payment_id or (None if row.reference else await self._guessed(row))
        return await self.kept.find({"_id": ours, "provider": row.provider}) if ours else None

    async def _guessed(self, row: FactRow) -> str | None:
        """Whose money it is that came unasked, if that can be told; it is kept with the fact."""
        receipt = row.fact["receipt"]
        there = await self.kept.find({"provider": row.provider, "receipts": receipt}) if receipt else None
        ours = there.id if there else None
        if ours is None and self.whose is not None:
            found = await self.whose(msgspec.convert(row.fact, Fact))
            ours = (await self._take_in(row, found)).id if isinstance(found, Meant) else found
        if ours is not None:
            await self._assign(row.id, ours)
        return ours

    async def assign(self, fact_row_id: str, to: str | Meant) -> Payment:
        """Say whose money it is that came unasked, as a person found out. Raises NotFound, NotUnasked (409)."""
        row = await self.inbox.get(fact_row_id)
        if not is_unasked(row) or (isinstance(to, Meant) and row.payment_id is not None):
            raise NotUnasked
        if isinstance(to, Meant):
            payment = await self._take_in(row, to)
        else:
            payment = await self.kept.get(to, {"provider": row.provider})
        if row.payment_id not in (None, payment.id):
            raise NotUnasked
        await self._assign(row.id, payment.id)
        return await self.settle(payment.id)

    async def _take_in(self, row: FactRow, meant: Meant) -> Payment:
        """The payment that unasked money is by itself, captured from the start: one insert, which its receipt guards.

        If somebody was faster it is the payment that the receipt credits.
        """
        fact = msgspec.convert(row.fact, Fact)
        fresh = Payment(
            id=f"{row.provider}-{fact.receipt or fact.id}",
            purpose=meant.purpose,
            payer_id=meant.payer_id,
            provider=row.provider,
            amount=fact.amount,
            currency=fact.currency,
        )
        try:
            return await self._keep(truth.told_by(fresh, truth.said_in([row]), now()))
        except AlreadyExists:
            credited = await self.kept.find({"provider": row.provider, "receipts": fact.receipt})
            return credited or await self.kept.get(fresh.id)

    @unit.repeatable
    async def _assign(self, row_id: str, payment_id: str) -> None:
        with suppress(Stale):
            await self.inbox.change(row_id, {"$set": {"payment_id": payment_id}}, when={"payment_id": None})

    @unit.repeatable
    async def _applied(self, ids: Sequence[str], payment_id: str) -> None:
        if ids:
            await self.inbox.change_many(
                {"_id": {"$in": list(ids)}}, {"$set": {"applied_at": now(), "payment_id": payment_id}}
            )

    async def apply_waiting(self, limit: int) -> None:
        """Apply facts that were kept and had no effect yet; what is nobody's for UNCLAIMED is set aside."""
        rows = await self.inbox.many(
            {"applied_at": None, "created_at": {"$lt": now() - SETTLING_IN}}, sort=[("created_at", 1)], limit=limit
        )
        for row in rows:
            if not await self.apply([row]) and row.created_at < now() - UNCLAIMED:
                log.warning("payment_fact_unclaimed", provider=row.provider, fact=row.id)
                await self._set_aside(row.id)

    @unit.repeatable
    async def _set_aside(self, row_id: str) -> None:
        await self.inbox.change(row_id, {"$set": {"applied_at": now()}})

    @unit.repeatable
    async def forget_raw(self, before: datetime) -> int:
        """Empty what facts from before were made of."""
        where: Where = {"created_at": {"$lt": before}, "applied_at": {"$ne": None}, "has_raw": True}
        return await self.inbox.change_many(where, {"$set": {"fact.raw": {}, "has_raw": False}})

    # ---- the write

    async def change(self, payment_id: str, to: Row, when: Where) -> Payment:
        """One write, with the event about it as the payment is after it. Text in `to` wants `$literal`."""
        fits = {"_id": payment_id, **when}  # a miss is Stale also where any version will do
        return await self.kept.change(payment_id, [{"$set": to}, {"$set": self._riding()}], when=fits)

    def _riding(self) -> Row:
        """The event, with what the database knows of the payment at that moment."""
        blank = self.told(payment_id="", purpose="", state="", captured=0, refunded=0).envelope()
        body = {
            **{name: {"$literal": value} for name, value in blank["body"].items()},
            "payment_id": "$_id",
            **{name: f"${name}" for name in ("purpose", "state", "captured", "refunded")},
        }
        envelope = {"_id": blank["_id"], "type": blank["type"], "at": blank["at"], "body": body}
        return {TOLD: blank["_id"], CARRIED: {"$concatArrays": [{"$ifNull": [f"${CARRIED}", []]}, [envelope]]}}

    def _event(self, payment: Payment) -> Event:
        return self.told(
            payment_id=payment.id,
            purpose=payment.purpose,
            state=payment.state,
            captured=payment.captured,
            refunded=payment.refunded,
        )


def is_unasked(row: FactRow) -> bool:
    """Whether a fact tells of money that nobody was asked for."""
    return row.reference == "" and row.fact["kind"] == "captured" and row.fact["amount"] > 0


def _same(there: Payment, fresh: Payment) -> Payment:
    """The payment that is there, if it is of what is asked for now. Raises PaymentDiffers."""
    decides = ("purpose", "provider", "amount", "currency", "capture")
    if any(getattr(there, name) != getattr(fresh, name) for name in decides):
        raise PaymentDiffers
    return there


def _named(row: FactRow, payment: Payment) -> str | None:
    """What a payment without a reference is called, by a fact that names ours."""
    return row.reference if payment.reference is None and row.reference not in ("", payment.id) else None


def _with_name(payment: Payment, reference: str | None, action: Mapping[str, str] | None) -> Payment:
    more = {"action": dict(action)} if action else {}
    if reference and payment.reference == reference and not payment.action and not truth.is_settled(payment):
        return structs.replace(payment, **more)  # its callback was faster than the answer that says how it is paid
    if not reference or payment.reference is not None:
        return payment
    return structs.replace(payment, reference=reference, in_doubt=False, ask_at=now() + FIRST, **more)


def _about(payment: Payment) -> Where:
    """The facts of a payment: told under its reference, or under our id for it."""
    named: list[Where] = [{"payment_id": payment.id, "provider": payment.provider}]
    if payment.reference:
        named.append({"provider": payment.provider, "reference": payment.reference})
    return {"$or": named}


def _plan(known: Payment) -> None:
    """Nobody is asked about what is settled; what is open again is asked about soon."""
    if truth.is_settled(known):
        known.ask_at, known.asking_since, known.asked = None, None, 0
    elif known.ask_at is None and not any(each.startswith(truth.SILENCE) for each in known.odd):
        known.ask_at, known.asking_since = now() + FIRST, known.asking_since or now()
