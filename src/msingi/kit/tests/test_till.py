import asyncio
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from msgspec import structs

from msingi.kit import clock, fetch, state
from msingi.kit.errors import Busy, Forbidden, NotFound
from msingi.kit.payments import ledger, truth
from msingi.kit.payments import till as till_module
from msingi.kit.payments.face import BadCallback, Fact, ProviderSilent, Refunding, Refused, Unknown
from msingi.kit.payments.models import Payment
from msingi.kit.payments.testing import SECRET, Answer, Bank, scripted_http
from msingi.kit.payments.till import Meant, Till
from msingi.kit.tests import counter
from msingi.kit.tests.counter import hear, opened, told

DAY = timedelta(days=1)


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def prepared(running: state.State) -> None:
    await counter.prepare()


def later(seconds: float) -> Any:
    return clock.shifted(timedelta(seconds=seconds))


async def reconciled(till: Till, seconds: float) -> int:
    """How many were asked about, after a while in which nothing else happened."""
    with later(seconds):
        return await till.reconcile()


async def now_of(till: Till, payment: Payment) -> Payment:
    return await till.kept.get(payment.id)


# ---- paying


async def test_a_payment_is_kept_asked_for_and_heard_of() -> None:
    bank = Bank()
    till = counter.till(bank)
    payment = await opened(till)
    assert (payment.state, payment.reference, payment.action) == ("pending", f"ref-{payment.id}", {"kind": "prompt"})
    await hear(till, bank.pay(payment.id))
    paid = await till.look(payment.id)
    assert (paid.state, paid.captured, paid.ask_at, paid.odd) == ("captured", 1000, None, [])
    assert paid.receipt == f"R-{payment.reference}"
    assert await told() == [("new", 0, 0), ("pending", 0, 0), ("captured", 1000, 0)]


async def test_c2_the_payment_is_kept_before_the_provider_is_asked() -> None:
    bank = Bank()
    till = counter.till(bank)
    seen: list[bool] = []

    class Nosy(Bank):
        async def begin(self, asked: Any) -> Any:
            seen.append(await till.kept.exists({"_id": asked.id, "state": "new"}))
            return await super().begin(asked)

    till.asking.providers = {"bank": Nosy()}
    await opened(till)
    assert seen == [True]


async def test_what_a_provider_does_not_take_is_not_kept() -> None:
    till = counter.till(Bank())
    for amount in (0, -5):
        with pytest.raises(till_module.SumNotTaken):
            await opened(till, amount)
    with pytest.raises(till_module.NoSuchProvider):
        await opened(till, provider="shell")
    assert await till.kept.count({}) == 0


async def test_a_refusal_ends_a_payment_with_its_reason() -> None:
    bank = Bank()
    bank.script["begin"].append("refused")
    till = counter.till(bank)
    payment = await opened(till)
    assert (payment.state, payment.code, payment.ask_at) == ("failed", "no", None)
    assert await reconciled(till, 3600) == 0


async def test_opened_again_under_its_id_it_goes_on_where_it_stands() -> None:
    bank = Bank()
    till = counter.till(bank)
    once = await opened(till, id="order-1.1")
    again = await opened(till, id="order-1.1")
    assert again == once
    assert [call for call, _ in bank.calls] == ["begin"]
    with pytest.raises(till_module.PaymentDiffers):
        await opened(till, 999, id="order-1.1")


async def test_p1_opened_many_times_at_once_it_is_asked_for_once() -> None:
    bank = Bank()
    till = counter.till(bank)
    results = await asyncio.gather(*(opened(till, id="order-1.1") for _ in range(20)), return_exceptions=True)
    assert [each for each in results if isinstance(each, BaseException)] == []
    assert len(bank.accounts) == 1
    assert (await till.kept.get("order-1.1")).state == "pending"


async def test_the_callback_names_the_payment() -> None:
    bank = Bank()
    payment = await opened(counter.till(bank), callback="https://shop.test/{payment_id}/told")
    assert bank.accounts[payment.id].asked.callback == f"https://shop.test/{payment.id}/told"


async def test_a_phone_number_is_not_readable_in_the_database() -> None:
    till = counter.till(Bank())
    payment = await opened(till, phone="+254700000001")
    row = await till.kept.raw.find_one({"_id": payment.id})
    assert row is not None
    assert isinstance(row["phone"], bytes)
    assert (await now_of(till, payment)).phone == "+254700000001"


# ---- not knowing


