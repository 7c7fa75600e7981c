"""The pages of webhooks, read and filled in as a browser does it: who is told of what, what became of it, secrets."""

import inspect
import re
from collections.abc import AsyncIterator

import pytest_asyncio
from standardwebhooks.webhooks import Webhook

from msingi.kit.actors import Actor
from msingi.kit.fetch import AddressRefused
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.kit.webhooks.problems import DeliveryOnItsWay, TooManyWebhooks, UnknownWebhookEvents, WebhookIsOff
from msingi.kit.webhooks.testing import Receiver, answer, receiving
from msingi.products.shop.hooks import hooks
from msingi.products.shop.tests.ordering import bank, place, products
from msingi.products.shop.tests.test_pages_orders import OWNER, WAREHOUSE, Desk, at_desk, somebody, words

__all__ = ["bank", "products"]
HERE = "/shop/admin/webhooks"
MANAGER = somebody("manager")


@pytest_asyncio.fixture(loop_scope="session")
async def receiver(world: World, bank: Bank) -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened


async def made(desk: Desk, receiver: Receiver, *events: str) -> tuple[str, str]:
    """The path of a new endpoint's page, and its secret."""
    await desk.open(f"{HERE}/new")
    page = await desk.send(f"{HERE}/new", 200, url=receiver.url, events=list(events), note="the ledger")
    return path_and_secret(page)


def path_and_secret(page: str) -> tuple[str, str]:
    path = re.search(rf'href="({HERE}/\w+)">I have kept it', page)
    secret = re.search(r"whsec_[\w+/=]+", page)
    assert path
    assert secret
    return path[1], secret[0]


def test_what_goes_wrong_with_webhooks_is_said_in_swahili_too() -> None:
    problems = (AddressRefused, DeliveryOnItsWay, TooManyWebhooks, UnknownWebhookEvents, WebhookIsOff)
    said = {inspect.cleandoc(each.__doc__ or "") for each in problems}
    assert sorted(said - words().keys()) == []


async def test_an_address_is_told_and_its_secret_shown_once(world: World, receiver: Receiver, ann: Client) -> None:
    async with at_desk(world, MANAGER) as manager:
        assert "Nobody is told of anything yet." in await manager.open(HERE)
        path, secret = await made(manager, receiver, "order.placed")
        await place(ann)
        await world.work()
        assert [Webhook(secret).verify(got.body, got.headers)["type"] for got in receiver.got] == ["order.placed"]
        for page in (await manager.open(HERE), await manager.open(path), await manager.open(f"{path}/secret")):
            assert "whsec_" not in page
        assert "of-the-receiver" not in await manager.open(HERE)  # an address may hold a secret
        page = await manager.open(path)
        assert ("taken" in page, "order.placed" in page, "the ledger" in page) == (True, True, True)


async def test_no_answer_with_a_secret_is_kept_by_a_browser(world: World, receiver: Receiver) -> None:
    async with at_desk(world, OWNER) as owner:
        await owner.open(f"{HERE}/new")
        token = re.search(r'name="_csrf" value="([^"]+)"', owner.text)
        assert token
        own = {"origin": "http://msingi.test", "sec-fetch-site": "same-origin"}
        form = {"_csrf": token[1], "url": receiver.url, "events": "*"}
        reply = await owner.http.post(f"{HERE}/new", data=form, headers=own)
    assert reply.headers["cache-control"] == "no-store"


async def test_what_cannot_be_told_is_said_and_what_was_typed_stays(world: World, receiver: Receiver) -> None:
    async with at_desk(world, OWNER) as owner:
        await owner.open(f"{HERE}/new")
        page = await owner.send(f"{HERE}/new", 422, url="ftp://erp.example/x", events=["order.*"], note="mine")
        assert "This address is not one that we open" in page
        assert 'value="ftp://erp.example/x"' in page
        assert 'value="order.*" checked' in page
        assert "<strong>Is told of</strong>" in await owner.send(f"{HERE}/new", 422, url=receiver.url)
    assert await hooks.endpoints.count({}) == 0


