"""What staff may read of payments and of the ledger, and whose money it is that came unasked."""

from msingi.kit.db import Page, Paging, Where
from msingi.kit.payments import ledger
from msingi.kit.payments.face import Fact
from msingi.kit.payments.models import FactRow, Meant, facts, payments
from msingi.products.shop.models.orders import Order, orders
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.schemas.payments import BalanceView, KeptPaymentView, UnmatchedView

PRODUCT = "shop"


async def list_payments(page: Paging, where: Where) -> Page[KeptPaymentView]:
    """Payments, the newest first."""
    found = await payments(PRODUCT).page(where, page, sorts=["-created_at"])
    return found.map(KeptPaymentView.of)


async def payment(id: str) -> KeptPaymentView:
    """One. Raises NotFound."""
    return KeptPaymentView.of(await payments(PRODUCT).get(id))


async def balances() -> list[BalanceView]:
    """What stands in each account."""
    return [BalanceView.of(each) for each in await ledger.trial_balance(PRODUCT)]


# ---- money that came unasked


async def whose(fact: Fact) -> str | Meant | None:
    """What somebody paid for who typed an order's number as the account; None if nobody can tell.

    It may be the confirmation of a prompt that we sent, since those name the number too: then it is that prompt's
    payment, which tells one receipt and counts once. Else it is a payment of its own, whatever became of the order: if
    it is paid, cancelled or too dear for that sum, what follows is what always follows then.
    """
    number = rules.number_in(fact.account)
    order = await orders.find({"number": number}) if number else None
    if order is None or fact.currency != order.currency:
        return None
    paid = await payments(PRODUCT).many({"purpose": rules.purpose_of(order.id)}, sort=[("_id", 1)], limit=100)
    return rules.prompted(fact.amount, paid) or meant_for(order)


def meant_for(order: Order) -> Meant:
    """A payment for this order."""
    return Meant(rules.purpose_of(order.id), order.customer_id)


async def list_unmatched(page: Paging) -> Page[UnmatchedView]:
    """Money that is here and nobody's, the newest first."""
    found = await facts(PRODUCT).page(UNMATCHED, page, sorts=["-created_at"])
    return found.map(_unmatched)


UNMATCHED: Where = {"payment_id": None, "reference": "", "fact.kind": "captured"}


def _unmatched(row: FactRow) -> UnmatchedView:
    fact = row.fact
    return UnmatchedView(
        id=row.id,
        created_at=row.created_at,
        provider=row.provider,
        amount=fact["amount"],
        currency=fact["currency"],
        account=fact["account"],
        receipt=fact["receipt"],
        at=fact["at"],
    )
