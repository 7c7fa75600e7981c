"""The shop as processes: followed live by the official JavaScript client, and killed in the midst of orders.

On a house of this file's own, whose payments go to the sandbox, a process of its own too.
"""

import collections
import hashlib
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page
from tests.serving import Served, wait_until
from tests.test_shop_checks import House, shop_house

from msingi import cli
from msingi.checks.shop import market, payments
from msingi.checks.shop.market import ORDER_TOKEN, SHOP, Buyer, Good, Order
from msingi.checks.shop.orders import sending
from msingi.kit.payments.stripe_facts import PAYMENT
from msingi.kit.testing import NEARBY
from msingi.products.shop.rules.carts import cart_of_guest

pytestmark = pytest.mark.timeout(300)  # with the house's start
CLIENT = Path(__file__).parent / "vendor/socket.io.min.js"
STATES = ["confirmed", "partly_shipped", "shipped", "delivered"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Accounts and the shop."""
    with shop_house(tmp_path_factory.mktemp("shop")) as house:
        yield house


# ---- followed live

# The official client, as a page would use it: it comes back by itself, and says where it stood.
LISTEN = """({auth, topic}) => new Promise((done, failed) => {
  window.heard = []; window.opened = 0; window.stood = undefined;
  window.socket = io({transports: ["websocket"], auth, reconnectionDelay: 100});
  socket.on("message", (message) => { heard.push(message); stood = message.id; });
  socket.on("resync", () => heard.push({kind: "resync"}));
  socket.on("gone", () => heard.push({kind: "gone"}));
  socket.on("connect_error", (error) => failed(new Error(error.message)));
  socket.on("connect", async () => {
    const answer = await socket.timeout(20000).emitWithAck("subscribe", {topic, after: stood});
    stood ??= answer.id; opened += 1; done(answer);
  });
})"""

# What a page of a guest may do without that client: `EventSource` sends no headers, `fetch` does.
FETCH = """async ({topic, token}) => {
  window.read = "";
  const answer = await fetch(`/v1/shop/live?topic=${topic}`, {headers: {"X-Order-Token": token}});
  (async () => { for await (const part of answer.body.pipeThrough(new TextDecoderStream())) read += part; })();
  return answer.status;
}"""


def test_the_client_is_the_one_that_was_published() -> None:
    digest = hashlib.sha256(CLIENT.read_bytes()).hexdigest()
    told = (CLIENT.parent / "VENDORED.md").read_text()
    assert f"| {CLIENT.name} | socket.io-client | 4.8.4 | MIT | {digest} |" in told


@pytest.mark.parametrize("who", ["customer", "guest"])
def test_c2_the_official_javascript_client_sees_an_order_move(house: House, browser: Browser, who: str) -> None:
    context = browser.new_context()
    try:
        with house.world() as world:
            good = market.new_good(world, stock=2)
            buyer = Buyer(world, world.person("Buyer") if who == "customer" else None)
            order = buyer.order(good, 2, pay={"provider": "stripe"})
            page, topic = context.new_page(), f"shop/orders/{order.id}"
            page.goto(house.served.url)
            page.evaluate(CLIENT.read_text())
            assert refused(page, {"token": "x"}, topic) == "sign_in_first"
            assert refused(page, {"topic": topic, "key": "x"}, topic) == "not_found"
            answer = page.evaluate(LISTEN, {"auth": auth_of(order, topic), "topic": topic})
            assert answer["ok"] is True
            if who == "guest":
                told = {"topic": topic, "token": order.headers[ORDER_TOKEN]}
                assert page.evaluate(FETCH, told) == 200
                until(page, "read.includes('id: ')")
            payments.decide(world, order, "pay")
            until(page, "heard.some((each) => each.data.state === 'confirmed')")
            ship(world, order)
            page.evaluate("socket.io.engine.close()")  # the line breaks, and the order moves on
            ship(world, order)
            until(page, "opened === 2")
            arrive(world, order)
            until(page, "heard.some((each) => each.data.state === 'delivered')")
            heard = page.evaluate("heard")
            if who == "guest":
                until(page, "read.includes('delivered')")
                assert re.findall(r'"id":"([\d-]+)"', page.evaluate("read")) == [each["id"] for each in heard]
    finally:
        context.close()
    assert {each["kind"] for each in heard} == {"order_changed"}
    states = list(dict.fromkeys(each["data"]["state"] for each in heard))
    assert [each for each in states if each != "awaiting_payment"] == STATES
    assert len({each["id"] for each in heard}) == len(heard)


def until(page: Page, true: str) -> None:
    """Wait until this is true in the page, whose policy forbids the tool's own way to wait for it."""
    wait_until(lambda: page.evaluate(true), 60)


def auth_of(order: Order, topic: str) -> dict[str, str]:
    """What the buyer of an order greets with."""
    if order.headers:
        return {"topic": topic, "key": order.headers[ORDER_TOKEN]}
    return {"token": order.buyer.caller.authorization()["Authorization"].removeprefix("Bearer ")}


def refused(page: Page, auth: dict[str, str], topic: str) -> str:
    """What the client is told that may not come in."""
    tried = "async (told) => { try { await (%s)(told); return ''; } catch (error) { return error.message; } }"
    message = page.evaluate(tried % LISTEN, {"auth": auth, "topic": topic})
    page.evaluate("socket.disconnect()")
    return str(message)


def ship(world: Any, order: Order) -> None:
    order.ask("POST", "/shipments", sending(world, 1), caller=world.admin).want(201)


def arrive(world: Any, order: Order) -> None:
    for parcel in order.seen().data["shipments"]:
        rest = f"/shipments/{parcel['id']}/delivery"
        order.ask("PUT", rest, {"code": parcel["code"]}, caller=world.admin).want(200)


# ---- killed

BUYERS = 4
LATE_REPLIES = [{"fault": "late_reply", "seconds": 0.7}] * 2  # long enough to die between the charge and its answer


class Shoppers:
    """People who order without a pause, half of them by phone, half by card.

    Each order has a key, and is asked for again with it until it is acknowledged; an order that a killed process was at
    is left for later, since until its lease is over it is answered with 409.
    """

    def __init__(self, house: House, goods: list[Good], form: dict[str, Any]) -> None:
        self.house, self.goods, self.form = house, goods, form
        self.over, self.lock = threading.Event(), threading.Lock()
        self.asked: dict[str, tuple[dict[str, Any], str]] = {}  # by key: the form, and the cart's token
        self.orders: dict[str, dict[str, Any]] = {}  # by key: what was acknowledged
        self.statuses: collections.Counter[int | str] = collections.Counter()
        self.faults: list[Exception] = []
        self.threads = [threading.Thread(target=self._shop, args=(number,)) for number in range(BUYERS)]

    def __enter__(self) -> "Shoppers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _shop(self, number: int) -> None:
        try:
            with self.house.served.client() as client:
                for turn in range(10_000):
                    if self.over.is_set():
                        return
                    self._order(client, f"{number}-{turn}", "mpesa" if turn % 2 else "stripe")
        except Exception as fault:  # a thread's own would be nobody's
            self.faults.append(fault)

    def _order(self, client: httpx.Client, key: str, provider: str) -> None:
        token = ""
        for good in self.goods:
            reply = self._until_answered(client, "PUT", f"/cart/lines/{good.variant_id}", {"quantity": 1}, token)
            if reply is None:
                return
            token = reply.headers.get("x-cart-token", token)
        pay = {"provider": "stripe"} if provider == "stripe" else {"provider": "mpesa", "phone": payments.PHONE}
        self.asked[key] = ({**self.form, "pay": pay, "email": f"{key}@check.example.org"}, token)
        self.ask(client, key)

    def ask(self, client: httpx.Client, key: str) -> None:
        """Ask for an order until it is acknowledged, or somebody else is at it; and pay it, if it is by card."""
        form, token = self.asked[key]
        reply = self._until_answered(client, "POST", "/checkout", form, token, key)
        if reply is not None and reply.status_code == 201:
            with self.lock:
                self.orders[key] = reply.json()
            self._pay(self.orders[key])

    def _pay(self, order: dict[str, Any]) -> None:
        """What the buyer does on the page of the card provider, as soon as the order says where that is."""
        secret = order["payments"][-1].get("action", {}).get("client_secret", "") if order["payments"] else ""
        if secret:
            pressed = {"decision": "pay", "card": payments.GOOD_CARD}
            httpx.post(f"{self.house.sandbox}/stripe/pay/{secret}", data=pressed, timeout=20, **NEARBY)

    def are_settled(self) -> bool:
        """Whether who pays by card has paid, and all that phones and cards have paid has become an order.

        What phones tell is let go each time: the last of them may not have been asked yet the time before.
        """
        control(self.house, release="shuffled")
        with self.house.served.client() as client:
            for key, order in self.orders.items():
                if self.asked[key][0]["pay"]["provider"] == "stripe" and order.get("paid", 0) == 0:
                    self.orders[key] |= {"paid": self._seen(client, order)["paid"]}
                    self._pay(self._seen(client, order))
        return is_all_money_known(self.house)

    def _seen(self, client: httpx.Client, order: dict[str, Any]) -> dict[str, Any]:
        reply = client.get(f"{SHOP}/orders/{order['id']}", headers={ORDER_TOKEN: order["order_token"]})
        seen: dict[str, Any] = reply.raise_for_status().json()
        return seen

    def _until_answered(
        self, client: httpx.Client, method: str, path: str, form: dict[str, Any], token: str, key: str = ""
    ) -> httpx.Response | None:
        """The answer, once there is one; None if somebody is still at it, or the test is over."""
        headers = {"X-Cart-Token": token} if token else {}
        headers |= {"Idempotency-Key": key} if key else {}
        for _ in range(1_000):
            status: int | str
            try:
                reply = client.request(method, SHOP + path, json=form, headers=headers)
                status = reply.status_code
            except httpx.TransportError as error:
                status = type(error).__name__
            with self.lock:
                self.statuses[status] += 1
            if status == 409 and reply.json()["code"] == "still_working":
                return None
            if isinstance(status, int) and status != 503:
                assert status in (200, 201), reply.text
                return reply
            if self.over.is_set() and isinstance(status, int):
                return None
            time.sleep(0.05)
        raise AssertionError(f"{method} {path} was never answered")

    def more(self, orders: int = 4) -> None:
        """Wait until so many more are acknowledged."""
        so_far = len(self.orders)
        wait_until(lambda: self.faults or len(self.orders) >= so_far + orders, 60)
        assert not self.faults, self.faults

    def are_acknowledged(self) -> bool:
        """Whether each key has its order: those that have none are asked for once more."""
        assert not self.faults, self.faults
        let_time_pass(self.house.served)
        with self.house.served.client() as client:
            for key in sorted(set(self.asked) - set(self.orders)):
                self.ask(client, key)
        return self.orders.keys() == self.asked.keys()

    def look_at_some(self) -> None:
        """Asked for again, an order is the same; and it is there, paid once, for who has its token."""
        with self.house.served.client() as client:
            for key, order in random.sample(sorted(self.orders.items()), 10):
                form, token = self.asked[key]
                headers = {"X-Cart-Token": token, "Idempotency-Key": key}
                again = client.post(f"{SHOP}/checkout", json=form, headers=headers)
                assert (again.status_code, again.json()["id"]) == (201, order["id"])
                assert self._seen(client, order)["id"] == order["id"]


def test_c2_c8_c9_p1_processes_killed_between_charge_and_order_lose_no_money_and_no_order(house: House) -> None:
    served = house.served
    with house.world() as world:
        goods = [market.new_good(world, stock=5_000, price=price) for price in (12_000, 25_000)]
        probe = Buyer(world)
        for good in goods:
            probe.put(good)
        control(house, settings={"accept_after": 0.05}, faults={"mpesa.callback": [{"fault": "held"}] * 5_000})
        with Shoppers(house, goods, probe.form()) as shoppers:
            shoppers.more()
            for victims in ("one of the web", "worker", "web", "worker"):
                control(house, faults={"mpesa.push": LATE_REPLIES})
                time.sleep(random.uniform(0, 0.5))
                kill(served, victims)
                shoppers.more()
        wait_until(shoppers.are_acknowledged, 120)
        wait_until(shoppers.are_settled, 120)
        paid = check_money(house, shoppers)
        for good in goods:
            now = market.counts(world, good)
            assert (now.data["on_hand"], now.data["allocated"]) == (5_000, paid), now.data
    assert shoppers.statuses.keys() & {"RemoteProtocolError", "ReadError", "ConnectError"}, shoppers.statuses
    shoppers.look_at_some()
    wait_until(lambda: verified(served), 60)  # the ledger and the invoices follow by events


def verified(served: Served) -> bool:
    """Whether all that the shop counts agrees with its history; what does not is shown."""
    done = subprocess.run(cli.ours("verify", "shop"), env=served.environ, capture_output=True, text=True, timeout=60)
    print(done.stdout)
    return (done.returncode, done.stdout) == (0, "All that shop counts agrees with its history.\n")


def kill(served: Served, victims: str) -> None:
    """SIGKILL, without a word before: of all of a part, which whoever watches it starts anew, or of one web process.

    That one is the oldest, since Granian ends by itself where the same one dies twice within seconds.
    """
    if victims != "one of the web":
        process = served.running.pop(victims)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        served.start(victims)
        return
    there = sorted(served.web_processes(), key=lambda pid: psutil.Process(pid).create_time())
    os.kill(there[0], signal.SIGKILL)
    wait_until(lambda: there[0] not in served.web_processes() and len(served.web_processes()) == 2, 60)


def control(house: House, **wish: Any) -> None:
    httpx.post(f"{house.sandbox}/control", json=wish, timeout=60, **NEARBY).raise_for_status()


def let_time_pass(served: Served) -> None:
    """What those who were killed held is free after a minute: as if it were over."""
    with served.mongo as mongo:
        shop = mongo[f"{served.settings.database}_shop"]
        shop["idempotency"].update_many({"state": "open"}, [{"$set": {"lease_until": "$$NOW"}}])
        held = {"leased_until": {"$type": "date"}}
        shop["payments"].update_many(held, [{"$set": {"leased_until": "$$NOW", "ask_at": "$$NOW"}}])


def is_all_money_known(house: House) -> bool:
    """Whether the shop knows of all that phones and cards have paid, and has confirmed what it paid for."""
    phones, cards = receipts(house), card_payments(house)
    with house.served.mongo as mongo:
        shop = mongo[f"{house.served.settings.database}_shop"]
        known = list(shop["payments"].find({"captured": {"$gt": 0}}))
        orders = [each["purpose"].rpartition(":")[2] for each in known]
        confirmed = shop["orders"].count_documents({"_id": {"$in": orders}, "state": {"$in": STATES}})
    told = {receipt for each in known for receipt in each["receipts"]}
    return phones.keys() <= told and cards.keys() <= {each["_id"] for each in known} and confirmed == len(known)


def check_money(house: House, shoppers: Shoppers) -> int:
    """Each key made one order; each charge pays one order, and all of it; the rest is not paid. Returns how many are.

    A prompt that a process died before sending is sent by nobody else, since a phone might be asked twice.
    """
    with house.served.mongo as mongo:
        shop = mongo[f"{house.served.settings.database}_shop"]
        carts = [cart_of_guest(token) for _, token in shoppers.asked.values()]
        found = {f"shop.order:{each['_id']}": each for each in shop["orders"].find({"cart_id": {"$in": carts}})}
        known = list(shop["payments"].find({"purpose": {"$in": list(found)}, "captured": {"$gt": 0}}))
    assert sorted(each["cart_id"] for each in found.values()) == sorted(carts)
    assert {each["_id"] for each in found.values()} == {each["id"] for each in shoppers.orders.values()}
    phones, cards = receipts(house), card_payments(house)
    charges = {each["_id"]: [phones[it] for it in each["receipts"] if it in phones] for each in known}
    for each in known:
        charges[each["_id"]] += cards.get(each["_id"], [])
        order = found.pop(each["purpose"])  # fails for the second that paid one order
        assert charges[each["_id"]] == [each["captured"]] == [order["totals"]["total"]] == [order["paid"]]
        assert (order["state"], order["refunded"]) == ("confirmed", 0)
    assert {(each["state"], each["paid"]) for each in found.values()} <= {("awaiting_payment", 0)}
    assert len(known) > len(found), "most are paid"
    return len(known)


def receipts(house: House) -> dict[str, int]:
    """What phones have paid, by receipt, in cents."""
    text = httpx.get(f"{house.sandbox}/mpesa/statement", timeout=20, **NEARBY).text
    rows = re.findall(r'^(\w+),[^,]*,Pay Bill Online,Completed,"([\d,]+)\.00",', text, re.MULTILINE)
    return {receipt: int(amount.replace(",", "")) * 100 for receipt, amount in rows}


def card_payments(house: House) -> dict[str, list[int]]:
    """What cards have paid, by the id of our payment."""
    found: dict[str, list[int]] = collections.defaultdict(list)
    query: dict[str, Any] = {"limit": 100}
    while True:
        told = httpx.get(
            f"{house.sandbox}/stripe/v1/payment_intents",
            params=query,
            headers={"Authorization": "Bearer sk_test_sandbox"},
            timeout=20,
            **NEARBY,
        ).raise_for_status()
        rows = told.json()["data"]
        for each in rows:
            if each["amount_received"]:
                found[each["metadata"][PAYMENT]].append(each["amount_received"])
        if not told.json()["has_more"]:
            return found
        query["starting_after"] = rows[-1]["id"]