@pytest.mark.parametrize("how", ["lost", "unheard"])
async def test_c8_no_answer_is_unknown_and_never_failed(how: Any) -> None:
    bank = Bank(pays=True)
    bank.script["begin"].append(how)
    till = counter.till(bank)
    payment = await opened(till)
    assert (payment.state, payment.reference, payment.in_doubt) == ("unknown", None, True)
    assert await till.reconcile() == 0
    assert await reconciled(till, 11) == 1
    payment = await now_of(till, payment)
    if how == "lost":
        assert (payment.state, payment.captured, payment.in_doubt, payment.ask_at) == ("captured", 1000, False, None)
    else:
        assert (payment.state, payment.captured, payment.in_doubt) == ("unknown", 0, True)
        assert payment.ask_at is not None


async def test_c8_the_answer_may_be_500_late_or_cut_off() -> None:
    class Remote(Bank):
        """The same bank, spoken to over HTTP."""

        url = ""

        async def begin(self, asked: Any) -> Any:
            reply = await fetch.post(self.url, json={"id": asked.id}, within=0.3, tries=1)
            if not reply.ok:
                raise Unknown(f"HTTP {reply.status}")
            return await super().begin(asked)

    remote = Remote(pays=True)
    till = counter.till(remote)
    async with scripted_http() as server:
        remote.url = server.url
        server.script.extend([Answer(status=500), Answer(late=1), Answer(cut=True), Answer()])
        states = [(await opened(till)).state for _ in range(4)]
    assert states == ["unknown", "unknown", "unknown", "captured"]
    assert [request.method for request in server.received] == ["POST"] * 4


async def test_c8_it_is_asked_after_10_30_and_60_seconds_and_then_ever_more_seldom() -> None:
    bank = Bank()
    till = counter.till(bank)
    payment = await opened(till)
    last, gaps = payment.created_at, []
    for want in (10, 30, 60, 120, 240, 480, 600):
        due = (await now_of(till, payment)).ask_at
        assert due is not None
        with clock.shifted(due - clock.now() - timedelta(seconds=1)):
            assert await till.reconcile() == 0
        with clock.shifted(due - clock.now()):
            asked = clock.now()
            assert await till.reconcile() == 1
        gaps.append(((asked - last).total_seconds(), want))
        last = asked
    assert all(0 <= gap - want <= 5 for gap, want in gaps), gaps  # the house's own time passes too
    assert (await now_of(till, payment)).asked == 7


async def test_c8_who_is_silent_for_a_day_is_shown_and_never_dropped_in_silence() -> None:
    bank = Bank()
    till = counter.till(bank)
    payment = await opened(till)
    with clock.shifted(DAY + timedelta(minutes=1)):
        await till.reconcile()
        odd = await now_of(till, payment)
        assert odd.odd == [f"silence: asked since {payment.created_at:%Y-%m-%d %H:%M}"]
        assert odd.ask_at is not None
        assert timedelta(minutes=59) < odd.ask_at - clock.now() <= timedelta(hours=1)
    assert (await told())[-1] == ("pending", 0, 0)
    with clock.shifted(timedelta(days=31)):
        await till.reconcile()
        assert await till.reconcile() == 0
    dropped = await now_of(till, payment)
    assert dropped.ask_at is None
    assert any("not any more" in each for each in dropped.odd)
    await hear(till, bank.pay(payment.id))
    paid = await now_of(till, payment)
    assert (paid.captured, paid.odd) == (1000, [])


async def test_what_is_set_aside_may_wait_for_us_without_being_odd() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till, capture=False)
    with clock.shifted(DAY * 2):
        await till.reconcile()
    waiting = await now_of(till, payment)
    assert (waiting.state, waiting.odd) == ("authorised", [])
    assert waiting.ask_at is not None


async def test_c8_a_process_that_dies_while_it_asks_leaves_it_to_another() -> None:
    bank = Bank(pays=True, told=False)
    till = counter.till(bank)
    payment = await opened(till)
    with later(11):
        assert await till.asking.claim(await now_of(till, payment)) is not None
        assert await till.reconcile() == 0
    assert await reconciled(till, 72) == 1
    assert (await now_of(till, payment)).state == "captured"


async def test_c8_many_workers_do_not_ask_twice() -> None:
    bank = Bank(told=False)
    tills = [counter.till(bank) for _ in range(5)]
    for _ in range(10):
        await opened(tills[0])
    bank.calls.clear()
    with later(11):
        asked = await asyncio.gather(*(each.reconcile() for each in tills))
    assert sum(asked) == 10
    assert sorted(Counter(bank.calls).values()) == [1] * 10


