"""Money that goes back: reserved when it is asked for, let go by another person, and sent once."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog

from msingi.kit import unit
from msingi.kit.clock import now
from msingi.kit.db import Row, plain
from msingi.kit.errors import Invalid, NotFound, Stale
from msingi.kit.ids import new_id
from msingi.kit.payments import truth
from msingi.kit.payments.asking import UNANSWERED, Asking, due_at
from msingi.kit.payments.books import Books
from msingi.kit.payments.face import AnswersForRefunds, Fact, Refunding, Refused
from msingi.kit.payments.models import Payment, Refund
from msingi.kit.payments.problems import AnotherPersonDecides, NotWaiting, RefundTooHigh

log = structlog.get_logger("payments")

KEY_LIVES = timedelta(hours=23)  # as long as every provider knows an idempotency key again


class Refunds:
    """The refunds of a till's payments."""

    def __init__(self, books: Books, asking: Asking) -> None:
        self.books, self.asking = books, asking

    async def ask(self, payment_id: str, amount: int, reason: str, by: str, *, needs_approval: bool) -> Refund:
        """Reserve some of what was captured to go back; `by` is a person's id.

        With `needs_approval` it waits for another person; else `send_refund` sends it, or the next `reconcile`. Raises
        NotFound, RefundTooHigh (409), Invalid.
        """
        if amount <= 0 or not by:
            raise Invalid
        refund = Refund(
            id=new_id(),
            amount=amount,
            reason=reason,
            asked_by=by,
            asked_at=now(),
            state="waiting" if needs_approval else "approved",
        )
        kept = await self._reserve(payment_id, refund)
        log.info("refund_asked", payment=payment_id, refund=kept.id, amount=amount, by=by, waits=needs_approval)
        return kept

    @unit.guarded
    async def _reserve(self, payment_id: str, refund: Refund) -> Refund:
        """One guarded write: what is asked for and all that lives already fit into what was captured."""
        takes = {"$add": [_LIVE, refund.amount]}
        to: Row = {"refunds": {"$concatArrays": ["$refunds", [{"$literal": plain(refund)}]]}}
        if refund.state == "approved":
            to |= due_at(now())
        try:
            await self.books.change(payment_id, to, {"$expr": {"$lte": [takes, "$captured"]}})
        except Stale:
            there = await self.books.kept.get(payment_id)
            raise RefundTooHigh(left=max(0, there.captured - truth.live(there.refunds))) from None
        return refund

    @unit.guarded
    async def decide(self, payment_id: str, refund_id: str, by: str, decision: str) -> Refund:
        """See Till.approve_refund and Till.refuse_refund."""
        waiting: Row = {"id": refund_id, "state": "waiting"}
        if decision == "approved":
            waiting["asked_by"] = {"$ne": by}
        to = _refund_set(refund_id, state=decision, approved_by=by) | (due_at(now()) if decision == "approved" else {})
        try:
            there = await self.books.change(payment_id, to, {"refunds": {"$elemMatch": waiting}})
        except Stale:
            return _decided(_refund(await self.books.kept.get(payment_id), refund_id), by, decision)
        log.info(f"refund_{decision}", payment=payment_id, refund=refund_id, by=by)
        return _refund(there, refund_id)

    async def send(self, payment_id: str, refund_id: str) -> Payment:
        """Have the provider send an approved refund back, or find out what became of it; any number of times.

        It is noted before the provider is asked, under the refund's id, which the provider knows again; so the money
        goes once. Who did not answer is asked what it did before it is asked again, and not asked again at all once it
        may have forgotten the id. Raises NotFound; what was left open is asked about by `reconcile`.
        """
        payment = await self.books.kept.get(payment_id)
        if _refund(payment, refund_id).state not in truth.UNDER_WAY:
            return payment
        claimed = await self.asking.claim(payment)
        if claimed is None:  # somebody else is at it
            return await self.books.kept.get(payment_id)
        try:
            await self.pursue(claimed, refund_id)
        except UNANSWERED as silence:
            log.warning("refund_unknown", payment=payment_id, refund=refund_id, why=repr(silence)[:200])
        return await self.asking.plan_next(claimed)

    async def pursue(self, payment: Payment, refund_id: str) -> Payment:
        """Find out what became of a refund, and send it if it goes once for certain. Raises what leaves it open."""
        refund = _refund(payment, refund_id)
        if payment.reference is None and not payment.captured:
            return payment
        if refund.sent_at is not None:
            payment = await self._ask_of_refund(payment, refund)
            refund = _refund(payment, refund_id)
        if refund.state == "approved" or (refund.state == "unknown" and _is_known_again(refund)):
            return await self._send(payment, refund)
        return payment

    async def _ask_of_refund(self, payment: Payment, refund: Refund) -> Payment:
        teller = self.asking.provider(payment.provider)
        facts: list[Fact] = []
        if payment.reference:  # what came unasked has none
            facts += await self.asking.answer(payment.provider, teller.ask(payment.reference))
        if isinstance(teller, AnswersForRefunds):
            facts += await self.asking.answer(payment.provider, teller.ask_refund(_refunding(payment, refund)))
        await self.books.keep_facts(payment.provider, facts, payment.id)
        return await self.books.settle(payment.id)

    async def _send(self, payment: Payment, refund: Refund) -> Payment:
        teller = self.asking.provider(payment.provider)
        if not await self._note_sending(payment.id, refund):
            return await self.books.kept.get(payment.id)
        try:
            facts = await self.asking.answer(payment.provider, teller.refund(_refunding(payment, refund)))
        except Refused as refusal:
            return await self.asking.refused(payment, refusal, refund.id)
        await self.books.keep_facts(payment.provider, facts, payment.id)
        await self._note_sent(payment.id, refund.id)
        return await self.books.settle(payment.id)

    @unit.repeatable
    async def _note_sending(self, payment_id: str, refund: Refund) -> bool:
        """From now on nobody knows whether it went, until the provider says."""
        to = _refund_set(refund.id, state="unknown", sent_at=refund.sent_at or now())
        same = {"refunds": {"$elemMatch": {"id": refund.id, "state": refund.state}}}
        try:
            await self.books.change(payment_id, to, same)
        except Stale:
            return False
        return True

    @unit.repeatable
    async def _note_sent(self, payment_id: str, refund_id: str) -> None:
        open_still = {"refunds": {"$elemMatch": {"id": refund_id, "state": "unknown"}}}
        with suppress(Stale):
            await self.books.change(payment_id, _refund_set(refund_id, state="sent"), open_still)


