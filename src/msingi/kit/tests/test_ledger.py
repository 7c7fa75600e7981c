import asyncio
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import clock, db, state
from msingi.kit.drift import Drift
from msingi.kit.payments import ledger, models
from msingi.kit.payments.ledger import Balance, post
from msingi.kit.payments.models import Line, Movement, Payment
from msingi.kit.payments.testing import Bank
from msingi.kit.tests import counter
from msingi.kit.unit import atomic

SHOP = counter.PRODUCT
SALE = [Line("receivable:order-1", 1160), Line("sales", -1000), Line("tax:KE.VAT", -160)]


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def prepared(running: state.State) -> None:
    await counter.prepare()


async def paid(till: Any, bank: Bank, id: str, refund: int = 0) -> Payment:
    """A payment that came, and partly went back, and is posted."""
    await counter.opened(till, id=id, purpose=f"counter.{id}")
    await counter.hear(till, bank.pay(id))
    if refund:
        asked = await till.ask_refund(id, refund, "broken", "bob", needs_approval=False)
        await till.send_refund(id, asked.id)
    payment: Payment = await till.kept.get(id)
    await ledger.post_payment(SHOP, payment)
    return payment


async def test_p3_what_is_posted_adds_up_to_nothing() -> None:
    for lines in ([], SALE):
        await post(SHOP, f"sale {len(lines)}", "KES", lines, "order-1")
    for wrong in ([Line("sales", -1)], [*SALE, Line("sales", 1)], [Line("sales", 2**63), Line("tax", -(2**63))]):
        with pytest.raises(ledger.Unbalanced):
            await post(SHOP, "wrong", "KES", wrong, "order-1")
    assert await models.postings(SHOP).count({}) == 2


async def test_p3_the_same_is_posted_once_in_whatever_order_its_lines_are() -> None:
    posted = await asyncio.gather(
        *(post(SHOP, "sale", "KES", SALE[:: 1 if each % 2 else -1], "order-1") for each in range(20))
    )
    assert {each.created_at for each in posted} == {posted[0].created_at}
    assert await models.postings(SHOP).count({}) == 1
    assert await ledger.balance(SHOP, "sales", "KES") == -1000


async def test_p3_other_lines_under_the_same_id_are_refused_and_named() -> None:
    await post(SHOP, "sale", "KES", SALE, "order-1")
    for lines, currency in (([Line("sales", -5), Line("tips", 5)], "KES"), (SALE, "USD")):
        with pytest.raises(ledger.PostingClash) as refused:
            await post(SHOP, "sale", currency, lines, "order-1")
        assert "receivable:order-1 1160 KES, sales -1000 KES, tax:KE.VAT -160 KES" in str(refused.value)
    assert await ledger.balance(SHOP, "sales", "KES") == -1000
    assert await ledger.balance(SHOP, "tips", "KES") == 0


async def test_lines_of_one_account_are_added_up_and_nothing_is_left_out() -> None:
    lines = [Line("a", 5), Line("b", -10), Line("a", 5), Line("c", 7), Line("c", -7)]
    assert (await post(SHOP, "1", "KES", lines, "x")).lines == [Line("a", 10), Line("b", -10)]


async def test_a_posting_is_made_with_what_it_is_about_or_not_at_all() -> None:
    @atomic
    async def sell() -> None:
        await post(SHOP, "sale", "KES", SALE, "order-1")
        raise RuntimeError("the till broke")

    with pytest.raises(RuntimeError, match="the till broke"):
        await sell()
    assert await models.postings(SHOP).count({}) == 0


async def test_balances_are_of_one_account_and_currency_and_add_up_to_nothing() -> None:
    await post(SHOP, "1", "KES", SALE, "order-1")
    await post(SHOP, "2", "KES", [Line("provider:mpesa", 1160), Line("receivable:order-1", -1160)], "order-1")
    await post(SHOP, "3", "USD", [Line("provider:stripe", 999), Line("sales", -999)], "order-2")
    assert await ledger.balance(SHOP, "receivable:order-1", "KES") == 0
    assert await ledger.balance(SHOP, "sales", "USD") == -999
    assert await ledger.trial_balance(SHOP, "USD") == [
        Balance("provider:stripe", "USD", 999),
        Balance("sales", "USD", -999),
    ]
    totals = {"KES": 0, "USD": 0}
    for each in await ledger.trial_balance(SHOP):
        totals[each.currency] += each.amount
    assert totals == {"KES": 0, "USD": 0}