async def test_a_message_that_failed_is_looked_at_and_sent_again(world: World, receiver: Receiver, ann: Client) -> None:
    async with at_desk(world, OWNER) as owner:
        path, _ = await made(owner, receiver, "order.placed")
        receiver.answer = lambda got: answer(410, b"<b>no more</b>")
        await place(ann)
        await world.work()
        page = await owner.open(path)
        assert "turned off: it said that it is gone" in page
        assert f'action="{path}/pings"' not in page
        (lost,) = await hooks.deliveries.many({})
        one = f"{path}/deliveries/{lost.id}"
        page = await owner.open(one)
        assert lost.message_id in page
        assert '"type": "order.placed"' in page
        assert "410" in page
        receiver.answer = lambda got: answer()
        await owner.open(path)
        assert await owner.send(f"{path}/state") == f"{path}?done=saved"
        await owner.open(one)
        assert "It is sent again." in await owner.open(await owner.send(one))
        await world.work()
        assert "taken" in await owner.open(one)
        assert [got.id for got in receiver.got] == [lost.message_id] * 2


async def test_all_that_was_given_up_is_sent_again(world: World, receiver: Receiver, ann: Client) -> None:
    async with at_desk(world, OWNER) as owner:
        path, _ = await made(owner, receiver, "order.placed")
        await owner.open(path)
        await owner.send(f"{path}/state")  # off
        await place(ann)
        await world.work()
        assert receiver.got == []
        await owner.open(f"{path}?state=dead")
        assert "given up" in owner.text
        await owner.send(f"{path}/state")  # on
        await owner.open(path)
        assert await owner.send(f"{path}/replays") == f"{path}?done=sent_again"
        await world.work()
        assert len(receiver.got) == 1
        assert "Nothing of that kind." in await owner.open(f"{path}?state=dead")
        assert await owner.send(f"{path}/pings") == f"{path}?done=pinged"
        await world.work()
        assert len(receiver.got) == 2


async def test_a_secret_is_changed_and_the_old_one_signs_beside_it(world: World, receiver: Receiver) -> None:
    async with at_desk(world, OWNER) as owner:
        path, old = await made(owner, receiver, "*")
        await owner.open(f"{path}/secret")
        page = await owner.send(f"{path}/secret", 200, overlap_hours="2")
        _, new = path_and_secret(page)
        assert "The old one still signs beside it until" in page
        assert new != old
        await owner.open(path)
        await owner.send(f"{path}/pings")
        await world.work()
        (got,) = receiver.got
        for secret in (old, new):
            assert Webhook(secret).verify(got.body, got.headers)["type"] == "ping"
        await owner.open(f"{path}/secret")
        assert "<strong>Hours</strong>" in await owner.send(f"{path}/secret", 422, overlap_hours="1000")


async def test_it_is_told_of_other_things_and_then_no_more(world: World, receiver: Receiver, ann: Client) -> None:
    async with at_desk(world, OWNER) as owner:
        path, _ = await made(owner, receiver, "order.placed")
        page = await owner.open(path)
        seen = page
        assert await owner.send(path, having="version", events=["stock.low"], note="") == f"{path}?done=saved"
        assert (await hooks.endpoint(path.rpartition("/")[2])).events == ["stock.low"]
        owner.text = seen
        assert "It changed while you were at it" in await owner.send(path, 409, having="version", events=["*"])
        await owner.open(f"{path}/removal")
        await owner.send(f"{path}/removal", 422)
        assert await owner.send(f"{path}/removal", sure="yes") == f"{HERE}?done=webhook_removed"
        await owner.open(path, 404)
    assert await hooks.endpoints.count({}) == 0


async def test_z1_who_may_not_have_others_told_sees_none_of_it(world: World, receiver: Receiver) -> None:
    async with at_desk(world, OWNER) as owner:
        path, _ = await made(owner, receiver, "*")
    async with at_desk(world, WAREHOUSE) as staff:
        for each in (HERE, f"{HERE}/new", path, f"{path}/secret", f"{path}/removal"):
            await staff.open(each, 403)
    stale = Actor(id="late", roles=frozenset({"user", "shop_owner"}))
    async with at_desk(world, stale) as late:  # who proved nothing lately is led to do so
        await late.open(path)
        for each in (f"{HERE}/new", f"{path}/secret"):
            assert "step-up" in await late.open(each, 303)


async def test_the_pages_speak_both_languages(world: World, receiver: Receiver) -> None:
    async with at_desk(world, OWNER) as owner:
        path, _ = await made(owner, receiver, "*")
        for each in (HERE, f"{HERE}/new", f"{path}/secret", f"{path}/removal"):
            english, swahili = await owner.open(each), await owner.open(f"{each}?lang=sw")
            one, other = (re.findall(r"<h1>([^<]+)</h1>", page) for page in (english, swahili))
            assert other == [words()[one[0]]]