async def test_c8_while_one_asks_nobody_else_does() -> None:
    bank = Bank(told=False)
    till = counter.till(bank)
    payment = await opened(till)
    asked = asyncio.Event()

    class Slow(Bank):
        async def ask(self, reference: str) -> Any:
            self.calls.append(("ask", reference))
            await asked.wait()
            return self.facts(reference)

    slow = Slow(told=False)
    slow.accounts = bank.accounts
    till.asking.providers = {"bank": slow}
    with later(11):
        looking = asyncio.create_task(till.look(payment.id))
        while not slow.calls:
            await asyncio.sleep(0.01)
    for seconds in (17, 30, 60):
        with later(seconds):
            await till.look(payment.id)
            assert await till.reconcile() == 0
    asked.set()
    await looking
    assert len(slow.calls) == 1
    assert (await now_of(till, payment)).leased_until is None


async def test_c8_a_provider_that_is_silent_many_times_is_left_alone_for_a_while() -> None:
    bank, other = Bank(), Bank("other")
    till = counter.till(bank, other)
    bank.script["begin"].extend(["unheard"] * fetch.FAILURES)
    for _ in range(fetch.FAILURES):
        assert (await opened(till)).state == "unknown"
    with pytest.raises(ProviderSilent):
        await opened(till)
    assert (await opened(till, provider="other")).state == "pending"
    bank.calls.clear()
    with later(11):
        assert await till.reconcile() == 1  # the other's
    assert bank.calls == []
    state.part(till_module.Circuits).of("bank").until = 0.0
    with later(11):
        await till.reconcile()
    assert len(bank.calls) >= 1  # one tries, and nobody gives up


async def test_a_provider_that_cannot_be_asked_by_our_id_does_not_count_as_silent() -> None:
    class Forgetful(Bank):
        async def find(self, id: str) -> str | None:
            raise Unknown("it keeps no ids of ours")

    bank = Forgetful()
    till = counter.till(bank)
    bank.script["begin"].extend(["lost", "well", "lost", "well", "lost", "well"])
    for _ in range(6):
        await opened(till)
    for seconds in (11, 60, 200, 500):
        await reconciled(till, seconds)
    assert (await opened(till)).state == "pending"


async def test_what_an_adapter_does_wrong_holds_up_no_other_payment() -> None:
    bank = Bank(told=False)
    till = counter.till(bank)
    payments = [await opened(till) for _ in range(3)]
    for payment in payments:
        bank.pay(payment.id)
    bank.script["ask"].append("broken")
    assert await reconciled(till, 11) == 2
    states = sorted([(await now_of(till, each)).state for each in payments])
    assert states == ["captured", "captured", "pending"]


async def test_who_looks_often_asks_the_provider_seldom() -> None:
    bank = Bank(told=False)
    till = counter.till(bank)
    payment = await opened(till)
    bank.calls.clear()
    await asyncio.gather(*(till.look(payment.id) for _ in range(10)))
    for _ in range(5):
        await till.look(payment.id)
    assert bank.calls == [("ask", payment.reference)]
    bank.pay(payment.id)
    with later(6):
        assert (await till.look(payment.id)).state == "captured"
        await till.look(payment.id)
    assert len(bank.calls) == 2


# ---- hearing


async def test_p2_a_forged_callback_is_refused_and_leaves_nothing() -> None:
    bank = Bank()
    till = counter.till(bank)
    payment = await opened(till)
    headers, body, _ = bank.callback(bank.pay(payment.id))
    for secret, sent in (("guessed", body), ("", body), (SECRET, b"{"), (SECRET, b"[{}]")):
        with pytest.raises(BadCallback):
            await till.hear("bank", headers, sent, secret)
    assert (await now_of(till, payment)).captured == 0
    assert await till.inbox.count({"fact.kind": "captured"}) == 0


async def test_a_callback_that_no_database_can_hold_is_refused() -> None:
    till = counter.till(Bank())
    for amount in (2**63, -(2**70)):
        with pytest.raises(BadCallback):
            await hear(till, [Fact(id="1", reference="ref", kind="captured", amount=amount)])
    assert await till.inbox.count({}) == 0


async def test_c9_the_same_fact_fifty_times_at_once_counts_once() -> None:
    bank = Bank()
    tills = [counter.till(bank) for _ in range(5)]
    payment = await opened(tills[0])
    facts = bank.pay(payment.id)
    await asyncio.gather(*(hear(tills[each % 5], facts) for each in range(50)))
    paid = await now_of(tills[0], payment)
    assert (paid.state, paid.captured, len(paid.movements), paid.odd) == ("captured", 1000, 1, [])
    assert (await told()).count(("captured", 1000, 0)) == 1
    assert await tills[0].inbox.count({}) == 2


