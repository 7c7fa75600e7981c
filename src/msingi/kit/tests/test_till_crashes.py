"""A process that is killed anywhere in a payment loses nothing, and what is done again is done once."""

import random
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import clock, state
from msingi.kit.errors import Problem
from msingi.kit.payments import ledger, truth
from msingi.kit.payments.face import Fact, Refunding
from msingi.kit.payments.models import Payment
from msingi.kit.payments.testing import Bank, How
from msingi.kit.payments.till import Circuits, Till
from msingi.kit.tests import counter
from msingi.kit.tests.counter import hear, opened


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def prepared(running: state.State) -> None:
    await counter.prepare()


class Killed(BaseException):
    """The process is no more."""


class Doomed:
    """A coroutine that is killed when it waits for the `at`-th time: for the database, the provider, anything."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int) -> None:
        self.work, self.left = work, at

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.work.__await__()
        fault: BaseException | None = None
        while True:
            try:
                waited_for = steps.send(None) if fault is None else steps.throw(fault)
            except StopIteration as end:
                return end.value
            self.left -= 1
            fault = Killed() if self.left == -1 else None
            if fault is None:
                try:
                    yield waited_for
                except BaseException as raised:  # what it waited for failed, which is its own affair
                    fault = raised


async def killed(work: Callable[[], Coroutine[Any, Any, Any]], at: int) -> bool:
    """Whether it was killed before it was done."""
    try:
        await Doomed(work(), at)
    except Killed:
        return True
    return False


async def books_agree(till: Till, bank: Bank) -> None:
    """What the bank took and gave back is what we know of."""
    payments = [each async for each in till.kept.each({})]
    assert sum(each.captured for each in payments) == bank.charged
    assert sum(each.refunded for each in payments) == bank.returned
    assert {each.id for each in payments} >= bank.accounts.keys()
    odd = {each for payment in payments for each in payment.odd}
    assert odd <= {"void: wanted, but it was captured"}  # the payer was faster


Case = Callable[[Till, Bank], Awaitable[Callable[[], Coroutine[Any, Any, Any]]]]


async def everywhere(case: Case, ends: Callable[[Till, Bank], Awaitable[None]], bank: Callable[[], Bank]) -> int:
    """Kill what a case does at each place where it waits, go on without it, and see how it ends."""
    places = 0
    while True:
        money = bank()
        till = counter.till(money)
        for store in counter.stores():
            await store.raw.delete_many({})
        dead = await killed(await case(till, money), places)
        again = counter.till(money)
        for seconds in (70, 140, 300, 700):
            with clock.shifted(timedelta(seconds=seconds)):
                await again.reconcile()
        await ends(again, money)
        await books_agree(again, money)
        if not dead:
            return places
        places += 1
        assert places < 200


async def test_c2_killed_anywhere_while_a_payment_is_opened() -> None:
    async def case(till: Till, bank: Bank) -> Callable[[], Coroutine[Any, Any, Any]]:
        return lambda: opened(till, id="order-1")

    async def ends(till: Till, bank: Bank) -> None:
        there = await till.kept.find({"_id": "order-1"})
        assert there is not None or not bank.accounts
        assert there is None or there.state == ("captured" if bank.accounts else "unknown")
        done = await opened(till, id="order-1")  # the same key finishes the work
        assert (done.state, done.captured, len(bank.accounts)) == ("captured", 1000, 1)

    assert await everywhere(case, ends, lambda: Bank(pays=True)) > 5


async def test_c9_killed_anywhere_while_a_callback_is_heard() -> None:
    async def case(till: Till, bank: Bank) -> Callable[[], Coroutine[Any, Any, Any]]:
        payment = await opened(till, id="order-1")
        facts = bank.pay(payment.id)
        return lambda: hear(till, facts)

    async def ends(till: Till, bank: Bank) -> None:
        assert (await till.kept.get("order-1")).captured == 1000
        assert await till.inbox.count({"applied_at": None}) == 0

    assert await everywhere(case, ends, Bank) > 3


async def test_c2_killed_anywhere_while_it_captures() -> None:
    async def case(till: Till, bank: Bank) -> Callable[[], Coroutine[Any, Any, Any]]:
        await opened(till, id="order-1", capture=False)
        return lambda: till.capture("order-1", 700)

    async def ends(till: Till, bank: Bank) -> None:
        done = await till.capture("order-1", 700)
        assert (done.state, done.captured, bank.charged) == ("captured", 700, 700)

    assert await everywhere(case, ends, lambda: Bank(pays=True)) > 3


async def test_c2_killed_anywhere_while_a_refund_is_sent() -> None:
    async def case(till: Till, bank: Bank) -> Callable[[], Coroutine[Any, Any, Any]]:
        payment = await opened(till, id="order-1")
        refund = await till.ask_refund(payment.id, 400, "broken", "bob", needs_approval=False)
        return lambda: till.send_refund(payment.id, refund.id)

    async def ends(till: Till, bank: Bank) -> None:
        payment = await till.kept.get("order-1")
        assert (payment.refunded, payment.refunds[0].state, bank.returned) == (400, "done", 400)

    assert await everywhere(case, ends, lambda: Bank(pays=True)) > 5


async def test_c2_killed_after_the_provider_sent_it_a_refund_is_not_sent_again_a_day_later() -> None:
    class Forgetful(Bank):
        """It tells nothing of refunds, and knows an idempotency key for a day."""

        async def refund(self, refunding: Refunding) -> Sequence[Fact]:
            await super().refund(refunding)
            raise Killed

        async def ask(self, reference: str) -> Sequence[Fact]:
            return [fact for fact in await super().ask(reference) if not fact.refund]

    bank = Forgetful(pays=True)
    till = counter.till(bank)
    payment = await opened(till)
    refund = await till.ask_refund(payment.id, 400, "broken", "bob", needs_approval=False)
    with pytest.raises(Killed):
        await till.send_refund(payment.id, refund.id)
    with clock.shifted(timedelta(hours=25)):
        await counter.till(bank).reconcile()
    assert [call for call, _ in bank.calls].count("refund") == 1
    left_open = (await till.kept.get(payment.id)).refunds[0]
    assert left_open.state == "unknown"
    assert left_open.sent_at is not None


async def test_c8_killed_anywhere_while_it_reconciles() -> None:
    async def case(till: Till, bank: Bank) -> Callable[[], Coroutine[Any, Any, Any]]:
        bank.script["begin"].append("lost")
        await opened(till, id="order-1")

        async def reconcile() -> None:
            with clock.shifted(timedelta(seconds=11)):
                payment = await till.kept.get("order-1")
                await till._due(payment)

        return reconcile

    async def ends(till: Till, bank: Bank) -> None:
        assert (await till.kept.get("order-1")).captured == 1000

    assert await everywhere(case, ends, lambda: Bank(pays=True)) > 5


# ---- random programs


HOW: list[How] = ["well", "well", "well", "lost", "unheard", "refused"]


class Program:
    """A random life of a till: acts, payers, callbacks that come late, twice or never, and deaths."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.bank = Bank(told=self.chance.random() < 0.5)
        self.till = counter.till(self.bank)
        self.ids: list[str] = []
        self.hours = 0.0

    async def run(self, steps: int) -> None:
        for _ in range(steps):
            for name, script in self.bank.script.items():
                if not script and name != "find":
                    script.append(self.chance.choice(HOW))
            with clock.shifted(timedelta(hours=self.hours)):
                await self.step()
                for payment in [each async for each in self.till.kept.each({})]:
                    check(payment)
            self.hours += self.chance.choice([0.0, 0.001, 0.01, 0.1])

    async def step(self) -> None:
        acts: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            self.open,
            self.payer,
            self.payer,
            self.callback,
            self.callback,
            self.capture,
            self.void,
            self.refund,
            self.refund,
            self.till.reconcile,
        ]
        act = self.chance.choice(acts)
        state.part(Circuits).start_over()
        try:
            if self.chance.random() < 0.2:
                await killed(act, self.chance.randrange(30))
            else:
                await act()
        except Problem as problem:
            assert problem.status < 500, problem  # noqa: PT017

    async def open(self) -> None:
        id = f"order-{len(self.ids)}"
        self.ids.append(id)
        await opened(self.till, self.chance.choice([100, 1000]), id=id, capture=self.chance.random() < 0.6)

    def some(self) -> str:
        return self.chance.choice(self.ids or ["none"])

    async def payer(self) -> None:
        id = self.some()
        if id in self.bank.accounts and self.bank.accounts[id].state == "pending":
            self.bank.pay(id) if self.chance.random() < 0.8 else self.bank.fail(id)

    async def callback(self) -> None:
        account = self.bank.accounts.get(self.some())
        if account:
            facts = self.bank.facts(account.reference)
            await hear(self.till, self.chance.sample(facts, self.chance.randint(1, len(facts))))

    async def capture(self) -> None:
        await self.till.capture(self.some(), self.chance.choice([None, 50]))

    async def void(self) -> None:
        await self.till.void(self.some())

    async def refund(self) -> None:
        id = self.some()
        amount = self.chance.choice([10, 40, 100])
        refund = await self.till.ask_refund(id, amount, "why", "bob", needs_approval=self.chance.random() < 0.5)
        if refund.state == "waiting":
            await self.till.approve_refund(id, refund.id, self.chance.choice(["bob", "eve"]))
        if self.chance.random() < 0.5:
            await self.till.send_refund(id, refund.id)

    async def end(self) -> None:
        """All is well from now on, and time passes."""
        for script in self.bank.script.values():
            script.clear()
        state.part(Circuits).start_over()
        for hours in (0.1, 0.2, 0.5, 1, 2, 3):
            with clock.shifted(timedelta(hours=self.hours + hours)):
                await self.till.reconcile()


