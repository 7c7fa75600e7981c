"""What is wanted of money that was set aside, to take it or to let it go: kept first, then asked for until it is so."""

from contextlib import suppress

from msingi.kit import unit
from msingi.kit.clock import now
from msingi.kit.db import Where
from msingi.kit.errors import Stale
from msingi.kit.payments import truth
from msingi.kit.payments.asking import LEASE, Asking, due_at
from msingi.kit.payments.books import Books
from msingi.kit.payments.face import Refused
from msingi.kit.payments.models import Payment
from msingi.kit.payments.problems import CannotCapture, CannotVoid


class Wishes:
    """Captures and voids of a till."""

    def __init__(self, books: Books, asking: Asking) -> None:
        self.books, self.asking = books, asking

    @unit.guarded
    async def want_capture(self, payment_id: str, amount: int | None) -> None:
        """Note that so much is to be captured; all, if nothing is said. Raises NotFound, CannotCapture."""
        fits: Where = {"state": "authorised", "wanted": ""}
        if amount is not None:
            fits["$expr"] = {"$and": [amount > 0, {"$gte": ["$authorised", amount]}]}
        to = {"wanted": "capture", "to_capture": amount or "$authorised", **due_at(now() + LEASE)}
        try:
            await self.books.change(payment_id, to, fits)
        except Stale:
            there = await self.books.kept.get(payment_id)
            if there.wanted != "capture" or amount not in (None, there.to_capture):
                raise CannotCapture(state=there.state, authorised=there.authorised) from None

    @unit.guarded
    async def want_void(self, payment_id: str) -> None:
        """Note that it is to be given up. Raises NotFound, CannotVoid."""
        fits: Where = {"state": {"$in": ["new", "pending", "authorised", "unknown"]}, "wanted": ""}
        try:
            await self.books.change(payment_id, {"wanted": "void", **due_at(now() + LEASE)}, fits)
        except Stale:
            there = await self.books.kept.get(payment_id)
            if there.state != "voided" and (there.wanted != "void" or there.state in truth.OVER):
                raise CannotVoid(state=there.state) from None

    async def pursue(self, payment: Payment) -> Payment:
        """Ask the provider for what is wanted, which it knows again. Raises Refused, and what leaves it open."""
        teller, reference = self.asking.provider(payment.provider), payment.reference or ""
        if payment.wanted == "capture":
            asked = teller.capture(reference, payment.to_capture, payment.currency)
        else:
            asked = teller.void(reference)
        try:
            facts = await self.asking.answer(payment.provider, asked)
        except Refused:
            await self._give_up_wish(payment)
            await self.books.settle(payment.id)
            raise
        await self.books.keep_facts(payment.provider, facts, payment.id)
        return await self.books.settle(payment.id)

    @unit.repeatable
    async def _give_up_wish(self, payment: Payment) -> None:
        with suppress(Stale):
            to = {"wanted": "", "to_capture": 0, "in_doubt": False}
            if payment.wanted == "void":
                to["void_refused"] = True
            await self.books.change(payment.id, to, {"wanted": payment.wanted})