async def test_p2_1000_shuffled_sequences_of_callbacks_end_alike() -> None:
    """Late, doubled, reordered, contradicted; and where all were lost, asking makes up for it."""
    chance = random.Random(7)
    bank = Bank(told=False)
    till = counter.till(bank)
    gate = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with gate:
            payment = await opened(till, 1000, id=f"{number:04}")
            facts = bank.pay(payment.id)
            calls = [[each] for each in (*facts, *facts)]
            chance.shuffle(calls)
            del calls[: chance.randrange(5)]  # lost
            if any(each.kind == "captured" for call in calls for each in call):
                failed = Fact(id=f"{number}.fail", reference=facts[0].reference, kind="failed", code="late")
                calls.insert(chance.randrange(len(calls) + 1), [failed])
            for call in calls:
                await hear(till, call)

    await asyncio.gather(*(one(number) for number in range(1000)))
    for seconds in (11, 80, 200):
        with later(seconds):
            await till.reconcile(limit=1000)
    ends: Counter[Any] = Counter()
    async for each in till.kept.each({}):
        ends[each.state, each.captured, len(each.movements), each.ask_at] += 1
    assert ends == {("captured", 1000, 1, None): 1000}
    assert bank.charged == 1000 * 1000


async def test_c9_a_fact_that_comes_before_the_reference_waits_for_it() -> None:
    bank = Bank(pays=True, told=False)
    till = counter.till(bank)

    class Hasty(Bank):
        """It calls back before it answers."""

        async def begin(self, asked: Any) -> Any:
            begun = await super().begin(asked)
            await hear(till, self.facts(begun.reference))
            assert await till.inbox.count({"applied_at": None}) == 2
            return begun

    till.asking.providers = {"bank": Hasty(pays=True, told=False)}
    payment = await opened(till)
    assert (payment.state, payment.captured) == ("captured", 1000)
    assert await till.inbox.count({"applied_at": None}) == 0


async def test_c9_a_fact_that_names_the_payment_before_it_is_known_how_to_pay_it_takes_nothing_away() -> None:
    till = counter.till(Bank())

    class Hasty(Bank):
        """It calls back before it answers, and names the payment as we do."""

        async def begin(self, asked: Any) -> Any:
            begun = await super().begin(asked)
            await hear(till, [structs.replace(each, payment=asked.id) for each in begun.facts])
            assert (await till.kept.get(asked.id)).reference == begun.reference
            return begun

    till.asking.providers = {"bank": Hasty()}
    payment = await opened(till)
    assert (payment.state, payment.action) == ("pending", {"kind": "prompt"})


async def test_c9_a_fact_that_comes_while_the_reference_is_written_is_not_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bank = Bank(told=False)
    till = counter.till(bank)
    become = till.books._become

    async def beset(known: Payment, version: int) -> Payment:
        monkeypatch.undo()
        await hear(till, bank.pay(known.id))  # it finds no payment of this reference yet
        assert (await now_of(till, known)).reference is None
        return await become(known, version)

    monkeypatch.setattr(till.books, "_become", beset)
    payment = await opened(till)
    assert (payment.state, payment.captured) == ("captured", 1000)


async def test_c9_a_fact_that_names_our_payment_tells_its_reference() -> None:
    """A provider that knows no idempotency key, whose answer was lost: only its callback can tell."""
    bank = Bank()
    bank.script["begin"].append("lost")
    till = counter.till(bank)
    payment = await opened(till)
    assert payment.reference is None
    fact = Fact(id="1", reference=f"ref-{payment.id}", kind="captured", payment=payment.id, amount=1000)
    await hear(till, [fact])
    paid = await now_of(till, payment)
    assert (paid.state, paid.reference, paid.captured) == ("captured", f"ref-{payment.id}", 1000)


