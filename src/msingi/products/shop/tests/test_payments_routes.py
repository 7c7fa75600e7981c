"""Payments over HTTP: what providers tell and what staff sees; and that all that is counted follows from history."""

import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from msingi.kit import clock, state
from msingi.kit.drift import Drift
from msingi.kit.payments.mpesa import MPesa
from msingi.kit.payments.stripe import Stripe
from msingi.kit.testing import Client, World
from msingi.kit.unit import alone
from msingi.products.shop.models.orders import orders
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.models.stock import stocks
from msingi.products.shop.queries import verifying
from msingi.products.shop.tests.ordering import bank, paid, place, products
from msingi.products.shop.till import Providers

__all__ = ["bank", "products"]  # fixtures
SECRET = "whsec_of_the_tests"
NOWHERE = "http://127.0.0.1:9"


@pytest_asyncio.fixture(loop_scope="session")
async def providers(world: World) -> AsyncIterator[MPesa]:
    """Both real adapters, of which nobody is there to be asked."""
    mpesa = MPesa(
        url=NOWHERE,
        key="key",
        secret="secret",
        passkey="passkey",
        shortcode="174379",
        callbacks="http://msingi.test/v1/shop/callbacks/mobile",
        callback_secret="of the tests",
    )
    parts = state.current().parts
    before = parts[ShopSettings]
    parts[ShopSettings] = msgspec.structs.replace(before, stripe_webhook_secret=SECRET)
    parts[Providers] = Providers({"stripe": Stripe("sk_test_nobody", url=NOWHERE), "mpesa": mpesa})
    yield mpesa
    parts[ShopSettings] = before
    del parts[Providers]


def signed(body: bytes, secret: str = SECRET, at: int | None = None) -> dict[str, str]:
    """The header with which Stripe signs a body."""
    when = int(clock.seconds()) if at is None else at
    mac = hmac.new(secret.encode(), f"{when}.".encode() + body, hashlib.sha256).hexdigest()
    return {"stripe-signature": f"t={when},v1={mac}", "content-type": "application/json"}


def event(id: str = "evt_1") -> bytes:
    """An event of a payment intent that nobody here has begun."""
    intent = {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 5000,
        "amount_received": 5000,
        "currency": "kes",
        "status": "succeeded",
        "metadata": {"msingi_payment": "of-nobody-here"},
    }
    told = {"id": id, "object": "event", "type": "payment_intent.succeeded", "created": int(time.time())}
    return msgspec.json.encode({**told, "data": {"object": intent}})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(event(), "another secret"),
        signed(event("evt_2")),
        signed(event(), at=int(time.time()) - 600),
        signed(event(), at=int(time.time()) + 600),
        {"stripe-signature": "t=,v1="},
    ],
    ids=["unsigned", "another secret", "another body", "old", "of the future", "empty"],
)
async def test_p2_an_event_that_stripe_did_not_sign_now_is_refused_and_not_kept(
    providers: MPesa, nobody: Client, headers: dict[str, str]
) -> None:
    refused = await nobody.ask("POST", "/callbacks/cards", content=event(), headers=headers, expect=400)
    assert refused["code"] == "bad_callback"
    assert await state.database("shop")["payment_facts"].count_documents({}) == 0


async def test_p2_a_signed_event_is_kept_once_however_often_it_comes(providers: MPesa, nobody: Client) -> None:
    for _ in range(3):
        answer = await nobody.ask("POST", "/callbacks/cards", content=event(), headers=signed(event()), expect=200)
        assert answer == {"received": True}
    assert await state.database("shop")["payment_facts"].count_documents({}) == 1


