"""Our stand-in of Stripe: that it is as strict as the real one, and its page for people."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from msingi.kit import fetch, state
from msingi.kit.ids import new_id
from msingi.kit.payments.face import Asked, Unknown
from msingi.kit.payments.sandbox import stripe as stand_in
from msingi.kit.payments.sandbox import stripe_bank
from msingi.kit.payments.sandbox.stripe import unflattened
from msingi.kit.payments.stripe import Stripe
from msingi.kit.testing import NEARBY, test_settings
from msingi.kit.tests import copies
from msingi.kit.tests.served import _free_port, wait_until
from msingi.kit.tests.stripe_served import SECRET, World, api, sandbox, signed, until

INTENTS = "/stripe/v1/payment_intents"


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    async with sandbox() as made:
        yield made


async def create(world: World, key: str = "", **given: str) -> httpx.Response:
    async with api(world.url) as client:
        form = {"amount": "12900", "currency": "kes", **given}
        return await client.post(INTENTS, data=form, headers={"idempotency-key": key or new_id()})


# ---- as strict as the real one


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"amount": "0"}, 400, "amount_too_small"),
        ({"amount": "1.5"}, 400, "parameter_invalid_integer"),
        ({"amount": "²"}, 400, "parameter_invalid_integer"),
        ({"amount": "-5"}, 400, "parameter_invalid_integer"),
        ({"amount": "100000000"}, 400, "amount_too_large"),
        ({"currency": "xxz"}, 400, None),
        ({"colour": "red"}, 400, "parameter_unknown"),
        ({"capture_method": "sometime"}, 400, None),
        ({"confirm": "true", "payment_method": "pm_card_of_nobody"}, 404, "resource_missing"),
        ({"confirm": "true", "payment_method": "pm_card_chargeDeclined"}, 402, "card_declined"),
    ],
)
async def test_what_stripe_would_refuse_is_refused(world: World, given: Any, status: int, code: str | None) -> None:
    reply = await create(world, **given)
    assert (reply.status_code, reply.json()["error"].get("code")) == (status, code)


async def test_only_keys_of_test_accounts_are_let_in(world: World) -> None:
    for key in ("sk_test", "sk_live_real", "pk_test_public"):
        async with api(world.url, key) as client:
            assert (await client.get(INTENTS)).status_code == 401
            assert (await client.get("/stripe/v1/nothing")).status_code == 401


async def test_p1_a_key_is_answered_again_with_the_same_bytes_whatever_happened_since(world: World) -> None:
    first = await create(world, key="k1")
    world.pay(first.json()["id"])
    again = await create(world, key="k1")
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers


async def test_p1_a_key_with_other_parameters_is_refused(world: World) -> None:
    await create(world, key="k1")
    other = await create(world, key="k1", amount="5000")
    assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error")
    assert len(world.box.bank.intents) == 1


async def test_p1_a_500_is_answered_again_but_a_refusal_before_the_work_is_not(world: World) -> None:
    world.wish("create", "error")
    assert [(await create(world, key="k1")).status_code for _ in range(2)] == [500, 500]
    assert (await create(world, key="k2", amount="0")).status_code == 400
    assert (await create(world, key="k2")).status_code == 200


async def test_p1_a_decline_is_answered_again_and_the_card_is_asked_once(world: World) -> None:
    given = {"confirm": "true", "payment_method": "pm_card_chargeDeclined"}
    first, again = await create(world, key="k1", **given), await create(world, key="k1", **given)
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert len(world.box.bank.charges) == 1


async def test_p1_a_key_under_way_is_in_use(world: World) -> None:
    world.wish("create", "slow", seconds=0.3)
    first = asyncio.create_task(create(world, key="k1"))
    await until(lambda: bool(world.box.saved))
    second = await create(world, key="k1")
    assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_key_in_use")
    assert (await first).status_code == 200


async def test_a_payment_can_be_confirmed_once(world: World) -> None:
    id = (await create(world)).json()["id"]
    async with api(world.url) as client:
        paid = await client.post(f"{INTENTS}/{id}/confirm", data={"payment_method": "pm_card_visa"})
        again = await client.post(f"{INTENTS}/{id}/confirm", data={"payment_method": "pm_card_visa"})
        found = await client.get(f"{INTENTS}/{id}?expand[]=latest_charge")
    assert (paid.json()["status"], again.json()["error"]["code"]) == ("succeeded", "payment_intent_unexpected_state")
    assert found.json()["latest_charge"]["amount_captured"] == 12900
    assert len(world.box.bank.charges) == 1


async def test_refunds_never_exceed_what_was_taken(world: World) -> None:
    id = (await create(world, confirm="true", payment_method="pm_card_visa")).json()["id"]
    async with api(world.url) as client:
        sums = [{"payment_intent": id, "amount": amount} for amount in ("12000", "901", "900", "1")]
        replies = [await client.post("/stripe/v1/refunds", data=each) for each in sums]
    assert [reply.status_code for reply in replies] == [200, 400, 200, 400]
    assert replies[3].json()["error"]["code"] == "charge_already_refunded"
    assert sum(refund["amount"] for refund in world.box.bank.refunds.values()) == 12900


async def test_its_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripe_bank, "MOST", 5)
    monkeypatch.setattr(stand_in, "MOST_REPLIES", 6)
    for number in range(12):
        await create(world, key=f"k{number}")
    assert (len(world.box.bank.intents), len(world.box.saved)) == (5, 6)


def test_forms_are_read_as_stripe_reads_them() -> None:
    text = "amount=5&metadata[a]=1&metadata[b]=2&expand[0]=x&expand[1]=y&enabled_events[]=z&empty="
    assert unflattened(text) == {
        "amount": "5",
        "metadata": {"a": "1", "b": "2"},
        "expand": ["x", "y"],
        "enabled_events": ["z"],
        "empty": "",
    }


# ---- callbacks


async def test_c9_a_callback_is_sent_again_until_it_is_taken(world: World) -> None:
    world.answers.extend([500, 500])
    await create(world)
    one, two, three = await world.told("payment_intent.created", 3)
    assert one.body == two.body == three.body


async def test_c9_a_late_callback_is_overtaken(world: World) -> None:
    world.wish("payment_intent.created", "late", seconds=0.3)
    id = (await create(world)).json()["id"]
    world.pay(id)
    await world.told("payment_intent.created")
    types = [msgspec.json.decode(each.body)["type"] for each in world.callbacks]
    assert types == ["charge.succeeded", "payment_intent.succeeded", "payment_intent.created"]


async def test_p2_while_a_secret_is_changed_callbacks_are_signed_with_both(world: World) -> None:
    async with api(world.url) as client:
        made = await client.post(
            "/stripe/v1/webhook_endpoints", data={"url": f"{world.url}/hooks", "secret": "whsec_new,whsec_old"}
        )
    assert made.json()["secret"] == "whsec_new"
    await create(world, **{"metadata[msingi_payment]": "p1"})
    heard = await world.told("payment_intent.created", 2)
    both = next(each for each in heard if each.headers["stripe-signature"].count("v1=") == 2)
    for secret in ("whsec_new", "whsec_old"):
        assert [fact.kind for fact in world.stripe.hear(both.headers, both.body, secret)] == ["pending"]


async def test_p2_it_signs_as_the_library_does(world: World) -> None:
    await create(world)
    (callback,) = await world.told("payment_intent.created")
    at = int(callback.headers["stripe-signature"].partition(",")[0].removeprefix("t="))
    assert callback.headers["stripe-signature"] == signed(callback.body.decode(), SECRET, at)["Stripe-Signature"]


# ---- the page


async def open_page(world: World, decision: str = "", card: str = "pm_card_visa", **given: str) -> tuple[str, str]:
    """What the page says after a decision, and the payment's status."""
    intent = (await create(world, description="Order <MS-1>", **given)).json()
    address = f"/stripe/pay/{intent['client_secret']}"
    async with httpx.AsyncClient(base_url=world.url, **NEARBY) as browser:
        if decision:
            page = await browser.post(address, data={"decision": decision, "card": card})
        else:
            page = await browser.get(address)
    assert page.status_code == 200
    return page.text, world.box.bank.intents[intent["id"]]["status"]