async def test_c9_a_fact_whose_effect_was_interrupted_has_it_by_reconciling(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = Bank()
    till = counter.till(bank)
    payment = await opened(till)
    monkeypatch.setattr(till.books, "apply", lambda rows: (_ for _ in ()).throw(Busy()))
    await hear(till, bank.pay(payment.id))
    monkeypatch.undo()
    assert (await now_of(till, payment)).captured == 0
    bank.accounts.clear()  # asking would not help
    with later(6):
        await till.reconcile()
    assert (await now_of(till, payment)).captured == 1000


async def test_a_fact_of_a_payment_that_is_not_ours_is_set_aside_after_a_day() -> None:
    till = counter.till(Bank())
    await hear(till, [Fact(id="1", reference="of somebody else", kind="captured", amount=5)])
    await reconciled(till, 60)
    assert await till.inbox.count({"applied_at": None}) == 1
    await reconciled(till, 86_500)
    assert await till.inbox.count({"applied_at": None}) == 0
    assert await till.inbox.count({}) == 1


async def test_p3_a_receipt_credits_one_payment_only() -> None:
    bank = Bank()
    till = counter.till(bank)
    first, second = await opened(till), await opened(till)
    for number, payment in enumerate((first, second)):
        fact = Fact(
            id=str(number), reference=payment.reference or "", kind="captured", amount=1000, receipt="QKJ4H7S2XA"
        )
        await hear(till, [fact])
    first, second = await now_of(till, first), await now_of(till, second)
    assert (first.captured, first.odd) == (1000, [])
    assert (second.state, second.code, second.captured) == ("failed", "credited_elsewhere", 0)
    assert second.odd == [f"receipt: QKJ4H7S2XA credits {first.id} already"]
    assert (await told())[-1] == ("failed", 0, 0)


async def test_p3_of_many_payments_at_once_a_receipt_credits_one() -> None:
    till = counter.till(Bank())
    payments = [await opened(till) for _ in range(8)]
    facts = [
        Fact(id=str(number), reference=each.reference or "", kind="captured", amount=1000, receipt="QKJ4H7S2XA")
        for number, each in enumerate(payments)
    ]
    await asyncio.gather(*(hear(till, [fact]) for fact in facts))
    assert sum([(await now_of(till, each)).captured for each in payments]) == 1000


async def test_money_that_nobody_asked_for_finds_its_payment_by_what_was_written_beside_it() -> None:
    bank = Bank()

    async def whose(fact: Fact) -> str | None:
        return fact.account if fact.account == payment.id else None

    till = Till(counter.PRODUCT, {"bank": bank}, counter.Changed, whose)
    payment = await opened(till)
    await hear(till, [Fact(id="1", reference="", kind="captured", amount=1000, receipt="R1", account=payment.id)])
    await hear(till, [Fact(id="2", reference="", kind="captured", amount=500, receipt="R2", account="scribble")])
    paid = await now_of(till, payment)
    assert (paid.captured, paid.receipt) == (1000, "R1")
    assert await till.inbox.count({"applied_at": None}) == 1
    paid = await till.assign("bank.2", payment.id)
    assert (paid.captured, paid.receipts) == (1500, ["R1", "R2"])
    with pytest.raises(till_module.NotUnasked):
        await till.assign("bank.1", (await opened(till)).id)


async def test_money_that_nobody_asked_for_becomes_a_payment_of_its_own_by_what_it_is_meant_for() -> None:
    bank = Bank()

    async def whose(fact: Fact) -> Meant | None:
        return Meant("counter.order:7", "ann") if fact.account == "7" else None

    till = Till(counter.PRODUCT, {"bank": bank}, counter.Changed, whose)
    money = Fact(id="1", reference="", kind="captured", amount=1000, currency="KES", receipt="R1", account="7")
    await asyncio.gather(*(hear(till, [money]) for _ in range(8)))
    (kept,) = await till.kept.many({})
    assert (kept.purpose, kept.payer_id, kept.state) == ("counter.order:7", "ann", "captured")
    assert (kept.captured, kept.receipts, kept.odd, kept.ask_at) == (1000, ["R1"], [], None)
    assert await counter.told() == [("captured", 1000, 0)]
    await hear(till, [structs.replace(money, id="2", receipt="R2", account="scribble")])
    assert await till.kept.count({}) == 1
    await ledger.post_payment(counter.PRODUCT, kept)
    assert await ledger.verify(counter.PRODUCT) == []  # what is nobody's yet is nobody's
    matched = await till.assign("bank.2", Meant("counter.order:8"))
    assert (matched.purpose, matched.captured) == ("counter.order:8", 1000)
    with pytest.raises(till_module.NotUnasked):
        await till.assign("bank.2", Meant("counter.order:9"))


async def test_money_by_hand_goes_back_without_a_name_of_the_providers_for_it() -> None:
    bank = Bank()
    till = counter.till(bank)
    await hear(till, [Fact(id="1", reference="", kind="captured", amount=1000, currency="KES", receipt="R1")])
    kept = await till.assign("bank.1", Meant("counter.order:8"))
    refund = await till.ask_refund(kept.id, 1000, "Too much", "house", needs_approval=False)
    await till.send_refund(kept.id, refund.id)
    assert ("refund", refund.id) in bank.calls


async def test_money_that_is_another_payments_by_its_receipt_is_not_counted_for_the_prompt_too() -> None:
    """Of a prompt whose money was taken for another payment's; its query tells that it is paid, and no receipt."""
    bank = Bank()
    till = counter.till(bank)
    prompt, other = await opened(till), await opened(till, purpose="counter.order:2")
    await hear(till, [Fact(id="1", reference="", kind="captured", amount=1000, receipt="R1", currency="KES")])
    await till.assign("bank.1", other.id)
    callback = Fact(id="c", reference=prompt.reference or "", kind="captured", amount=1000, receipt="R1")
    query = Fact(id="q", reference=prompt.reference or "", kind="captured")
    await hear(till, [callback])
    assert (await now_of(till, prompt)).state == "failed"
    await hear(till, [query])
    known = await now_of(till, prompt)
    assert (known.state, known.code, known.captured, known.ask_at) == ("failed", "credited_elsewhere", 0, None)
    assert known.odd == [f"receipt: R1 credits {other.id} already"]


async def test_a_confirmation_of_a_receipt_that_is_known_adds_nothing() -> None:
    bank = Bank()
    till = counter.till(bank)
    payment = await opened(till)
    await hear(till, bank.pay(payment.id))
    await hear(till, [Fact(id="c2b", reference="", kind="captured", amount=1000, receipt=f"R-{payment.reference}")])
    paid = await now_of(till, payment)
    assert (paid.captured, paid.odd) == (1000, [])
    assert "c2b" in paid.facts


# ---- capturing and voiding


@pytest.mark.parametrize("amount", [None, 600])
async def test_what_is_set_aside_is_captured_whole_or_in_part(amount: int | None) -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till, capture=False)
    assert (payment.state, payment.authorised, payment.captured) == ("authorised", 1000, 0)
    payment = await till.capture(payment.id, amount)
    assert (payment.state, payment.captured, payment.odd, payment.ask_at) == ("captured", amount or 1000, [], None)
    assert await till.capture(payment.id, amount) == payment
    with pytest.raises(till_module.CannotCapture):
        await till.capture(payment.id, 601)