async def test_a_callback_of_mpesa_wants_the_very_address_that_was_made_for_it(
    providers: MPesa, nobody: Client
) -> None:
    body = msgspec.json.encode(
        {
            "Body": {
                "stkCallback": {
                    "MerchantRequestID": "29115-34620561-1",
                    "CheckoutRequestID": "ws_CO_191220191020363925",
                    "ResultCode": 1032,
                    "ResultDesc": "Request cancelled by user.",
                }
            }
        }
    )
    made = providers.address("push", "a-payment").rpartition("/")[2]
    for address in (made.replace("a-payment", "b-payment"), made[:-1] + ("0" if made[-1] != "0" else "1"), "push.x.y"):
        refused = await nobody.ask("POST", f"/callbacks/mobile/{address}", content=body, expect=400)
        assert refused["code"] == "bad_callback"
    taken = await nobody.ask("POST", f"/callbacks/mobile/{made}", content=body, expect=200)
    assert taken["ResultCode"] == 0


async def test_callbacks_may_be_kept_to_the_networks_of_the_provider(providers: MPesa, nobody: Client) -> None:
    parts = state.current().parts
    parts[ShopSettings] = msgspec.structs.replace(parts[ShopSettings], mpesa_addresses="196.201.214.0/24")
    made = providers.address("check", "174379").rpartition("/")[2]
    await nobody.ask("POST", f"/callbacks/mobile/{made}", content=b"{}", expect=400)
    parts[ShopSettings] = msgspec.structs.replace(parts[ShopSettings], mpesa_addresses="196.201.214.0/24, 127.0.0.0/8")
    await nobody.ask("POST", f"/callbacks/mobile/{made}", content=b"{}", expect=200)


async def test_the_ways_to_pay_are_those_that_take_the_sum(providers: MPesa, nobody: Client) -> None:
    async def ways(amount: int, currency: str) -> Any:
        return (await nobody.get(f"/payment-ways?amount={amount}&currency={currency}"))["ways"]

    assert await ways(12_000, "KES") == ["stripe", "mpesa"]
    assert await ways(12_050, "KES") == ["stripe"]  # half a shilling
    assert await ways(12_000, "USD") == ["stripe"]


async def test_staff_sees_payments_and_asks_anew_and_the_ledger_adds_up(
    world: World, bank: Any, ann: Client, admin: Client
) -> None:
    order_id = await paid(ann, bank, world)
    [payment] = (await admin.get("/payments?state=captured"))["items"]
    assert payment["purpose"] == f"shop.order:{order_id}"
    assert "phone" not in payment
    assert (await admin.post(f"/payments/{payment['id']}/look"))["captured"] == payment["amount"]
    assert (await admin.get("/payments?state=failed"))["items"] == []
    balances = await admin.get("/ledger")
    assert {each["account"] for each in balances} >= {"provider:bank"}
    assert sum(each["amount"] for each in balances) == 0


async def test_everything_agrees_and_each_thing_that_does_not_is_named(
    world: World, bank: Any, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "SETTLED_IN", 0)
    order_id = await paid(ann, bank, world)
    await place(ann, {"coffee-500": 1})
    await world.work()
    assert await verifying.verify() == []
    kept = await orders.get(order_id)
    async with alone():
        await orders.change(order_id, {"$inc": {"paid": -100, "totals.goods": 1}})
        await stocks.change("tea-250.nairobi", {"$inc": {"allocated": 1}})
    total, goods = kept.totals.total, kept.totals.goods
    found = [each for each in await verifying.verify() if each.what != "sales_of_order"]
    assert {(each.what, each.id, each.expected, each.found) for each in found} == {
        ("order_paid", order_id, total, total - 100),
        ("order_goods", order_id, goods, goods + 1),
        ("order_total", order_id, total + 1, total),
        ("stock_allocated_to_orders", "tea-250.nairobi", 2, 3),
        ("stock_allocated", "tea-250.nairobi", 2, 3),
    }


async def test_what_was_only_under_way_is_no_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([[Drift("paid", "a", 1, 0), Drift("paid", "b", 1, 0)], [Drift("paid", "b", 1, 0)]])

    async def look() -> list[Drift]:
        return next(looks)

    monkeypatch.setattr(verifying, "SETTLED_IN", 0)
    monkeypatch.setattr(verifying, "_look", look)
    assert await verifying.verify() == [Drift("paid", "b", 1, 0)]