async def test_the_page_shows_what_is_to_be_paid_and_escapes_it(world: World) -> None:
    text, status = await open_page(world)
    assert "129.00" in text
    assert "Order &lt;MS-1&gt;" in text
    assert status == "requires_payment_method"


@pytest.mark.parametrize(
    ("decision", "card", "status", "said"),
    [
        ("pay", "pm_card_visa", "succeeded", "You may close this page"),
        ("pay", "pm_card_visa_chargeDeclinedInsufficientFunds", "requires_payment_method", "insufficient funds"),
        ("decline", "pm_card_visa", "requires_payment_method", "Your card was declined"),
        ("nothing", "pm_card_visa", "requires_payment_method", "Say nothing"),
        ("pay", "pm_card_authenticationRequired", "requires_action", "requires_action"),
    ],
)
async def test_a_person_pays_declines_or_says_nothing(
    world: World, decision: str, card: str, status: str, said: str
) -> None:
    text, became = await open_page(world, decision, card)
    assert became == status
    assert said in text


@pytest.mark.parametrize(("end", "status"), [("works", "succeeded"), ("fails", "requires_payment_method")])
async def test_a_person_says_how_a_payment_that_takes_days_ends(world: World, end: str, status: str) -> None:
    text, became = await open_page(world, "pay", "pm_usBankAccount_success")
    assert became == "processing"
    assert "The bank takes days" in text
    intent = next(iter(world.box.bank.intents.values()))
    async with httpx.AsyncClient(base_url=world.url, **NEARBY) as browser:
        await browser.post(f"/stripe/pay/{intent['client_secret']}", data={"decision": end})
    assert intent["status"] == status