@pytest.mark.parametrize("amount", [1001, 0, -1])
async def test_no_more_is_captured_than_was_set_aside(amount: int) -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till, capture=False)
    with pytest.raises(till_module.CannotCapture):
        await till.capture(payment.id, amount)
    assert bank.charged == 0
    assert ("capture", payment.reference) not in bank.calls


@pytest.mark.parametrize("how", ["lost", "unheard"])
async def test_c8_a_capture_without_an_answer_is_unknown_and_done_once(how: Any) -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till, capture=False)
    bank.script["capture"].append(how)
    payment = await till.capture(payment.id, 700)
    assert (payment.state, payment.captured) == ("unknown", 0)
    assert await reconciled(till, 11) == 1
    payment = await now_of(till, payment)
    assert (payment.state, payment.captured, bank.charged, payment.ask_at) == ("captured", 700, 700, None)


async def test_a_capture_that_is_refused_leaves_it_set_aside() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till, capture=False)
    bank.script["capture"].append("refused")
    with pytest.raises(Refused):
        await till.capture(payment.id)
    payment = await now_of(till, payment)
    assert (payment.state, payment.wanted, payment.to_capture) == ("authorised", "", 0)
    assert (await till.capture(payment.id)).captured == 1000


@pytest.mark.parametrize("how", ["well", "lost", "unheard"])
async def test_c8_what_is_set_aside_is_voided_however_the_answer_comes(how: Any) -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till, capture=False)
    bank.script["void"].append(how)
    payment = await till.void(payment.id)
    assert payment.state == ("voided" if how == "well" else "unknown")
    await reconciled(till, 11)
    payment = await now_of(till, payment)
    assert (payment.state, payment.ask_at, bank.charged) == ("voided", None, 0)
    assert await till.void(payment.id) == payment


async def test_a_payment_that_nobody_knows_of_is_voided_when_it_is_found() -> None:
    bank = Bank(pays=True)
    bank.script["begin"].append("lost")
    bank.script["find"].append("unheard")
    till = counter.till(bank)
    payment = await opened(till, capture=False)
    assert (await till.void(payment.id)).state == "unknown"
    await reconciled(till, 62)
    assert (await now_of(till, payment)).state == "unknown"
    await reconciled(till, 200)
    payment = await now_of(till, payment)
    assert (payment.state, bank.accounts[payment.id].state) == ("voided", "voided")


