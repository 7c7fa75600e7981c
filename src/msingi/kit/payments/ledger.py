"""A double-entry ledger: what is posted adds up to nothing, is posted once, and is never changed.

Accounts are names. The kit itself posts to two of them: `provider:<name>` is money that a provider holds for us, and
`receivable:<purpose>` what a payer owes for that purpose. What an order earns, taxes and takes back is posted by its
product, against the same receivable, which is at nothing when all is paid.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, TypeVar

from msgspec import Struct, structs

from msingi.kit.clock import now
from msingi.kit.db import Collection, Row, is_storable
from msingi.kit.drift import Drift
from msingi.kit.errors import Conflict, Invalid
from msingi.kit.payments import models, truth
from msingi.kit.payments.models import Line, Payment, Posting
from msingi.kit.unit import atomic

T = TypeVar("T")
AT_ONCE = 200  # documents that a verification looks at together
OF_PAYMENTS = "payment."  # how the ids of postings begin that come of payments


class Unbalanced(Invalid):
    """The lines of a posting add up to nothing; those of {id} add up to {total}."""


class PostingClash(Conflict):
    """{id} is posted already, with other lines: {there}. What was to be posted now: {now}."""


class Balance(Struct, frozen=True):
    """What stands in an account: debits less credits, in minor units."""

    account: str
    currency: str
    amount: int


# ---- posting


@atomic
async def post(product: str, id: str, currency: str, lines: Iterable[Line], purpose: str, note: str = "") -> Posting:
    """Post lines once: whoever posts the same under the same id again finds it done.

    Lines of one account are added up, and those of nothing left out. Raises Unbalanced, PostingClash.
    """
    posting = Posting(id=id, currency=currency, lines=_added_up(lines), purpose=purpose, note=note)
    total = sum(line.amount for line in posting.lines)
    if total or not all(is_storable(line.amount) for line in posting.lines):
        raise Unbalanced(id=id, total=total)
    there = await models.postings(product).find({"_id": id})
    if there is None:
        return await models.postings(product).add(posting)
    if (there.currency, there.lines) != (posting.currency, posting.lines):
        raise PostingClash(id=id, there=_said(there), now=_said(posting))
    return there


@atomic
async def post_payment(product: str, payment: Payment) -> None:
    """Post what moved of a payment, as far as that is not done: for a product's reaction to its payments."""
    for posting in posted_of(payment):
        await post(product, posting.id, posting.currency, posting.lines, posting.purpose, posting.note)


def posted_of(payment: Payment) -> list[Posting]:
    """The postings of a payment: one for each time that money was told to have moved, the same each time."""
    return [
        Posting(
            id=f"{OF_PAYMENTS}{payment.id}.{number}",
            currency=payment.currency,
            lines=_added_up(
                [
                    Line(held_by(payment.provider), amount),
                    Line(receivable(payment.purpose), -amount),
                ]
            ),
            purpose=payment.purpose,
            note=moved.kind,
        )
        for number, moved in enumerate(payment.movements, start=1)
        for amount in [moved.amount if moved.kind == "captured" else -moved.amount]
    ]


def held_by(provider: str) -> str:
    """The account of the money that a provider holds for us."""
    return f"provider:{provider}"


def receivable(purpose: str) -> str:
    """The account of what is owed to us for a purpose."""
    return f"receivable:{purpose}"


def _added_up(lines: Iterable[Line]) -> list[Line]:
    totals: Counter[str] = Counter()
    for line in lines:
        totals[line.account] += line.amount
    return [Line(account, totals[account]) for account in sorted(totals) if totals[account]]


def _said(posting: Posting) -> str:
    return ", ".join(f"{line.account} {line.amount} {posting.currency}" for line in posting.lines) or "nothing"


# ---- reading


async def balance(product: str, account: str, currency: str) -> int:
    """What stands in an account: debits less credits, in minor units."""
    where = {"lines.account": account, "currency": currency}
    found = await _balances(product, where, {"lines.account": account})
    return found[0].amount if found else 0


async def trial_balance(product: str, currency: str | None = None) -> list[Balance]:
    """All accounts, by currency and name. In each currency they add up to nothing."""
    return await _balances(product, {"currency": currency} if currency else {}, {})