def check(payment: Payment) -> None:
    """What holds at every moment."""
    assert payment.refunded <= payment.captured <= payment.amount, payment
    assert truth.live(payment.refunds) <= payment.captured, payment
    moved = {"captured": 0, "refunded": 0}
    for each in payment.movements:
        assert each.amount > 0
        moved[each.kind] += each.amount
    assert moved == {"captured": payment.captured, "refunded": payment.refunded}


@pytest.mark.parametrize("seed", range(12))
async def test_p3_a_random_program_of_acts_facts_and_deaths_ends_with_equal_books(seed: int) -> None:
    program = Program(seed)
    await program.run(60)
    await program.end()
    await books_agree(program.till, program.bank)
    async for payment in program.till.kept.each({}):
        check(payment)
        account = program.bank.accounts.get(payment.id)
        assert payment.captured == (account.captured if account else 0)
        assert payment.refunded == (sum(account.refunds.values()) if account else 0)
        if account and account.state in truth.OVER:
            assert payment.state == account.state
        assert not any(each.state == "unknown" for each in payment.refunds)
        await ledger.post_payment(counter.PRODUCT, payment)
    assert await ledger.verify(counter.PRODUCT) == []
    assert await ledger.balance(counter.PRODUCT, "provider:bank", "KES") == program.bank.charged - program.bank.returned
