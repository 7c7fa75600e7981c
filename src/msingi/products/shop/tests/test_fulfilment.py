"""Goods on their way: sent in parts, from several places, and handed over for a code."""

import asyncio
from typing import Any

import pytest

from msingi.kit import mail
from msingi.kit.actors import Actor
from msingi.kit.mail import rendered
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.products.shop.models.orders import orders
from msingi.products.shop.tests.ordering import (
    bank,
    check_books,
    drifts,
    figures,
    key,
    lines_of,
    paid,
    place,
    products,
    settled,
    state_of,
)

__all__ = ["bank", "products"]
PACKER = Actor(id="packer", roles=frozenset({"user", "shop_warehouse"}), methods=frozenset({"pwd"}))


async def ship(
    client: Client, id: str, expect: Any = 201, *, lines: dict[str, int] | None = None, location: str = "nairobi"
) -> Any:
    wanted = lines_of(**(lines or {"1": 2}))
    return await client.post(
        f"/orders/{id}/shipments", location_id=location, lines=wanted, carrier="G4S", headers=key(), expect=expect
    )


async def code_of(client: Client, id: str, number: int = 0) -> tuple[str, str]:
    shipment = (await client.get(f"/orders/{id}"))["shipments"][number]
    return shipment["id"], shipment["code"]


async def test_an_order_is_sent_in_parts_and_leaves_the_stock(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world, {"tea-250": 3, "kikoi-red": 1})
    sent = await ship(admin, id, lines={"1": 2})
    assert sent["state"] == "partly_shipped"
    assert await figures("tea-250") == (98, 1, 0)
    sent = await ship(admin, id, lines={"1": 1, "2": 1})
    assert sent["state"] == "shipped"
    assert [line["shipped"] for line in sent["lines"]] == [3, 1]
    assert await figures("tea-250") == (97, 0, 0)
    assert await figures("kikoi-red") == (4, 0, 0)
    await world.work()
    said = [each["text"] for each in (await ann.get(f"/orders/{id}/timeline"))["items"] if each["kind"] == "shipped"]
    assert said == ["2 of 4 were sent (G4S).", "2 of 4 were sent (G4S)."]
    assert [each.template for each in await mail.written()].count("order_shipped") == 2
    assert await drifts() == []


async def test_no_more_is_sent_than_was_bought_however_many_send_it_at_once(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world, {"tea-250": 3})
    answers = await asyncio.gather(*(ship(admin, id, [201, 409], lines={"1": 2}) for _ in range(6)))
    assert sum("state" in each for each in answers) == 1
    assert {each.get("code") for each in answers} <= {None, "not_there"}
    refused = await ship(admin, id, 409, lines={"1": 2})
    assert (refused["code"], refused["left"]) == ("not_there", 1)
    assert await figures("tea-250") == (98, 1, 0)
    await ship(admin, id, 409, location="mombasa", lines={"1": 1})
    await ship(admin, id, 422, lines={"7": 1})
    await ship(admin, id, 422, lines={"1": 0})


async def test_a_line_that_is_named_twice_counts_twice(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world, {"tea-250": 3})
    twice = [{"line_id": "1", "quantity": 2}, {"line_id": "1", "quantity": 2}]
    refused = await admin.post(f"/orders/{id}/shipments", location_id="nairobi", lines=twice, headers=key(), expect=409)
    assert refused["wanted"] == 4


async def test_what_is_not_paid_is_not_sent(ann: Client, admin: Client, bank: Bank) -> None:
    placed = await place(ann)
    refused = await ship(admin, placed["id"], 409)
    assert refused["code"] == "not_in_this_state"
    assert await figures("tea-250") == (100, 0, 1)


async def test_who_ordered_does_not_send_it_themselves(ann: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world)
    await ship(ann, id, 403)
    await ann.put(f"/orders/{id}/shipments/x/delivery", code="123456", expect=403)


async def test_a_parcel_counts_as_delivered_when_the_receivers_code_is_told(
    ann: Client, bank: Bank, world: World
) -> None:
    packer = world.client(PACKER)
    id = await paid(ann, bank, world)
    async with packer.http:
        sent = await ship(packer, id)
        assert "code" not in sent["shipments"][0]
        shipment, code = await code_of(ann, id)
        path = f"/orders/{id}/shipments/{shipment}/delivery"
        wrong = f"{(int(code) + 1) % 10**6:06d}"
        assert (await packer.put(path, code=wrong, expect=409))["code"] == "wrong_delivery_code"
        assert await state_of(id) == "shipped"
        done = await packer.put(path, code=code)
        assert done["state"] == "delivered"
        again = await packer.put(path, code=code)
        assert again["shipments"] == done["shipments"]
    await world.work()
    assert (await mail.written())[-1].template == "order_delivered"
    assert "code" not in (await ann.get(f"/orders/{id}"))["shipments"][0]
    public = [each["kind"] for each in (await ann.get(f"/orders/{id}/timeline"))["items"]]
    assert "wrong_delivery_code" not in public