async def _balances(product: str, where: Row, also: Row) -> list[Balance]:
    return await models.postings(product).aggregate(
        [
            {"$match": where},
            {"$unwind": "$lines"},
            {"$match": also},
            {
                "$group": {
                    "_id": {"account": "$lines.account", "currency": "$currency"},
                    "amount": {"$sum": "$lines.amount"},
                }
            },
            {"$project": {"_id": 0, "account": "$_id.account", "currency": "$_id.currency", "amount": 1}},
            {"$sort": {"currency": 1, "account": 1}},
        ],
        Balance,
    )


# ---- verifying


async def verify(product: str) -> list[Drift]:
    """Derive it all again, from facts to payments to postings, and name what differs.

    On a running system a payment whose event is still on its way shows as a posting that is missing: look again.
    """
    found = [drift async for drift in _uneven(product)]
    async for payments in _batches(models.payments(product), {}):
        for payment in payments:
            found += await _not_as_told(product, payment)
        found += await _not_posted(product, payments)
    async for postings in _batches(models.postings(product), {"_id": {"$gte": OF_PAYMENTS, "$lt": "payment/"}}):
        found += await _of_nothing(product, postings)
    return found


async def _uneven(product: str) -> AsyncIterator[Drift]:
    """Postings that do not add up to nothing."""
    total = {"total": {"$sum": "$lines.amount"}}
    rows = await models.postings(product).raw.aggregate([{"$project": total}, {"$match": {"total": {"$ne": 0}}}])
    async for row in rows:
        yield Drift("posting adds up to nothing", row["_id"], 0, row["total"])


async def _not_as_told(product: str, payment: Payment) -> list[Drift]:
    """A payment that is not what its facts make it, or that contradicts itself."""
    named: list[Row] = [{"payment_id": payment.id}]
    if payment.reference:  # without one it would be all money that is nobody's yet
        named.append({"provider": payment.provider, "reference": payment.reference})
    rows = await models.facts(product).many({"$or": named})
    about = [row for row in rows if row.payment_id in (None, payment.id)]
    known = truth.told_by(structs.replace(payment, captured=0, refunded=0, movements=[]), truth.said_in(about), now())
    moved = Counter({each.kind: 0 for each in payment.movements})
    for each in payment.movements:
        moved[each.kind] += each.amount
    pairs = {
        "payment has its state by its facts": (known.state, payment.state),
        "payment has captured by its facts": (known.captured, payment.captured),
        "payment has refunded by its facts": (known.refunded, payment.refunded),
        "payment captured what moved": (moved["captured"], payment.captured),
        "payment refunded what moved": (moved["refunded"], payment.refunded),
        "refunds fit into what was captured": (True, truth.live(payment.refunds) <= payment.captured),
        "payment has applied its facts": (sorted(row.fact["id"] for row in about), sorted(payment.facts)),
    }
    return [Drift(what, payment.id, expected, found) for what, (expected, found) in pairs.items() if expected != found]


async def _not_posted(product: str, payments: Sequence[Payment]) -> list[Drift]:
    """What moved, and is not in the ledger, or differently."""
    wanted = {posting.id: posting for payment in payments for posting in posted_of(payment)}
    there = {each.id: each async for each in models.postings(product).each({"_id": {"$in": [*wanted]}})}
    return [
        Drift("payment is in the ledger", id, _said(posting), _said(there[id]) if id in there else None)
        for id, posting in wanted.items()
        if id not in there or _said(there[id]) != _said(posting)
    ]


async def _of_nothing(product: str, postings: Sequence[Posting]) -> list[Drift]:
    """Postings that say they are of a payment, which knows nothing of them."""
    ids = {posting.id.removeprefix(OF_PAYMENTS).rpartition(".")[0] for posting in postings}
    known = {
        posting.id
        async for payment in models.payments(product).each({"_id": {"$in": [*ids]}})
        for posting in posted_of(payment)
    }
    return [Drift("posting is of a payment", each.id, None, _said(each)) for each in postings if each.id not in known]


async def _batches(kept: Collection[Any], where: Row) -> AsyncIterator[list[Any]]:
    batch = []
    async for each in kept.each(where, sort=[("_id", 1)]):
        batch.append(each)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
