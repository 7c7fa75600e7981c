"""Prompts to phones: whoever asks, and in whatever way the number is written, one phone rings so often and no more."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import config, limits, state
from msingi.kit.payments.mpesa import phone_of
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.products.shop.models.orders import orders
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.models.stock import stocks
from msingi.products.shop.tests.ordering import ADDRESS, bank, fill, form, key, place, products, total_of
from msingi.products.shop.till import Providers

__all__ = ["bank", "products"]  # fixtures
PHONE = "+254712345678"
GUEST = {"email": "g@example.org"}


class Ringing(Bank):
    """A bank that asks by a prompt on the phone."""

    def rung(self, phone: str) -> str:
        return phone_of(phone)


@pytest_asyncio.fixture(loop_scope="session")
async def mobile(bank: Bank) -> AsyncIterator[Ringing]:
    made = Ringing("mobile")
    state.current().parts[Providers] = Providers({"bank": bank, "mobile": made})
    yield made


def by_phone(phone: str = PHONE, **more: Any) -> dict[str, Any]:
    return {"pay": {"provider": "mobile", "phone": phone}, **more}


async def refused(client: Client, **more: Any) -> Any:
    """What is answered to a checkout that makes the phone ring once too often."""
    headers = await fill(client, {"tea-250": 1})
    total = await total_of(client, headers, **more)
    return await client.post("/checkout", json=form(total, **more), headers={**key(), **headers}, expect=429)


def rings(mobile: Ringing) -> int:
    return len(mobile.accounts)


async def test_r2_a_phone_rings_three_times_a_minute_whoever_asks(
    world: World, mobile: Ringing, ann: Client, bob: Client, nobody: Client
) -> None:
    await place(ann, **by_phone("+254712345678"))
    await place(bob, **by_phone("+254712345678", address={**ADDRESS, "town": "Nakuru"}))
    limits.forget()  # another process knows nothing of these
    await place(nobody, **by_phone(**GUEST))
    limits.forget()
    told = await refused(nobody, **by_phone(**GUEST))
    assert (told["code"], told["quota"], told["window"]) == ("too_many_prompts", 3, 60)
    assert 0 < int(nobody.last.headers["retry-after"]) <= 120
    assert (await refused(ann, **by_phone()))["code"] == "too_many_prompts"
    assert rings(mobile) == 3
    await place(bob, **by_phone("+254722000000"))  # another phone
    assert rings(mobile) == 4


async def test_r2_what_is_refused_so_takes_nothing_and_leaves_the_cart(
    world: World, mobile: Ringing, ann: Client, bob: Client
) -> None:
    for _ in range(3):
        await place(bob, **by_phone())
    await fill(ann, {"coffee-500": 2})
    total = await total_of(ann, **by_phone())
    await ann.post("/checkout", json=form(total, **by_phone()), headers=key(), expect=429)
    assert await orders.count({"customer_id": "ann"}) == 0
    assert (await stocks.get("coffee-500.nairobi")).holds == []
    placed = await ann.post("/checkout", json=form(total), headers=key(), expect=201)  # in another way
    assert placed["payments"][0]["provider"] == "bank"


async def test_r2_paying_again_counts_too_and_leaves_what_was_begun(world: World, mobile: Ringing, ann: Client) -> None:
    placed = await place(ann, **by_phone())
    path = f"/orders/{placed['id']}/payments"
    for _ in range(2):
        await ann.post(path, json=by_phone()["pay"], headers=key())
    told = await ann.post(path, json=by_phone()["pay"], headers=key(), expect=429)
    assert told["code"] == "too_many_prompts"
    assert rings(mobile) == 3
    shown = await ann.get(f"/orders/{placed['id']}")
    assert [each["state"] for each in shown["payments"]].count("pending") == 1
    await ann.post(path, json={"provider": "bank"}, headers=key(), expect=201)


async def test_r2_ten_an_hour_are_all(world: World, mobile: Ringing, ann: Client) -> None:
    parts = state.current().parts
    before = parts[ShopSettings]
    parts[ShopSettings] = config.load(ShopSettings, {"MSINGI_SHOP_PROMPTS_TO_PHONE": "100/minute, 2/hour"})
    try:
        for _ in range(2):
            await place(ann, **by_phone())
        assert (await refused(ann, **by_phone()))["window"] == 3600
    finally:
        parts[ShopSettings] = before


async def test_what_rings_no_phone_is_not_counted(world: World, mobile: Ringing, ann: Client) -> None:
    for _ in range(4):
        await place(ann)  # by card
    await fill(ann, {"tea-250": 1})
    for _ in range(4):
        await ann.post("/checkout", json=form(1, **by_phone()), headers=key(), expect=409)  # not what it costs
    total = await total_of(ann, **by_phone())
    await ann.post("/checkout", json=form(total, **by_phone()), headers=key(), expect=201)


async def test_redis_is_told_no_number(world: World, mobile: Ringing, ann: Client) -> None:
    await place(ann, **by_phone())
    names = [name.decode() async for name in state.redis().scan_iter("limit:shop prompts*")]
    assert len(names) == 2
    assert not any("712345678" in name for name in names)


@pytest.mark.parametrize("text", [" ", "3", "3/minute,", "3/fortnight", "0/minute", "3/minute; 10/hour"])
def test_a_limit_that_is_none_keeps_the_house_from_starting(text: str) -> None:
    with pytest.raises(config.BadSettings):
        config.load(ShopSettings, {"MSINGI_SHOP_PROMPTS_TO_PHONE": text})