async def test_a_person_can_pay_and_have_nobody_told(world: World) -> None:
    _, became = await open_page(world, "pay_unheard")
    _, other = await open_page(world, "pay")
    assert (became, other) == ("succeeded", "succeeded")
    await world.told("payment_intent.succeeded")
    assert len([each for each in world.callbacks if b'"payment_intent.succeeded"' in each.body]) == 1


async def test_a_page_needs_the_payments_secret(world: World) -> None:
    id = (await create(world)).json()["id"]
    async with httpx.AsyncClient(base_url=world.url, **NEARBY) as browser:
        for guess in (id, f"{id}_secret_", f"{id}_secret_guess", "pi_x_secret_y"):
            reply = await browser.post(f"/stripe/pay/{guess}", data={"decision": "pay", "card": "pm_card_visa"})
            assert reply.status_code == 404
    assert world.box.bank.intents[id]["status"] == "requires_payment_method"


# ---- as it is run


@contextmanager
def running_sandbox() -> Iterator[str]:
    """The address of the sandbox as `python -m` runs it, on Granian."""
    port = _free_port()
    command = [sys.executable, "-m", "msingi.kit.payments.sandbox", "--port", str(port)]
    with open(os.devnull, "wb") as nowhere:
        process = copies.copy(command, os.environ | {"MSINGI_ENV": "test"}, nowhere)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _alive(url), 30)
        yield url
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


def _alive(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/health", timeout=2, **NEARBY).status_code == 200
    return False


async def test_c8_on_a_real_server_a_cut_connection_is_unknown_and_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_backoff", lambda attempt: 0.01)
    wanted = Asked(id=new_id(), amount=12900, currency="KES")
    with running_sandbox() as url:
        async with state.running(test_settings()), api(url) as client:
            provider = Stripe("sk_test_1", url=f"{url}/stripe")
            faults = {"faults": {"stripe.create": [{"fault": "cut"}] * fetch.TRIES}}
            assert (await client.post("/control", json=faults)).status_code in (200, 201)
            with pytest.raises(Unknown):
                await provider.begin(wanted)
            found = await provider.find(wanted.id)
            assert found is not None
            await client.post(f"{INTENTS}/{found}/confirm", data={"payment_method": "pm_card_visa"})
            assert [(fact.kind, fact.amount) for fact in await provider.ask(found)] == [("captured", 12900)]
            assert (await provider.begin(wanted)).reference == found
