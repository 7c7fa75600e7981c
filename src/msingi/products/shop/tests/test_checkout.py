"""From a cart to an order over HTTP: each promise of docs/contracts/shop-orders.md about ordering holds."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from msingi.kit import idempotency, mail, state
from msingi.kit.mail import rendered
from msingi.kit.payments.models import payments
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import PEOPLE, Client, World
from msingi.kit.unit import alone
from msingi.products.shop.actions import checkout, coupons, money
from msingi.products.shop.actions import stock as stock_actions
from msingi.products.shop.models.carts import carts
from msingi.products.shop.models.orders import orders
from msingi.products.shop.models.pricing import Coupon
from msingi.products.shop.models.pricing import coupons as coupon_rows
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.models.stock import stocks
from msingi.products.shop.queries.orders import database_now, payments_of
from msingi.products.shop.tests.ordering import (
    ADDRESS,
    Killed,
    bank,
    check_snapshot,
    die_once,
    drifts,
    figures,
    fill,
    form,
    key,
    place,
    products,
    total_of,
)
from msingi.products.shop.tests.small_shop import reprice
from msingi.products.shop.till import Providers

__all__ = ["bank", "products"]


# ---- what is ordered


async def test_what_is_in_the_cart_is_ordered_at_the_prices_of_now(ann: Client, bank: Bank) -> None:
    await fill(ann, {"tea-250": 2, "kikoi-blue": 1})
    await reprice("tea-250", 13_000)
    placed = await place(ann, {}, shipping_id="nairobi-rider")
    assert placed["state"] == "awaiting_payment"
    assert placed["totals"]["goods"] == 2 * 13_000 + 150_000
    assert placed["totals"]["shipping"] == 20_000
    assert placed["totals"]["total"] == 196_000
    assert placed["totals"]["tax"] > 0
    assert {(each["variant_id"], each["quantity"], each["price"]) for each in placed["lines"]} == {
        ("tea-250", 2, 13_000),
        ("kikoi-blue", 1, 150_000),
    }
    assert placed["email"] == "ann@msingi.test"
    assert placed["address"]["town"] == "Nairobi"
    assert placed["shipping_name"] == {"en": "Rider in Nairobi", "sw": "Bodaboda Nairobi"}
    assert ann.last.headers["location"] == f"/v1/shop/orders/{placed['id']}"
    assert not {"order_token", "customer_id", "steps", "guest", "person"} & set(placed)
    check_snapshot(await orders.get(placed["id"]))


async def test_the_order_is_held_and_its_payment_is_asked_for(ann: Client, bank: Bank) -> None:
    before = await database_now()
    placed = await place(ann, {"tea-250": 2})
    (payment,) = placed["payments"]
    assert (payment["provider"], payment["state"], payment["amount"]) == ("bank", "pending", 24_000)
    assert payment["action"] == {"kind": "prompt"}
    assert await figures("tea-250") == (100, 0, 1)
    order = await orders.get(placed["id"])
    held = (await stocks.get("tea-250.nairobi")).holds[0]
    assert order.held_until <= held.until
    assert abs(order.held_until - before - timedelta(seconds=900)) < timedelta(seconds=10)
    assert bank.calls == [("begin", f"{order.id}-1")]
    assert bank.accounts[f"{order.id}-1"].asked.note == order.number
    assert order.payment_ids == [f"{order.id}-1"]
    assert [each.kind for each in order.timeline] == ["placed", "payment_asked"]


async def test_the_cart_is_empty_afterwards(ann: Client, bank: Bank) -> None:
    await place(ann)
    assert (await ann.get("/cart"))["lines"] == []
    refused = await ann.post("/checkout", json=form(24_000), headers=key(), expect=409)
    assert refused["code"] == "cart_empty"


async def test_p2_prices_from_a_client_are_not_taken(ann: Client, bank: Bank) -> None:
    await fill(ann, {"tea-250": 1})
    for more in ({"total": 1}, {"lines": [{"variant_id": "tea-250", "price": 1}]}, {"totals": {"total": 1}}):
        refused = await ann.post("/checkout", json=form(12_000) | more, headers=key(), expect=422)
        assert refused["code"] == "invalid_fields"
    refused = await ann.post("/checkout", json=form(100), headers=key(), expect=409)
    assert (refused["code"], refused["total"], refused["expected"]) == ("total_changed", 12_000, 100)
    assert refused["totals"]["total"] == 12_000
    assert await orders.count({}) == 0
    assert await figures("tea-250") == (100, 0, 0)


async def test_a_price_that_changed_meanwhile_is_agreed_to_first(ann: Client, bank: Bank) -> None:
    await fill(ann, {"tea-250": 1})
    total = await total_of(ann)
    await reprice("tea-250", 12_500)
    refused = await ann.post("/checkout", json=form(total), headers=key(), expect=409)
    assert refused["code"] == "total_changed"
    await ann.post("/checkout", json=form(refused["total"]), headers=key(), expect=201)


async def test_an_order_keeps_its_prices_for_ever(ann: Client, bank: Bank) -> None:
    placed = await place(ann, {"tea-250": 1})
    await reprice("tea-250", 99_000)
    shown = await ann.get(f"/orders/{placed['id']}")
    assert (shown["lines"], shown["totals"]) == (placed["lines"], placed["totals"])


async def test_what_is_not_for_sale_is_named(ann: Client, bank: Bank) -> None:
    await fill(ann, {"coffee-500": 1})
    refused = await ann.post("/checkout", json=form(1, currency="USD"), headers=key(), expect=409)
    assert (refused["code"], refused["variants"]) == ("not_all_sold", ["coffee-500"])


async def test_what_is_sold_out_is_refused_and_nothing_is_held(ann: Client, bank: Bank) -> None:
    await fill(ann, {"kikoi-red": 2, "kikoi-blue": 2})
    total = await total_of(ann)
    refused = await ann.post("/checkout", json=form(total), headers=key(), expect=409)
    assert (refused["code"], refused["variant_id"], refused["left"]) == ("out_of_stock", "kikoi-blue", 1)
    assert await figures("kikoi-red") == (5, 0, 0)
    assert await figures("kikoi-blue") == (1, 0, 0)
    assert (await ann.get("/cart"))["lines"] != []


async def test_what_is_not_tracked_needs_no_stock(ann: Client, bank: Bank) -> None:
    placed = await place(ann, {"repair-1": 3})
    assert placed["totals"]["total"] == 150_000


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"shipping_id": "no-such"}, 422, "bad_shipping"),
        ({"shipping_id": "nairobi-rider", "address": ADDRESS | {"town": "Mombasa"}}, 422, "bad_shipping"),
        ({"pay": {"provider": "no-such"}}, 422, "no_such_way_to_pay"),
        ({"pay": None}, 422, "payment_needed"),
        ({"pay": {"provider": "bank", "phone": "0712"}}, 422, "invalid_fields"),
        ({"address": {"name": ""}}, 422, "invalid_fields"),
        ({"expected_total": -1}, 422, "invalid_fields"),
        ({"expected_total": "24000"}, 422, "invalid_fields"),
        ({"coupons": ["x"] * 11}, 422, "invalid_fields"),
        ({"language": "fr"}, 422, "invalid_fields"),
        ({"email": "ann@x,bob@x"}, 422, "invalid_fields"),
        ({"currency": "kes"}, 422, "invalid_fields"),
    ],
)
async def test_what_will_not_do_is_refused(
    ann: Client, bank: Bank, more: dict[str, Any], status: int, code: str
) -> None:
    await fill(ann, {"tea-250": 2})
    refused = await ann.post("/checkout", json=form(24_000) | more, headers=key(), expect=status)
    assert refused["code"] == code
    assert await orders.count({}) == 0
    assert await figures("tea-250") == (100, 0, 0)


async def test_i1_hostile_text_is_text(ann: Client, bank: Bank, world: World) -> None:
    name = "$where {{ 7*7 }}\u0000 <script>alert(1)</script>"
    placed = await place(ann, address=ADDRESS | {"name": name, "street": "$ne"})
    assert placed["address"]["name"] == name
    await world.work()
    (letter,) = await mail.written()
    assert "49" not in letter.text
    assert "<script>" not in rendered(letter).html


# ---- coupons


async def test_coupons_are_held_with_the_order_and_the_last_one_is_had_by_one(
    ann: Client, bob: Client, bank: Bank
) -> None:
    for client in (ann, bob):
        await fill(client, {"kikoi-red": 2})
        await client.put("/cart/coupons/ASANTE500")
    placed = await ann.post("/checkout", json=form(250_000), headers=key(), expect=201)
    assert placed["coupons"] == ["ASANTE500"]
    refused = await bob.post("/checkout", json=form(250_000), headers=key(), expect=409)
    assert refused["code"] == "total_changed"
    assert await figures("kikoi-red") == (5, 0, 1)
    assert len((await coupon_rows.get("ASANTE500")).uses) == 1


async def test_a_coupon_that_is_taken_at_the_last_moment_gives_the_goods_back(
    ann: Client, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(ann, {"kikoi-red": 2})
    await ann.put("/cart/coupons/ASANTE500")
    hold = stock_actions.hold

    async def and_meanwhile(*args: Any, **more: Any) -> Any:
        await coupons.hold_coupons("another", ["ASANTE500"], "eve", 900)
        return await hold(*args, **more)

    monkeypatch.setattr(stock_actions, "hold", and_meanwhile)
    refused = await ann.post("/checkout", json=form(250_000), headers=key(), expect=409)
    assert refused["code"] == "coupon_refused"
    assert await figures("kikoi-red") == (5, 0, 0)
    assert await orders.count({}) == 0


async def test_what_costs_nothing_needs_no_payment(ann: Client, bank: Bank, world: World) -> None:
    async with alone():
        await coupon_rows.add(Coupon(id="GIFT", kind="percent", value=10_000))
    await fill(ann, {"repair-1": 1})
    await ann.put("/cart/coupons/GIFT")
    placed = await ann.post("/checkout", json=form(0) | {"pay": None}, headers=key(), expect=201)
    await world.work()
    shown = await ann.get(f"/orders/{placed['id']}")
    assert (shown["state"], shown["payments"]) == ("confirmed", [])
    assert shown["invoice"] is not None
    assert bank.calls == []


# ---- guests


async def test_a_guest_orders_and_reads_the_order_with_its_token(nobody: Client, bank: Bank) -> None:
    placed = await place(nobody, email="eve@example.org")
    token = placed["order_token"]
    shown = await nobody.get(f"/orders/{placed['id']}", headers={"x-order-token": token})
    assert shown["email"] == "eve@example.org"
    assert "order_token" not in shown
    kept = await orders.raw.find_one({"_id": placed["id"]}) or {}
    assert token not in str(kept)
    assert "eve@example.org" not in str(kept)
    for wrong in ({}, {"x-order-token": ""}, {"x-order-token": token[:-1]}, {"x-order-token": kept["guest"]}):
        await nobody.get(f"/orders/{placed['id']}", headers=wrong, expect=404)


async def test_a_guest_needs_an_address_to_be_written_to(nobody: Client, bank: Bank) -> None:
    headers = await fill(nobody, {"tea-250": 1})
    refused = await nobody.post("/checkout", json=form(12_000), headers={**key(), **headers}, expect=422)
    assert refused["code"] == "contact_needed"


async def test_guests_are_written_to_in_their_language(nobody: Client, bank: Bank, world: World) -> None:
    placed = await place(nobody, email="eve@example.org", language="sw")
    await world.work()
    (letter,) = await mail.written()
    text = rendered(letter)
    assert text.subject == f"Oda {placed['number']}: asante"
    assert f"2 × {placed['lines'][0]['title']['sw']}" in text.text
    assert "240.00" in text.text.replace("\xa0", " ")
    assert text.html


# ---- once


async def test_p1_a_key_is_required(ann: Client, bank: Bank) -> None:
    await fill(ann, {"tea-250": 1})
    refused = await ann.post("/checkout", json=form(12_000), expect=400)
    assert refused["code"] == "idempotency_key_missing"


async def test_p1_the_same_checkout_posted_fifty_times_is_one_order_and_one_payment(
    ann: Client, bank: Bank, world: World
) -> None:
    await fill(ann, {"tea-250": 2})
    same, body = key(), form(24_000)

    async def post() -> tuple[int, bytes]:
        client = world.client(PEOPLE["ann"])
        async with client.http:
            await client.post("/checkout", json=body, headers=same, expect=[201, 409])
            return client.last.status_code, client.last.content

    answers = await asyncio.gather(*(post() for _ in range(50)))
    made = {content for status, content in answers if status == 201}
    assert len(made) == 1
    await ann.post("/checkout", json=body, headers=same, expect=201)
    assert ann.last.content in made
    assert ann.last.headers["idempotent-replayed"] == "true"
    assert await orders.count({}) == 1
    assert await payments("shop").count({}) == 1
    assert len(bank.accounts) == 1
    assert await figures("tea-250") == (100, 0, 1)
    refused = await ann.post("/checkout", json=form(24_001), headers=same, expect=422)
    assert refused["code"] == "idempotency_key_reused"


async def test_p1_one_cart_makes_one_order_whatever_keys_it_is_ordered_under(
    ann: Client, bank: Bank, world: World
) -> None:
    await fill(ann, {"tea-250": 2})

    async def post() -> int:
        client = world.client(PEOPLE["ann"])
        async with client.http:
            await client.post("/checkout", json=form(24_000), headers=key(), expect=[201, 409])
            return client.last.status_code

    assert Counter(await asyncio.gather(*(post() for _ in range(8))))[201] == 1
    assert await orders.count({}) == 1
    assert await figures("tea-250") == (100, 0, 1)
    assert len(bank.accounts) == 1


async def test_c15_two_hundred_buyers_for_the_last_one_make_one_order(bank: Bank, world: World) -> None:
    buyers = [world.client(None) for _ in range(200)]
    opened = []
    for client in buyers:
        opened.append(await fill(client, {"kikoi-blue": 1}))
    gate = asyncio.Semaphore(32)

    async def post(number: int) -> int:
        body = form(150_000, email=f"buyer{number}@example.org")
        async with gate:
            await buyers[number].post("/checkout", json=body, headers={**key(), **opened[number]}, expect=[201, 409])
        return buyers[number].last.status_code

    answers = Counter(await asyncio.gather(*(post(number) for number in range(200))))
    for client in buyers:
        await client.http.aclose()
    assert answers == {201: 1, 409: 199}
    assert await orders.count({}) == 1
    assert await figures("kikoi-blue") == (1, 0, 1)
    assert len(bank.accounts) == 1


# ---- the process dies


STEPS = [
    (checkout, "_begin"),
    (stock_actions, "hold"),
    (coupons, "hold_coupons"),
    (checkout, "_place"),
    (money, "pay"),
    (money, "_note_payment"),
    (Bank, "begin"),
    (orders, "get"),
    (idempotency.Work, "settle"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("where", "name"), STEPS, ids=[name for _, name in STEPS])
async def test_c2_whoever_dies_at_any_step_goes_on_with_the_same_order(
    ann: Client, bank: Bank, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, after: bool
) -> None:
    await fill(ann, {"kikoi-red": 2})
    await ann.put("/cart/coupons/ASANTE500")
    same, body = key(), form(250_000)
    die_once(monkeypatch, where, name, after=after)
    with pytest.raises(Killed):
        await ann.post("/checkout", json=body, headers=same)
    placed = await ann.post("/checkout", json=body, headers=same, expect=201)
    assert placed["payments"][0]["state"] == "pending"
    assert await orders.count({}) == 1
    assert await payments("shop").count({}) == 1
    assert list(bank.accounts) == [f"{placed['id']}-1"]
    assert await figures("kikoi-red") == (5, 0, 1)
    assert len((await coupon_rows.get("ASANTE500")).uses) == 1
    order = await orders.get(placed["id"])
    assert [each.kind for each in order.timeline] == ["placed", "payment_asked"]
    assert (await carts.get("user.ann")).lines == []
    assert await drifts() == []


@pytest.mark.parametrize("how", ["unheard", "lost"])
async def test_c8_a_provider_that_is_silent_leaves_the_payment_unknown(
    ann: Client, bank: Bank, world: World, how: Any
) -> None:
    bank.script["begin"].append(how)
    placed = await place(ann)
    (payment,) = placed["payments"]
    assert (placed["state"], payment["state"]) == ("awaiting_payment", "unknown")
    refused = await ann.post(f"/orders/{placed['id']}/payments", provider="mobile", headers=key(), expect=409)
    assert refused["code"] == "payment_unknown"


async def test_a_provider_that_refuses_leaves_the_order_to_be_paid_otherwise(ann: Client, bank: Bank) -> None:
    bank.script["begin"].append("refused")
    placed = await place(ann)
    assert (placed["state"], placed["payments"][0]["state"]) == ("awaiting_payment", "failed")
    again = await ann.post(f"/orders/{placed['id']}/payments", provider="mobile", headers=key(), expect=201)
    assert [(each["provider"], each["state"]) for each in again["payments"]] == [
        ("bank", "failed"),
        ("mobile", "pending"),
    ]
    assert len(await payments_of(placed["id"])) == 2
    assert state.part(Providers).by_name["mobile"].accounts  # type: ignore[attr-defined]


async def test_the_settings_say_how_long_goods_are_held(ann: Client, bank: Bank) -> None:
    state.current().parts[ShopSettings] = ShopSettings(hold_seconds=5)
    try:
        placed = await place(ann)
    finally:
        state.current().parts[ShopSettings] = ShopSettings()
    order = await orders.get(placed["id"])
    assert order.held_until - order.created_at < timedelta(seconds=10)
