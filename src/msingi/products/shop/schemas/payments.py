"""Payments and the ledger, as staff see them."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from msingi.kit.db import Form, View


class PaymentWays(View):
    """The names of the providers that take such a sum."""

    ways: list[str]


class KeptRefund(View):
    """Money to go back, and who asked for it."""

    id: str
    amount: int
    reason: str
    state: str
    asked_by: str
    asked_at: datetime
    approved_by: str
    code: str


class KeptPaymentView(View):
    """All that is known of a payment; `odd` is what does not add up, in words. Whoever pays is not told of here."""

    id: str
    created_at: datetime
    updated_at: datetime
    version: int
    purpose: str
    provider: str
    amount: int
    currency: str
    state: str
    authorised: int
    captured: int
    refunded: int
    reference: str | None
    receipt: str | None
    receipts: list[str]
    code: str
    refunds: list[KeptRefund]
    ask_at: datetime | None
    odd: list[str]


class UnmatchedView(View):
    """Money that came unasked and is nobody's yet: what was typed beside it (`account`) names no order of ours."""

    id: str
    created_at: datetime
    provider: str
    amount: int
    currency: str
    account: str
    receipt: str
    at: datetime | None


class Matched(Form):
    """Whose money it is: the order's number."""

    order: Annotated[str, Meta(min_length=1, max_length=40, examples=["MS-4F7K2M9Q"])]


class BalanceView(View):
    """What stands in an account: debits less credits, in minor units."""

    account: str
    currency: str
    amount: int