async def test_what_is_captured_cannot_be_voided() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    with pytest.raises(till_module.CannotVoid):
        await till.void(payment.id)
    assert (await now_of(till, payment)).wanted == ""


async def test_of_many_who_capture_and_void_at_once_one_kind_wins() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till, capture=False)
    acts = [till.capture(payment.id) if each % 2 else till.void(payment.id) for each in range(10)]
    await asyncio.gather(*acts, return_exceptions=True)
    payment = await now_of(till, payment)
    assert (payment.state, payment.captured) in (("captured", 1000), ("voided", 0))
    assert (bank.accounts[payment.id].state, bank.charged) == (payment.state, payment.captured)
    assert payment.odd == []


# ---- refunding


async def test_p3_parallel_refunds_never_exceed_what_was_captured() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    asked = [till.ask_refund(payment.id, 90, "broken", "bob", needs_approval=each % 2 == 0) for each in range(50)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    kept = [each for each in results if not isinstance(each, BaseException)]
    assert len(kept) == 11
    assert {type(each).__name__ for each in results if isinstance(each, BaseException)} == {"RefundTooHigh"}
    await till.reconcile()
    payment = await now_of(till, payment)
    sent = 90 * sum(1 for each in kept if each.state == "approved")
    assert (payment.refunded, bank.returned, truth.live(payment.refunds)) == (sent, sent, 990)


async def test_refunds_say_how_much_is_left() -> None:
    till = counter.till(Bank(pays=True))
    payment = await opened(till)
    await till.ask_refund(payment.id, 700, "broken", "bob", needs_approval=True)
    with pytest.raises(till_module.RefundTooHigh) as refused:
        await till.ask_refund(payment.id, 301, "broken", "bob", needs_approval=True)
    assert (refused.value.status, refused.value.code, refused.value.details) == (409, "refund_too_high", {"left": 300})
    with pytest.raises(NotFound):
        await till.ask_refund("nothing", 1, "broken", "bob", needs_approval=False)


async def test_who_asked_for_a_refund_does_not_approve_it() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    refund = await till.ask_refund(payment.id, 400, "$broken", "bob", needs_approval=True)
    assert (refund.state, refund.reason) == ("waiting", "$broken")
    await till.send_refund(payment.id, refund.id)
    assert bank.returned == 0
    with pytest.raises(Forbidden) as refused:
        await till.approve_refund(payment.id, refund.id, "bob")
    assert (refused.value.status, refused.value.code) == (403, "another_person_decides")
    approved = await till.approve_refund(payment.id, refund.id, "eve")
    assert (approved.state, approved.approved_by) == ("approved", "eve")
    assert await till.approve_refund(payment.id, refund.id, "eve") == approved
    payment = await till.send_refund(payment.id, refund.id)
    assert (payment.refunded, payment.refunds[0].state, bank.returned, payment.ask_at) == (400, "done", 400, None)
    with pytest.raises(till_module.NotWaiting):
        await till.approve_refund(payment.id, refund.id, "ann")
    with pytest.raises(till_module.NotWaiting):
        await till.refuse_refund(payment.id, refund.id, "ann")


async def test_a_refund_that_a_person_refuses_is_free_again() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    refund = await till.ask_refund(payment.id, 1000, "broken", "bob", needs_approval=True)
    assert (await till.refuse_refund(payment.id, refund.id, "eve")).state == "refused"
    await till.send_refund(payment.id, refund.id)
    assert bank.returned == 0
    again = await till.ask_refund(payment.id, 1000, "broken", "bob", needs_approval=False)
    assert (await till.send_refund(payment.id, again.id)).refunded == 1000


async def test_of_many_who_approve_and_refuse_at_once_one_decides() -> None:
    till = counter.till(Bank(pays=True))
    payment = await opened(till)
    refund = await till.ask_refund(payment.id, 1000, "broken", "bob", needs_approval=True)
    acts = [
        (till.approve_refund if each % 2 else till.refuse_refund)(payment.id, refund.id, f"person {each}")
        for each in range(10)
    ]
    results = await asyncio.gather(*acts, return_exceptions=True)
    assert sum(1 for each in results if not isinstance(each, BaseException)) == 1


@pytest.mark.parametrize("how", ["lost", "unheard"])
async def test_c8_a_refund_without_an_answer_goes_once(how: Any) -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    bank.script["refund"].append(how)
    refund = await till.ask_refund(payment.id, 400, "broken", "bob", needs_approval=False)
    payment = await till.send_refund(payment.id, refund.id)
    assert (payment.refunds[0].state, payment.refunded) == ("unknown", 0)
    assert await reconciled(till, 70) == 1
    payment = await now_of(till, payment)
    assert (payment.refunds[0].state, payment.refunded, bank.returned) == ("done", 400, 400)
    sends = [call for call, about in bank.calls if (call, about) == ("refund", refund.id)]
    assert len(sends) == (1 if how == "lost" else 2)  # what it knows of is not sent again


async def test_c8_a_refund_is_not_sent_again_when_its_key_may_be_forgotten() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    bank.script["refund"].append("unheard")
    refund = await till.ask_refund(payment.id, 400, "broken", "bob", needs_approval=False)
    await till.send_refund(payment.id, refund.id)
    with clock.shifted(timedelta(hours=25)):
        await till.reconcile()
        await till.send_refund(payment.id, refund.id)
    payment = await now_of(till, payment)
    assert (payment.refunds[0].state, bank.returned) == ("unknown", 0)
    assert payment.odd[0].startswith("silence:")


async def test_a_refund_that_the_provider_refuses_is_free_again() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    bank.script["refund"].append("refused")
    refund = await till.ask_refund(payment.id, 1000, "broken", "bob", needs_approval=False)
    payment = await till.send_refund(payment.id, refund.id)
    assert (payment.refunds[0].state, payment.refunds[0].code, payment.refunded) == ("failed", "no", 0)
    await till.ask_refund(payment.id, 1000, "broken", "bob", needs_approval=False)


async def test_a_provider_that_answers_for_refunds_is_asked_of_those_it_took_on() -> None:
    class Slow(Bank):
        """It takes refunds on, and says what became of them only when it is asked about one."""

        async def refund(self, refunding: Refunding) -> Any:
            await super().refund(refunding)
            return []

        async def ask(self, reference: str) -> Any:
            return [fact for fact in await super().ask(reference) if not fact.refund]

        async def ask_refund(self, refunding: Refunding) -> Any:
            return [fact for fact in self.facts(refunding.reference) if fact.refund == refunding.id]

    bank = Slow(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    refund = await till.ask_refund(payment.id, 400, "broken", "bob", needs_approval=False)
    payment = await till.send_refund(payment.id, refund.id)
    assert (payment.refunds[0].state, payment.refunded) == ("sent", 0)
    await reconciled(till, 700)
    payment = await now_of(till, payment)
    assert (payment.refunds[0].state, payment.refunded) == ("done", 400)
    assert [call for call, _ in bank.calls].count("refund") == 1


async def test_many_who_send_a_refund_at_once_send_it_once() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    refund = await till.ask_refund(payment.id, 400, "broken", "bob", needs_approval=False)
    await asyncio.gather(*(till.send_refund(payment.id, refund.id) for _ in range(20)), till.reconcile())
    payment = await now_of(till, payment)
    assert (payment.refunded, bank.returned) == (400, 400)
    assert [call for call, _ in bank.calls].count("refund") == 1


# ---- what stays


async def test_what_facts_were_made_of_is_forgotten_in_time() -> None:
    bank = Bank()
    till = counter.till(bank)
    payment = await opened(till)
    raw = {"MSISDN": "254700000001"}
    await hear(till, [Fact(id="1", reference=payment.reference or "", kind="captured", amount=1000, raw=raw)])
    assert await till.forget_raw() == 0
    with clock.shifted(timedelta(days=91)):
        assert await till.forget_raw() == 1
        assert await till.forget_raw() == 0
    assert (await till.inbox.get("bank.1")).fact["raw"] == {}
    assert await till.settle(payment.id) == await now_of(till, payment)
    assert (await now_of(till, payment)).captured == 1000


async def test_each_change_carries_an_event_that_says_how_it_is_then() -> None:
    bank = Bank(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    refund = await till.ask_refund(payment.id, 400, "broken", "bob", needs_approval=True)
    await till.approve_refund(payment.id, refund.id, "eve")
    await till.send_refund(payment.id, refund.id)
    found = await told()
    assert found[:2] == [("new", 0, 0), ("captured", 1000, 0)]
    assert found[-1] == ("captured", 1000, 400)
    row = await till.kept.raw.find_one({"_id": payment.id})
    assert row is not None
    assert row["version"] >= len(found)