_LIVE: Row = {
    "$sum": {
        "$map": {
            "input": {
                "$filter": {"input": "$refunds", "cond": {"$not": [{"$in": ["$$this.state", list(truth.DEAD)]}]}}
            },
            "in": {"$max": ["$$this.amount", "$$this.told"]},
        }
    }
}


def _refund_set(refund_id: str, **to: Any) -> Row:
    """Changes of one refund, as a stage says them."""
    changed = {"$mergeObjects": ["$$this", {"$literal": plain(to)}]}
    return {
        "refunds": {
            "$map": {"input": "$refunds", "in": {"$cond": [{"$eq": ["$$this.id", refund_id]}, changed, "$$this"]}}
        }
    }


def _refund(payment: Payment, refund_id: str) -> Refund:
    found = next((each for each in payment.refunds if each.id == refund_id), None)
    if found is None:
        raise NotFound
    return found


def _decided(refund: Refund, by: str, decision: str) -> Refund:
    """What to say of a refund that could not be decided on as somebody wanted."""
    if refund.approved_by == by and (decision == "refused") == (refund.state == "refused"):
        return refund
    if refund.state != "waiting":
        raise NotWaiting(state=refund.state)
    raise AnotherPersonDecides


def _is_known_again(refund: Refund) -> bool:
    return refund.sent_at is not None and now() - refund.sent_at < KEY_LIVES


def _refunding(payment: Payment, refund: Refund) -> Refunding:
    return Refunding(
        id=refund.id,
        reference=payment.reference or "",
        amount=refund.amount,
        currency=payment.currency,
        receipt=payment.receipt or "",
        phone=payment.phone,
        reason=refund.reason,
    )
