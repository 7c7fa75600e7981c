"""M-Pesa, asked over real sockets at a stand-in of Daraja that behaves as badly as the real one."""

import asyncio
import itertools
import time
from datetime import timedelta
from typing import Any

import pytest

from msingi.kit import clock, fetch, state
from msingi.kit.ids import new_id
from msingi.kit.payments import mpesa_facts
from msingi.kit.payments.face import AnswersForRefunds, Asked, Begun, Fact, Provider, Refunding, Refused, Unknown
from msingi.kit.payments.mpesa import MPesa
from msingi.kit.tests.mpesa_served import Ear, Sandbox, ear, paybill, sandbox, served, until

__all__ = ["ear", "sandbox", "served"]  # fixtures


@pytest.fixture
def mpesa(sandbox: Sandbox, ear: Ear, running: state.State) -> MPesa:
    ear.provider = paybill(sandbox, ear.url)
    return ear.provider


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow one another without the usual pause."""
    monkeypatch.setattr(fetch, "_backoff", lambda attempt: 0.01)


def asked(**changes: Any) -> Asked:
    given = {"id": new_id(), "amount": 129_900, "currency": "KES", "note": "Order MS-4F7K", "phone": "+254712345678"}
    return Asked(**{**given, **changes})


async def paid(mpesa: MPesa, ear: Ear, **changes: Any) -> Begun:
    begun = await mpesa.begin(asked(**changes))
    await ear.until(1)
    ear.facts.clear()
    return begun


async def asked_until_paid(mpesa: MPesa, begun: Begun) -> Fact:
    async with asyncio.timeout(30):
        while True:
            (fact,) = await mpesa.ask(begun.reference)
            if fact.kind != "pending":
                return fact


def refunding(begun: Begun, **changes: Any) -> Refunding:
    given = {"id": new_id(), "reference": begun.reference, "amount": 50_000, "currency": "KES"}
    return Refunding(**{**given, "phone": "+254712345678", "reason": "broken, sorry!", **changes})


def about(fact: Fact) -> tuple[str, int, str]:
    return fact.kind, fact.amount, fact.code


# ---- a prompt


async def test_a_payer_who_enters_the_pin_has_paid(mpesa: MPesa, ear: Ear) -> None:
    wanted = asked()
    begun = await mpesa.begin(wanted)
    assert begun.action == {"kind": "prompt", "phone": "…678"}
    (fact,) = await ear.until(1)
    assert (fact.reference, fact.payment, fact.currency) == (begun.reference, wanted.id, "KES")
    assert (fact.id, *about(fact)) == (f"stk:{begun.reference}:0", "captured", 129_900, "")
    assert len(fact.receipt) == 10
    assert fact.at is not None
    assert abs(fact.at - clock.now()) < timedelta(seconds=5)  # read in the time of Nairobi, kept in UTC
    assert "254712345678" not in repr(fact)


async def test_it_is_a_provider_as_the_till_wants_one(mpesa: MPesa) -> None:
    provider: Provider = mpesa
    assert isinstance(provider, AnswersForRefunds)


async def test_what_a_query_says_is_what_the_callback_says(mpesa: MPesa, ear: Ear, sandbox: Sandbox) -> None:
    await sandbox.faults(payer={"fault": "ends", "code": "1032"})
    begun = await mpesa.begin(asked())
    (told,) = await ear.until(1)
    (said,) = await mpesa.ask(begun.reference)
    assert said.id == told.id == f"stk:{begun.reference}:1032"
    assert about(said) == about(told) == ("failed", 0, "cancelled")


async def test_a_query_while_the_payer_has_the_prompt_says_pending(mpesa: MPesa, sandbox: Sandbox) -> None:
    await sandbox.faults(
        payer={"fault": "waits"}, query=[{"fault": "slow", "seconds": 0}, {"fault": "ends", "code": "4999"}]
    )
    begun = await mpesa.begin(asked())
    for _ in range(2):  # once as an error, once as a result: Daraja does both
        (fact,) = await mpesa.ask(begun.reference)
        assert (fact.id, *about(fact)) == (f"stk:{begun.reference}:pending", "pending", 0, "")


async def test_a_query_tells_that_it_was_paid_but_not_how_much(mpesa: MPesa, ear: Ear, sandbox: Sandbox) -> None:
    await sandbox.faults(callback={"fault": "lost"})
    begun = await mpesa.begin(asked())
    fact = await asked_until_paid(mpesa, begun)
    assert (fact.id, *about(fact), fact.receipt) == (f"stk:{begun.reference}:0:query", "captured", 0, "", "")
    assert ear.facts == []


async def test_a_phone_that_does_not_answer_is_no_failure_until_mpesa_says_so_later(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox
) -> None:
    await sandbox.faults(payer={"fault": "ignores"})
    begun = await mpesa.begin(asked())
    (told,) = await ear.until(1)
    assert (told.id, *about(told)) == (f"stk:{begun.reference}:1037", "pending", 0, "no_answer")
    (said,) = await mpesa.ask(begun.reference)
    assert said.id == told.id
    with clock.shifted(mpesa_facts.SETTLED + timedelta(minutes=1)):
        (settled,) = await mpesa.ask(begun.reference)
    assert (settled.id, *about(settled)) == (f"stk:{begun.reference}:1037:settled", "failed", 0, "no_answer")


async def test_c9_a_pin_that_came_after_mpesa_gave_up_is_money_all_the_same(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox
) -> None:
    await sandbox.faults(payer={"fault": "late_pin", "seconds": 0.1})
    await mpesa.begin(asked())
    facts = await ear.until(2)
    assert [about(fact) for fact in facts] == [("pending", 0, "no_answer"), ("captured", 129_900, "")]


@pytest.mark.parametrize(
    ("code", "kind", "ours"),
    [
        ("1", "failed", "insufficient_funds"),
        ("1001", "failed", "phone_in_use"),
        ("1019", "failed", "expired"),
        ("1025", "failed", "prompt_not_sent"),
        ("1032", "failed", "cancelled"),
        ("2001", "failed", "wrong_pin"),
        ("17", "pending", "failed_inside"),
        ("9999", "pending", "failed_inside"),
        ("7777", "pending", "unclear"),
    ],
)
async def test_each_end_of_a_prompt_is_told_in_our_words(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox, code: str, kind: str, ours: str
) -> None:
    await sandbox.faults(payer={"fault": "ends", "code": code})
    await mpesa.begin(asked())
    (fact,) = await ear.until(1)
    assert about(fact) == (kind, 0, ours)


async def test_the_prompt_is_spelt_as_daraja_wants_it(sandbox: Sandbox, ear: Ear, mpesa: MPesa) -> None:
    note = "Duka la Mama Amani — Ndizi & Chai! Order MS-2026-000001"
    begun = await mpesa.begin(asked(note=note, phone="0110 345 678", amount=100))
    assert begun.reference.endswith("110345678")
    assert (await ear.until(1))[0].amount == 100
    await mpesa.begin(asked(note="", amount=25_000_000))


# ---- C8: it does not answer, or not as it should


@pytest.mark.parametrize("fault", ["cut", "error_after", "nonsense"])
async def test_c8_a_prompt_whose_answer_is_lost_is_unknown_and_its_callback_names_our_payment(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox, fault: str
) -> None:
    await sandbox.faults(push={"fault": fault})
    wanted = asked()
    with pytest.raises(Unknown):
        await mpesa.begin(wanted)
    (fact,) = await ear.until(1)
    assert (fact.payment, *about(fact)) == (wanted.id, "captured", 129_900, "")
    assert fact.reference.startswith("ws_CO_")
    assert (await sandbox.control())["asked"]["mpesa.push"] == 1  # nothing was sent a second time


async def test_c8_nobody_can_find_a_prompt_by_our_id(mpesa: MPesa) -> None:
    with pytest.raises(Unknown):
        await mpesa.find(new_id())


@pytest.mark.parametrize("fault", ["error", "cut_before"])
async def test_c8_an_error_is_not_taken_for_a_refusal(mpesa: MPesa, sandbox: Sandbox, fault: str) -> None:
    await sandbox.faults(push={"fault": fault})
    with pytest.raises(Unknown):
        await mpesa.begin(asked())
    begun = await mpesa.begin(asked())
    await sandbox.faults(query={"fault": fault})
    with pytest.raises(Unknown):
        await mpesa.ask(begun.reference)


async def test_c8_an_answer_to_a_query_that_cannot_be_read_is_unknown(mpesa: MPesa, sandbox: Sandbox, ear: Ear) -> None:
    begun = await mpesa.begin(asked())
    await ear.until(1)  # before it is decided there is nothing to answer in nonsense
    await sandbox.faults(query=[{"fault": "ends", "code": "what?"}, {"fault": "nonsense"}])
    for _ in range(2):
        with pytest.raises(Unknown):
            await mpesa.ask(begun.reference)


async def test_c8_an_answer_that_takes_too_long_is_unknown(
    mpesa: MPesa, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mpesa.begin(asked())
    monkeypatch.setattr("msingi.kit.payments.mpesa.WITHIN", 0.3)
    await sandbox.faults(push={"fault": "late_reply", "seconds": 5}, query={"fault": "slow", "seconds": 5})
    began = time.monotonic()
    with pytest.raises(Unknown):
        await mpesa.begin(asked())
    with pytest.raises(Unknown):
        await mpesa.ask("ws_CO_1")
    assert time.monotonic() - began < 4


async def test_c8_without_a_connection_nothing_was_asked_and_that_is_certain(
    sandbox: Sandbox, ear: Ear, running: state.State
) -> None:
    closed = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    nobody = paybill(sandbox, ear.url, url=f"http://127.0.0.1:{port}/mpesa")
    for _ in range(3):  # the circuit opens in between: that too is certain
        with pytest.raises(Refused) as told:
            await nobody.begin(asked())
        assert told.value.details["why"] == "busy"
        with pytest.raises(Unknown):
            await nobody.ask("ws_CO_1")
        with pytest.raises(Unknown):  # what nobody tried may be tried again
            await nobody.refund(refunding(Begun(reference="ws_CO_1")))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"fault": "refused", "message": "Bad Request - Invalid PhoneNumber"}, "not_registered"),
        ({"fault": "refused", "message": "Bad Request - Invalid CallBackURL"}, "not_set_up"),
        ({"fault": "limited", "status": 500}, "busy"),
        ({"fault": "in_use"}, "phone_in_use"),
    ],
)
async def test_what_daraja_refuses_for_certain_is_refused(
    mpesa: MPesa, sandbox: Sandbox, fault: dict[str, Any], why: str
) -> None:
    await sandbox.faults(push=fault)
    with pytest.raises(Refused) as told:
        await mpesa.begin(asked())
    assert told.value.details["why"] == why


async def test_being_too_fast_is_mended_by_being_slower(mpesa: MPesa, ear: Ear, sandbox: Sandbox) -> None:
    await sandbox.faults(push=[{"fault": "limited"}, {"fault": "limited"}])
    await mpesa.begin(asked())
    assert [about(fact) for fact in await ear.until(1)] == [("captured", 129_900, "")]
    assert (await sandbox.control())["asked"]["mpesa.push"] == 3


# ---- C9: callbacks


async def test_c9_a_callback_that_comes_before_the_reply_names_our_payment(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox
) -> None:
    await sandbox.faults(push={"fault": "callback_first"})
    wanted = asked()
    begun = await mpesa.begin(wanted)
    assert [(fact.payment, fact.reference) for fact in ear.facts] == [(wanted.id, begun.reference)]


async def test_c9_a_callback_that_comes_many_times_is_one_fact(mpesa: MPesa, ear: Ear, sandbox: Sandbox) -> None:
    await sandbox.faults(callback={"fault": "many", "times": 20})
    await mpesa.begin(asked())
    facts = await ear.until(20)
    assert len({fact.id for fact in facts}) == 1
    assert len({(fact.amount, fact.receipt, fact.payment) for fact in facts}) == 1


async def test_c9_callbacks_out_of_order_each_name_their_own_payment(mpesa: MPesa, ear: Ear, sandbox: Sandbox) -> None:
    await sandbox.faults(callback=[{"fault": "held"}] * 10)
    sums = {}
    for number in range(1, 11):
        wanted = asked(amount=number * 100)
        sums[wanted.id] = ((await mpesa.begin(wanted)).reference, number * 100)
    while (await sandbox.control())["held"] < 10:
        await asyncio.sleep(0.02)
    assert (await sandbox.control(release="shuffled"))["released"] == 10
    facts = await ear.until(10)
    assert {fact.payment: (fact.reference, fact.amount) for fact in facts} == sums


async def test_c9_a_callback_that_comes_late_says_what_it_would_have_said(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox
) -> None:
    await sandbox.faults(callback={"fault": "late", "seconds": 0.4})
    begun = await mpesa.begin(asked())
    await asked_until_paid(mpesa, begun)
    assert ear.facts == []
    (told,) = await ear.until(1)
    assert (told.kind, told.amount, told.reference) == ("captured", 129_900, begun.reference)


async def test_c9_a_wrong_amount_is_told_as_it_came(mpesa: MPesa, ear: Ear, sandbox: Sandbox) -> None:
    await sandbox.faults(callback=[{"fault": "wrong_amount", "amount": 0.5}, {"fault": "wrong_amount"}])
    await mpesa.begin(asked())
    await mpesa.begin(asked())
    assert sorted(fact.amount for fact in await ear.until(2)) == [50, 129_800]


async def test_c9_a_callback_without_details_still_says_that_it_was_paid(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox
) -> None:
    await sandbox.faults(callback={"fault": "bare"})
    begun = await mpesa.begin(asked())
    (fact,) = await ear.until(1)
    assert (fact.id, *about(fact), fact.receipt) == (f"stk:{begun.reference}:0", "captured", 0, "", "")


# ---- tokens


async def test_one_token_serves_many_and_is_asked_for_once(mpesa: MPesa, ear: Ear, sandbox: Sandbox) -> None:
    await sandbox.faults(token={"fault": "slow", "seconds": 0.2})
    await asyncio.gather(*(mpesa.begin(asked()) for _ in range(8)))
    await mpesa.begin(asked())
    seen = await sandbox.control()
    assert (seen["asked"]["mpesa.token"], seen["asked"]["mpesa.push"]) == (1, 9)


async def test_a_token_is_renewed_shortly_before_it_ends(
    mpesa: MPesa, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    life, real = 3599, time.monotonic
    for after, tokens in ((0, 1), (life - 120, 1), (life - 30, 2)):
        monkeypatch.setattr("msingi.kit.payments.mpesa.monotonic", lambda after=after: real() + after)
        await mpesa.begin(asked())
        assert (await sandbox.control())["asked"]["mpesa.token"] == tokens


@pytest.mark.parametrize("status", [{"status": 401}, {"status": 404, "code": "404.001.03"}])
async def test_a_token_that_is_no_longer_good_is_replaced(
    mpesa: MPesa, sandbox: Sandbox, status: dict[str, Any]
) -> None:
    await mpesa.begin(asked())
    await sandbox.faults(push={"fault": "stale", **status})
    await mpesa.begin(asked())
    assert (await sandbox.control())["asked"] == {"mpesa.token": 2, "mpesa.push": 3}


async def test_who_is_not_known_to_daraja_is_told_so_and_nothing_is_asked(
    sandbox: Sandbox, ear: Ear, mpesa: MPesa
) -> None:
    stranger = paybill(sandbox, ear.url, key="wrong")
    with pytest.raises(Refused) as told:
        await stranger.begin(asked())
    assert told.value.details["why"] == "not_set_up"
    assert "mpesa.push" not in (await sandbox.control())["asked"]
    await sandbox.faults(push=[{"fault": "stale"}] * 2)
    with pytest.raises(Refused):
        await mpesa.begin(asked())


# ---- refunds


async def test_money_sent_back_is_told_by_its_result(mpesa: MPesa, ear: Ear) -> None:
    begun = await paid(mpesa, ear)
    back = refunding(begun)
    assert await mpesa.refund(back) == []
    (fact,) = await ear.until(1)
    assert (fact.id, *about(fact)) == (f"b2c:{back.id}:0", "refunded", 50_000, "")
    assert (fact.refund, fact.reference, len(fact.receipt)) == (back.id, begun.reference, 10)
    assert "254712345678" not in repr(fact)


async def test_a_refund_asked_for_twice_is_sent_once(mpesa: MPesa, ear: Ear, sandbox: Sandbox) -> None:
    back = refunding(await paid(mpesa, ear))
    await mpesa.refund(back)
    await ear.until(1)
    await mpesa.refund(back)  # Daraja refuses the double, and tells its status
    first, second = await ear.until(2)
    assert (first.id, about(first), first.receipt) == (second.id, about(second), second.receipt)
    assert (await sandbox.control())["asked"]["mpesa.status"] == 1


@pytest.mark.parametrize("fault", ["cut", "error_after", "nonsense"])
async def test_c8_a_refund_whose_answer_is_lost_is_unknown_and_may_be_asked_for_again(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox, fault: str
) -> None:
    back = refunding(await paid(mpesa, ear))
    await sandbox.faults(payout={"fault": fault}, result={"fault": "lost"})
    with pytest.raises(Unknown):
        await mpesa.refund(back)
    while not ear.facts:  # until it is done: a status may come too early to say
        await mpesa.refund(back)
        await asyncio.sleep(0.1)
    assert (ear.facts[0].id, *about(ear.facts[0])) == (f"b2c:{back.id}:0", "refunded", 50_000, "")


async def test_a_refund_that_failed_says_why(mpesa: MPesa, ear: Ear, sandbox: Sandbox) -> None:
    back = refunding(await paid(mpesa, ear))
    await sandbox.faults(result={"fault": "ends", "code": "2040"})
    await mpesa.refund(back)
    (fact,) = await ear.until(1)
    assert (fact.id, *about(fact), fact.refund) == (
        f"b2c:{back.id}:2040",
        "refund_failed",
        0,
        "not_registered",
        back.id,
    )
    await mpesa.ask_refund(back)
    assert about((await ear.until(2))[1]) == ("refund_failed", 0, "declined")


@pytest.mark.parametrize(("done", "kind"), [(True, "refunded"), (False, "refund_failed")])
async def test_c9_a_refund_that_waited_too_long_is_decided_by_its_status(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox, done: bool, kind: str
) -> None:
    back = refunding(await paid(mpesa, ear))
    await sandbox.faults(result={"fault": "timed_out", "done": done})
    await mpesa.refund(back)
    await until(lambda: any(segment.startswith("late.") for segment, _ in ear.bodies))
    assert ear.facts == []
    await mpesa.ask_refund(back)
    (fact,) = await ear.until(1)
    assert (fact.kind, fact.refund) == (kind, back.id)


async def test_a_result_that_is_no_verdict_and_a_status_of_nothing_say_nothing(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox
) -> None:
    back = refunding(await paid(mpesa, ear))
    await sandbox.faults(result={"fault": "ends", "code": "17"})
    await mpesa.refund(back)
    await mpesa.ask_refund(refunding(Begun(reference=back.reference)))  # was never asked for
    await until(lambda: len(ear.bodies) == 3)
    assert (ear.facts, ear.refused) == ([], 0)


async def test_a_refund_is_refused_only_for_what_would_be_refused_each_time(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox
) -> None:
    begun = await paid(mpesa, ear)
    for wrong in ({"amount": 150}, {"currency": "USD"}, {"phone": ""}, {"amount": 25_000_100}):
        with pytest.raises(Refused):
            await mpesa.refund(refunding(begun, **wrong))
    with pytest.raises(Refused):
        await paybill(sandbox, ear.url, credential="").refund(refunding(begun))
    assert "mpesa.payout" not in (await sandbox.control())["asked"]
    await sandbox.faults(payout=[{"fault": "limited", "status": 500}, {"fault": "refused"}])
    with pytest.raises(Unknown):
        await mpesa.refund(refunding(begun))
    with pytest.raises(Refused):
        await mpesa.refund(refunding(begun))


# ---- what cannot be done


async def test_nothing_can_be_set_aside_captured_or_voided(mpesa: MPesa, sandbox: Sandbox) -> None:
    for doing in (
        mpesa.begin(asked(capture=False)),
        mpesa.capture("ws_CO_1", 100, "KES"),
        mpesa.void("ws_CO_1"),
        mpesa.begin(asked(amount=150)),
        mpesa.begin(asked(currency="USD")),
        mpesa.begin(asked(phone="+255712345678")),
        mpesa.begin(asked(phone="020 2345678")),
        mpesa.begin(asked(phone="ann@msingi.test")),
    ):
        with pytest.raises(Refused):
            await doing
    assert (await sandbox.control())["asked"] == {}


# ---- bills paid by hand


async def test_a_bill_paid_by_hand_names_its_account(mpesa: MPesa, ear: Ear, sandbox: Sandbox) -> None:
    await mpesa.register()
    token = await mpesa._fresh_token()
    bill = {"Amount": 1299, "Msisdn": "254712345678", "BillRefNumber": "MS-4F7K"}
    headers = {"authorization": f"Bearer {token}"}
    await fetch.post(f"{sandbox.url}/mpesa/mpesa/c2b/v2/simulate", json=bill, headers=headers)
    (fact,) = await ear.until(1)
    assert (fact.account, fact.reference, *about(fact)) == ("MS-4F7K", "", "captured", 129_900, "")
    assert fact.id == f"c2b:{fact.receipt}"
    assert [segment.partition(".")[0] for segment, _ in ear.bodies] == ["check", "paid"]
    statement = await fetch.get(f"{sandbox.url}/mpesa/statement")
    (told,) = mpesa_facts.of_statement(statement.body.decode())
    assert (told.id, told.amount, told.account, told.at) == (fact.id, 129_900, "MS-4F7K", fact.at)


async def test_a_prompt_that_is_also_confirmed_as_a_bill_has_one_receipt(mpesa: MPesa, ear: Ear) -> None:
    await mpesa.register()
    await mpesa.begin(asked())
    facts = await ear.until(2)
    assert len({fact.receipt for fact in facts}) == 1
    assert {fact.account for fact in facts} == {"", "MS-4F7K"}


async def test_an_address_with_safaricoms_own_words_is_refused(sandbox: Sandbox, ear: Ear, mpesa: MPesa) -> None:
    with pytest.raises(Refused):
        await paybill(sandbox, f"{ear.url}/mpesa").register()


# ---- addresses


async def test_each_callback_comes_to_an_address_that_proves_one_payment_only(mpesa: MPesa, ear: Ear) -> None:
    first, second = asked(), asked()
    for wanted in (first, second):
        await mpesa.begin(wanted)
    await ear.until(2)
    macs = [segment.split(".")[-1] for segment, _ in ear.bodies]
    assert len(set(macs)) == 2
    for one, other in itertools.permutations((first.id, second.id)):
        url = mpesa.address("push", one)
        assert url.startswith(f"{ear.url}/push.{one}.")
        assert not mpesa.address("push", other).endswith(url[-32:])