def test_a_payment_is_posted_by_what_moved_and_always_alike() -> None:
    at = clock.now()
    payment = Payment(
        id="p1",
        purpose="order-1",
        provider="mpesa",
        amount=1000,
        currency="KES",
        movements=[Movement("captured", 1000, at), Movement("refunded", 300, at)],
    )
    came, went = ledger.posted_of(payment)
    assert (came.id, came.lines) == ("payment.p1.1", [Line("provider:mpesa", 1000), Line("receivable:order-1", -1000)])
    assert (went.id, went.lines) == ("payment.p1.2", [Line("provider:mpesa", -300), Line("receivable:order-1", 300)])


async def test_p3_a_payment_that_is_posted_many_times_is_in_the_ledger_once() -> None:
    bank = Bank()
    till = counter.till(bank)
    payment = await paid(till, bank, "order-1", refund=300)
    await asyncio.gather(*(ledger.post_payment(SHOP, payment) for _ in range(10)))
    assert await ledger.balance(SHOP, "provider:bank", "KES") == 700 == bank.charged - bank.returned
    assert await ledger.balance(SHOP, "receivable:counter.order-1", "KES") == -700
    assert await ledger.verify(SHOP) == []


async def test_p3_verify_names_each_drift() -> None:
    bank = Bank()
    till = counter.till(bank)
    for number in range(1, 8):
        await paid(till, bank, f"order-{number}", refund=300 if number == 4 else 0)
    assert await ledger.verify(SHOP) == []
    posted, kept = models.postings(SHOP).raw, till.kept.raw
    await posted.update_one({"_id": "payment.order-1.1"}, {"$set": {"lines.0.amount": 999}})
    await posted.delete_one({"_id": "payment.order-2.1"})
    await kept.update_one({"_id": "order-3"}, {"$set": {"captured": 5}})
    await kept.update_one({"_id": "order-4"}, {"$set": {"refunded": 0}})
    await till.inbox.raw.delete_many({"fact.kind": "captured", "payment_id": "order-5"})
    await posted.insert_one(
        db.plain(ledger.posted_of(await till.kept.get("order-6"))[0]) | {"_id": "payment.order-6.9"}
    )
    await kept.delete_one({"_id": "order-7"})
    found = {(each.what, each.id): (each.expected, each.found) for each in await ledger.verify(SHOP)}
    assert found[("posting adds up to nothing", "payment.order-1.1")] == (0, -1)
    assert ("payment is in the ledger", "payment.order-1.1") in found
    assert found[("payment is in the ledger", "payment.order-2.1")][1] is None
    assert found[("payment has captured by its facts", "order-3")] == (1000, 5)
    assert found[("payment captured what moved", "order-3")] == (1000, 5)
    assert found[("payment has refunded by its facts", "order-4")] == (300, 0)
    assert found[("payment has captured by its facts", "order-5")] == (0, 1000)
    assert ("posting is of a payment", "payment.order-6.9") in found
    assert ("posting is of a payment", "payment.order-7.1") in found
    assert {id.split(".")[-1] if "." not in id else id.split(".")[1] for _, id in found} == {
        f"order-{number}" for number in range(1, 8)
    }


async def test_verify_looks_at_more_than_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "AT_ONCE", 2)
    bank = Bank()
    till = counter.till(bank)
    for number in range(5):
        await paid(till, bank, f"order-{number}")
    await models.postings(SHOP).raw.delete_one({"_id": "payment.order-4.1"})
    drifts = await ledger.verify(SHOP)
    assert [(each.what, each.id) for each in drifts] == [("payment is in the ledger", "payment.order-4.1")]
    assert isinstance(drifts[0], Drift)