async def test_the_code_is_in_the_letter_to_who_ordered(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world)
    await ship(admin, id)
    _, code = await code_of(ann, id)
    waiting = [each for each in await mail.written() if each.template == "order_shipped"]
    assert waiting == []
    await world.work()
    (letter,) = [each for each in await mail.written() if each.template == "order_shipped"]
    assert code in rendered(letter).text


async def test_nobody_tries_all_codes_and_staff_says_why_it_counts(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    packer = world.client(PACKER)
    id = await paid(ann, bank, world)
    async with packer.http:
        await ship(packer, id)
        shipment, code = await code_of(ann, id)
        path = f"/orders/{id}/shipments/{shipment}/delivery"
        wrong = f"{(int(code) + 1) % 10**6:06d}"
        codes = [(await packer.put(path, code=wrong, expect=409))["code"] for _ in range(6)]
        assert codes == ["wrong_delivery_code"] * 5 + ["too_many_wrong_codes"]
        assert (await packer.put(path, code=code, expect=409))["code"] == "too_many_wrong_codes"
        await packer.put(path, reason="They were at home.", expect=403)
        for bad in ({}, {"code": code, "reason": "both"}):
            assert (await packer.put(path, json=bad or {"code": None}, expect=422))["code"] == "code_or_reason"
    done = await admin.put(path, reason="Seen on the phone.")
    assert done["state"] == "delivered"
    entry = (await orders.get(id)).timeline[-1]
    assert (entry.kind, entry.by, entry.details["reason"]) == ("delivered_without_code", "admin", "Seen on the phone.")


async def test_an_order_is_delivered_when_all_its_parcels_are(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world, {"tea-250": 2})
    await ship(admin, id, lines={"1": 1})
    first, code = await code_of(ann, id)
    await admin.put(f"/orders/{id}/shipments/{first}/delivery", code=code)
    assert await state_of(id) == "partly_shipped"
    await ship(admin, id, lines={"1": 1})
    assert await state_of(id) == "shipped"
    second, code = await code_of(ann, id, 1)
    await admin.put(f"/orders/{id}/shipments/{second}/delivery", code=code)
    assert await state_of(id) == "delivered"
    await admin.put(f"/orders/{id}/shipments/none/delivery", code=code, expect=404)


async def test_what_was_not_sent_can_be_cancelled_by_staff_and_is_paid_back(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world, {"tea-250": 3, "kikoi-red": 1})
    await ship(admin, id, lines={"1": 2})
    refused = await ann.put(f"/orders/{id}/cancellation", reason="No", expect=409)
    assert refused["code"] == "not_in_this_state"
    gone = await admin.put(f"/orders/{id}/cancellation", reason="The last ones are torn.")
    assert gone["state"] == "shipped"
    assert [line["cancelled"] for line in gone["lines"]] == [1, 1]
    await settled(world)
    shown = await ann.get(f"/orders/{id}")
    assert shown["refunded"] == 12_000 + 150_000
    assert await figures("tea-250") == (98, 0, 0)
    assert await figures("kikoi-red") == (5, 0, 0)
    await admin.put(f"/orders/{id}/cancellation", reason="Once more", expect=409)
    shipment, code = await code_of(ann, id)
    assert (await admin.put(f"/orders/{id}/shipments/{shipment}/delivery", code=code))["state"] == "delivered"
    await check_books([bank])
    assert await drifts() == []


async def test_sending_and_cancelling_at_once_is_one_or_the_other(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    for _ in range(4):
        id = await paid(ann, bank, world, {"tea-250": 2})
        before, *_ = await figures("tea-250")
        cancel = ann.put(f"/orders/{id}/cancellation", reason="No", expect=[200, 409])
        await asyncio.gather(cancel, ship(admin, id, [201, 409]))
        await settled(world)
        order = await orders.get(id)
        assert (order.state, order.refunded) in (("cancelled", 24_000), ("shipped", 0))
        on_hand, allocated, _ = await figures("tea-250")
        assert (before - on_hand, allocated) == (0 if order.state == "cancelled" else 2, 0)
    await check_books([bank])
    assert await drifts() == []


@pytest.mark.parametrize("field", ["carrier", "tracking"])
async def test_what_a_carrier_is_called_has_an_end(ann: Client, admin: Client, bank: Bank, field: str) -> None:
    placed = await place(ann)
    body = {"location_id": "nairobi", "lines": lines_of(**{"1": 1}), field: "x" * 201}
    await admin.post(f"/orders/{placed['id']}/shipments", json=body, headers=key(), expect=422)
