"""Webhooks over HTTP: what merchants are told when goods are sold, and that what the contract shows verifies it."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from standardwebhooks.webhooks import Webhook

from msingi.kit import clock, mail, peers
from msingi.kit.actors import Actor
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import PEOPLE, Client, World
from msingi.kit.webhooks.testing import Got, Receiver, answer, receiving
from msingi.products.accounts.contract import PEOPLE as PEOPLE_ASKED
from msingi.products.accounts.contract import UserErased
from msingi.products.shop.contract import PaymentChanged
from msingi.products.shop.hooks import hooks
from msingi.products.shop.rules import orders as order_rules
from msingi.products.shop.rules import webhooks as rules
from msingi.products.shop.tests.ordering import bank, pay, place, products

__all__ = ["bank", "products"]  # fixtures
CONTRACT = Path(__file__).parents[5] / "docs/contracts/shop-webhooks.md"


@pytest_asyncio.fixture(loop_scope="session")
async def receiver(world: World) -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened


async def endpoint(admin: Client, receiver: Receiver, *events: str) -> dict[str, Any]:
    made: dict[str, Any] = await admin.post("/webhooks", url=receiver.url, events=list(events or ["*"]), expect=201)
    return made


def told(receiver: Receiver, secret: str) -> list[dict[str, Any]]:
    """What the receiver was told, each verified by the other library, by type."""
    said = [Webhook(secret).verify(got.body, got.headers) for got in receiver.got]
    return sorted(said, key=lambda each: (each["type"], each["timestamp"]))


async def test_p2_a_merchant_is_told_of_an_order_and_its_payment_and_can_verify_it(
    world: World, bank: Bank, receiver: Receiver, ann: Client, admin: Client
) -> None:
    made = await endpoint(admin, receiver, "order.*", "payment.captured")
    order = await place(ann)
    await pay(bank, order["id"])
    await world.work()
    by_type = {each["type"]: each["data"] for each in told(receiver, made["secret"])}
    assert sorted(by_type) == ["order.confirmed", "order.placed", "payment.captured"]
    url = f"http://msingi.test/v1/shop/orders/{order['id']}"
    common = {"id": order["id"], "number": order["number"], "url": url}
    assert by_type["order.placed"] == {**common, "state": "awaiting_payment"}
    assert by_type["order.confirmed"] == {**common, "state": "confirmed"}
    paid = by_type["payment.captured"]
    total = order["totals"]["total"]
    assert (paid["order_id"], paid["captured"], paid["currency"]) == (order["id"], total, order["currency"])
    assert (await admin.get(paid["url"].removeprefix("http://msingi.test")))["state"] == "captured"
    sent = b"".join(got.body for got in receiver.got)
    assert not re.search(rb"ann|Wanjiru|254712|@", sent)


async def test_goods_that_change_and_stock_that_runs_low_are_told_of(
    world: World, bank: Bank, receiver: Receiver, admin: Client
) -> None:
    made = await endpoint(admin, receiver, "product.changed", "stock.low")
    await admin.patch("/stock/tea-250/nairobi", low_at=1000)
    await admin.post("/stock/tea-250/nairobi/damages", quantity=1, headers={"idempotency-key": "one"})
    await admin.patch("/products/tea", title={"en": "Best tea"})
    await world.work()
    found = {each["type"]: each["data"] for each in told(receiver, made["secret"])}
    assert found["product.changed"] == {"id": "tea", "url": "http://msingi.test/v1/shop/products/tea"}
    assert (found["stock.low"]["variant_id"], found["stock.low"]["low_at"]) == ("tea-250", 1000)


async def test_the_secret_is_shown_to_who_makes_it_and_never_again(admin: Client, receiver: Receiver) -> None:
    made = await endpoint(admin, receiver)
    assert admin.last.headers["cache-control"] == "no-store"
    assert admin.last.headers["location"] == f"/v1/shop/webhooks/{made['id']}"
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", made["secret"])
    rotated = await admin.post(f"/webhooks/{made['id']}/secrets", overlap_hours=1, expect=201)
    assert rotated["secret"] != made["secret"]
    ended = await admin.post(f"/webhooks/{made['id']}/secrets", overlap_hours=0, expect=201)
    assert ended["old_until"] is None
    for path in ("/webhooks", f"/webhooks/{made['id']}"):
        assert "whsec_" not in json.dumps(await admin.get(path))


async def test_a19_making_an_endpoint_and_changing_its_secret_want_a_fresh_proof(
    world: World, admin: Client, receiver: Receiver
) -> None:
    made = await endpoint(admin, receiver)
    with clock.shifted(timedelta(minutes=-6)):
        long_ago = world.client(PEOPLE["admin"])
    async with long_ago.http:
        for path, sent in (
            ("/webhooks", {"url": receiver.url, "events": ["*"]}),
            (f"/webhooks/{made['id']}/secrets", {}),
        ):
            refused = await long_ago.post(path, json=sent, expect=401)
            assert refused["code"] == "insufficient_user_authentication"
        await long_ago.get(f"/webhooks/{made['id']}")


async def test_a_manager_may_and_support_may_not(world: World, receiver: Receiver) -> None:
    for role, status in (("shop_manager", 200), ("shop_owner", 200), ("shop_support", 403), ("shop_warehouse", 403)):
        client = world.client(Actor(id=role, roles=frozenset({"user", role}), methods=frozenset({"pwd"})))
        async with client.http:
            await client.get("/webhooks", expect=status)


async def test_what_is_wrong_with_an_endpoint_is_said_at_once(admin: Client, receiver: Receiver) -> None:
    async def refused(url: str, *events: str) -> str:
        code: str = (await admin.post("/webhooks", url=url, events=list(events), expect=422))["code"]
        return code

    assert await refused("http://10.0.0.1/", "*") == "address_refused"
    assert await refused("file:///etc/passwd", "*") == "address_refused"
    assert await refused(receiver.url, "order.eaten") == "unknown_webhook_events"
    assert await refused(receiver.url) == "invalid_fields"
    assert (await admin.get("/webhooks"))["items"] == []
    known = {each["type"] for each in (await admin.get("/webhooks/events"))["items"]}
    assert known == set(rules.KINDS)


async def test_an_endpoint_is_changed_turned_off_and_on_and_removed(
    world: World, admin: Client, receiver: Receiver
) -> None:
    made = await endpoint(admin, receiver, "stock.low")
    path = f"/webhooks/{made['id']}"
    changed = await admin.patch(path, events=["order.*", "order.*"], note="ERP", headers={"if-match": '"1"'})
    assert (changed["events"], changed["note"], changed["version"]) == (["order.*"], "ERP", 2)
    assert (await admin.patch(path, note="x", headers={"if-match": '"1"'}, expect=409))["code"] == "stale"
    off = await admin.patch(path, active=False)
    assert (off["active"], off["off"]) == (False, "by_hand")
    assert (await admin.post(f"{path}/pings", expect=409))["code"] == "webhook_is_off"
    assert (await admin.patch(path, active=True))["active"] is True
    await admin.delete(path, expect=204)
    await admin.get(path, expect=404)


async def test_the_log_shows_each_try_and_sends_again(world: World, admin: Client, receiver: Receiver) -> None:
    made = await endpoint(admin, receiver)
    path = f"/webhooks/{made['id']}"
    receiver.answer = lambda got: answer(500, b"no")
    ping = await admin.post(f"{path}/pings", expect=202)
    await world.work()
    failed = await admin.get(f"{path}/deliveries/{ping['id']}")
    assert (failed["state"], failed["status"], failed["answer"], failed["tries"]) == ("failed", 500, "no", 1)
    assert failed["payload"] == json.loads(receiver.got[0].body)
    assert (await admin.post(f"{path}/deliveries/{ping['id']}/replays", expect=409))["code"] == "delivery_on_its_way"
    receiver.answer = lambda got: answer()
    with clock.shifted(timedelta(minutes=5)):
        await hooks.look()
        await world.work()
    await admin.post(f"{path}/deliveries/{ping['id']}/replays", expect=202)
    await world.work()
    replayed = await admin.post(f"{path}/replays", since=failed["created_at"], which="all", expect=202)
    assert replayed == {"count": 1, "more": False}
    await world.work()
    assert [got.id for got in receiver.got] == [ping["message_id"]] * 4
    for _ in range(2):
        await admin.post(f"{path}/pings", expect=202)
    first = await admin.get(f"{path}/deliveries?limit=2&type=ping")
    rest = await admin.get(f"{path}/deliveries?limit=2&after={first['next']}")
    assert ([each["state"] for each in first["items"]], rest["next"]) == (["waiting", "waiting"], None)
    assert [each["id"] for each in rest["items"]] == [ping["id"]]
    assert len((await admin.get(f"{path}/deliveries?state=delivered"))["items"]) == 1
    assert "payload" not in first["items"][0]


async def test_who_made_it_hears_once_that_it_was_turned_off(
    world: World, bank: Bank, admin: Client, receiver: Receiver
) -> None:
    made = await endpoint(admin, receiver)
    receiver.answer = lambda got: answer(410)
    await admin.post(f"/webhooks/{made['id']}/pings", expect=202)
    await world.work()
    shown = await admin.get(f"/webhooks/{made['id']}")
    assert (shown["active"], shown["off"]) == (False, "gone")
    [letter] = await mail.written_to("admin@msingi.test")
    assert letter.template == "webhook_off"
    for language in ("en", "sw"):
        letter.language = language
        said = mail.rendered(letter)
        assert made["id"] in said.text
        assert "of-the-receiver" not in said.text


async def test_the_letter_waits_for_accounts(
    world: World, admin: Client, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await endpoint(admin, receiver)
    monkeypatch.delitem(peers._answerers, PEOPLE_ASKED.name, raising=False)
    receiver.answer = lambda got: answer(410)
    await admin.post(f"/webhooks/{made['id']}/pings", expect=202)
    with pytest.raises(AssertionError, match="write_to_owner"):
        await world.work()


async def test_who_is_erased_is_forgotten_here_too(
    world: World, bank: Bank, ann: Client, admin: Client, receiver: Receiver
) -> None:
    made = await endpoint(admin, receiver, "order.placed")
    receiver.answer = lambda got: answer(200, b"so it is Ann Wanjiru")
    await place(ann)
    await world.work()
    assert (await hooks.deliveries.find({"endpoint_id": made["id"]})) is not None
    await world.tell(UserErased(user_id="ann"))
    await world.work()
    assert await hooks.deliveries.find({"person": "ann"}) is None
    assert await hooks.deliveries.find({"endpoint_id": made["id"]}) is None


def test_each_line_of_a_history_that_is_told_is_an_event_that_is_known() -> None:
    assert set(rules.OF_ORDERS.values()) | {"order.placed"} == {each for each in rules.KINDS if each[:5] == "order"}
    changed = PaymentChanged("p", "shop.order:o", "captured", 100, 0)
    assert rules.payment_kind(changed) == "payment.captured"
    assert rules.payment_kind(PaymentChanged("p", "shop.order:o", "captured", 100, 50)) == "payment.refunded"
    assert rules.payment_kind(PaymentChanged("p", "shop.order:o", "pending", 0, 0)) is None
    assert order_rules.order_of(changed.purpose) == "o"


NODE = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node here")


@pytest.mark.parametrize("language", ["python", pytest.param("js", marks=NODE)])
async def test_p2_the_examples_of_the_contract_take_what_is_ours_and_nothing_else(
    world: World, admin: Client, receiver: Receiver, tmp_path: Path, language: str
) -> None:
    made = await endpoint(admin, receiver)
    await admin.post(f"/webhooks/{made['id']}/pings", expect=202)
    await world.work()
    [got] = receiver.got
    block = re.search(rf"```{language}\n(.*?)```", CONTRACT.read_text(), re.DOTALL)
    assert block is not None
    run = [sys.executable, "-c"] if language == "python" else ["node", "-e"]
    program = block[1] + ASK[language]
    forged = Got(got.path, got.headers, got.body.replace(b"ping", b"pong"))
    old = Got(got.path, {**got.headers, "webhook-timestamp": str(int(clock.seconds()) - 600)}, got.body)
    asked = [[each.headers, each.body.decode(), made["secret"]] for each in (got, forged, old)]
    said = await asyncio.to_thread(
        subprocess.run, [*run, program], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert said.stdout.split() == ["true", "false", "false"], said.stderr


ASK = {
    "python": """
import json, sys
for headers, body, secret in json.load(sys.stdin):
    print(str(is_ours(headers, body.encode(), secret)).lower())
""",
    "js": """
for (const [headers, body, secret] of JSON.parse(require("node:fs").readFileSync(0, "utf8")))
  console.log(isOurs(headers, Buffer.from(body), secret));
""",
}
