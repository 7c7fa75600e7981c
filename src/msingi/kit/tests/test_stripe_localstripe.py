"""Stripe as a provider, against localstripe: a server that others wrote, so that we do not only agree with ourselves.

It knows no idempotency keys, no index, no disputes and no `amount_received`, and refuses parameters that it does not
know; what needs those is tested against our own stand-in.
"""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from aiohttp import web

from msingi.kit import state
from msingi.kit.ids import new_id
from msingi.kit.payments.face import Asked, BadCallback, Refunding, Refused
from msingi.kit.payments.stripe import Stripe
from msingi.kit.testing import test_settings
from msingi.kit.tests.served import _free_port, wait_until
from msingi.kit.tests.stripe_served import Heard, api, served, until

GOOD, DECLINED = "4242424242424242", "4000000000000341"
KEY, SECRET = "sk_test_12345", "whsec_localstripe"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    port = _free_port()
    command = [sys.executable, "-m", "localstripe", "--from-scratch", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url), 30)
        yield url
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        Path("/tmp/localstripe.pickle").unlink(missing_ok=True)  # it writes this wherever it runs


def _answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/v1/payment_intents", timeout=2, trust_env=False).status_code == 401
    return False


@pytest_asyncio.fixture
async def provider(server: str) -> AsyncIterator[Stripe]:
    async with state.running(test_settings()):
        yield Stripe(KEY, url=server)


async def begin(provider: Stripe, *, capture: bool = True) -> tuple[Asked, str]:
    wanted = Asked(id=new_id(), amount=12900, currency="KES", capture=capture)
    return wanted, (await provider.begin(wanted)).reference


async def confirm(server: str, reference: str, number: str = GOOD) -> int:
    """What the payer does in the browser; the status of the answer."""
    card = {"number": number, "exp_month": "12", "exp_year": "2030", "cvc": "123"}
    async with api(server, KEY) as client:
        form = {"type": "card", **{f"card[{name}]": value for name, value in card.items()}}
        method = (await client.post("/v1/payment_methods", data=form)).json()["id"]
        await client.post(f"/v1/payment_intents/{reference}", data={"payment_method": method})
        return (await client.post(f"/v1/payment_intents/{reference}/confirm")).status_code


async def told(provider: Stripe, reference: str) -> list[tuple[str, int, str]]:
    return [(fact.kind, fact.amount, fact.currency) for fact in await provider.ask(reference)]


async def test_a_payment_is_begun_found_by_our_id_paid_and_captured(provider: Stripe, server: str) -> None:
    wanted, reference = await begin(provider)
    assert await provider.find(wanted.id) == reference
    assert await provider.find(new_id()) is None
    assert await told(provider, reference) == [("pending", 0, "KES")]
    assert await confirm(server, reference) == 200
    (fact,) = await provider.ask(reference)
    assert (fact.kind, fact.amount, fact.payment) == ("captured", 12900, wanted.id)
    assert fact.receipt.startswith("ch_")


async def test_a_declined_card_is_no_end(provider: Stripe, server: str) -> None:
    _, reference = await begin(provider)
    assert await confirm(server, reference, DECLINED) == 402
    (fact,) = await provider.ask(reference)
    assert (fact.kind, fact.code) == ("pending", "card_declined")


async def test_money_is_set_aside_and_captured(provider: Stripe, server: str) -> None:
    _, reference = await begin(provider, capture=False)
    await confirm(server, reference)
    assert await told(provider, reference) == [("authorised", 12900, "KES")]
    captured = await provider.capture(reference, 12900, "KES")
    assert [(fact.kind, fact.amount) for fact in captured] == [("captured", 12900)]
    assert [fact.id for fact in await provider.capture(reference, 12900, "KES")] == [fact.id for fact in captured]


async def test_money_that_is_set_aside_is_let_go_of(provider: Stripe, server: str) -> None:
    _, reference = await begin(provider, capture=False)
    await confirm(server, reference)
    assert [fact.kind for fact in await provider.void(reference)] == ["voided"]
    assert [fact.kind for fact in await provider.void(reference)] == ["voided"]
    assert await told(provider, reference) == [("voided", 0, "KES")]


async def test_what_is_captured_is_not_voided(provider: Stripe, server: str) -> None:
    _, reference = await begin(provider)
    await confirm(server, reference)
    with pytest.raises(Refused):
        await provider.void(reference)
    assert await told(provider, reference) == [("captured", 12900, "KES")]


async def test_p1_money_goes_back_in_parts_once_for_each_id_though_this_server_knows_no_keys(
    provider: Stripe, server: str
) -> None:
    _, reference = await begin(provider)
    await confirm(server, reference)
    one, two = (Refunding(id=new_id(), reference=reference, amount=sum, currency="KES") for sum in (900, 500))
    for wanted in (one, one, two, one):
        assert [fact.refund for fact in await provider.refund(wanted)] == [wanted.id]
    facts = {(fact.kind, fact.amount, fact.refund) for fact in await provider.ask(reference)}
    assert facts == {("captured", 12900, ""), ("refunded", 900, one.id), ("refunded", 500, two.id)}


async def test_a_payment_that_it_does_not_know_is_refused(provider: Stripe) -> None:
    with pytest.raises(Refused):
        await provider.ask("pi_nobodys")


@asynccontextmanager
async def listening(server: str) -> AsyncIterator[list[Heard]]:
    """What the server tells while this lasts."""
    heard: list[Heard] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(Heard("POST", request.path, dict(request.headers), await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/hooks", hear)
    async with served(app) as url, api(server, KEY) as client:
        await client.post("/_config/webhooks/ours", json={"url": f"{url}/hooks", "secret": SECRET})
        yield heard


async def test_p2_its_callbacks_bear_a_signature_that_holds_and_say_what_a_poll_says(
    provider: Stripe, server: str
) -> None:
    async with listening(server) as heard:
        _, paid = await begin(provider)
        await confirm(server, paid)
        _, declined = await begin(provider)
        await confirm(server, declined, DECLINED)
        # It tells a second late, so callbacks of what other tests did come too.
        await until(lambda: all(any(id.encode() in each.body for each in heard) for id in (paid, declined)))
    by_reference = {}
    for callback in heard:
        for fact in provider.hear(callback.headers, callback.body, SECRET):
            by_reference[fact.reference] = fact
        with pytest.raises(BadCallback):
            provider.hear(callback.headers, callback.body, "whsec_other")
        with pytest.raises(BadCallback):
            provider.hear(callback.headers, callback.body + b" ", SECRET)
    for reference in (paid, declined):
        assert by_reference[reference].id == (await provider.ask(reference))[0].id
    assert (by_reference[paid].kind, by_reference[declined].kind) == ("captured", "pending")
