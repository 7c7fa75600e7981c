"""What staff may read of payments and of the ledger."""

from msingi.kit.db import Page, Paging, Where
from msingi.kit.payments import ledger
from msingi.kit.payments.models import payments
from msingi.products.shop.schemas.payments import BalanceView, KeptPaymentView

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
