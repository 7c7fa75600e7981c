"""Goods and money on their way back."""

import asyncio
from datetime import timedelta
from typing import Any

from msingi.kit import audit, clock
from msingi.kit.actors import Actor
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.products.shop.models.orders import orders
from msingi.products.shop.queries.orders import payments_of
from msingi.products.shop.tests.ordering import (
    bank,
    check_books,
    check_snapshot,
    drifts,
    figures,
    key,
    lines_of,
    paid,
    place,
    products,
    settled,
)

__all__ = ["bank", "products"]
OWNER = Actor(id="owner", roles=frozenset({"user", "shop_owner"}), methods=frozenset({"pwd"}))
SUPPORT = Actor(id="support", roles=frozenset({"user", "shop_support"}), methods=frozenset({"pwd"}))


async def delivered(client: Client, admin: Client, bank: Bank, world: World, things: Any, **more: Any) -> str:
    """The id of an order that was sent whole, and has arrived."""
    id = await paid(client, bank, world, things, **more)
    lines = lines_of(**{str(number): quantity for number, quantity in enumerate(things.values(), 1)})
    await admin.post(f"/orders/{id}/shipments", location_id="nairobi", lines=lines, headers=key(), expect=201)
    (shipment,) = (await client.get(f"/orders/{id}"))["shipments"]
    await admin.put(f"/orders/{id}/shipments/{shipment['id']}/delivery", code=shipment["code"])
    return id


async def ask(client: Client, id: str, expect: Any = 201, **lines: int) -> Any:
    return await client.post(
        f"/orders/{id}/returns", lines=lines_of(**lines), reason="It is torn.", headers=key(), expect=expect
    )


async def test_what_came_back_is_paid_back_with_its_part_of_the_discount(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    id = await delivered(ann, admin, bank, world, {"kikoi-red": 3}, coupons=["KARIBU"])
    asked = await ask(ann, id, **{"1": 2})
    (found,) = asked["returns"]
    assert found["state"] == "asked"
    path = f"/orders/{id}/returns/{found['id']}"
    await ann.put(path, state="approved", expect=403)
    await admin.put(path, state="received", expect=409)
    async with (support := world.client(SUPPORT)).http:
        await support.put(path, state="approved")
    done = await admin.put(path, state="received")
    assert done["returns"][0]["refund"] == 2 * 135_000
    assert await figures("kikoi-red") == (4, 0, 0)
    await settled(world)
    shown = await ann.get(f"/orders/{id}")
    assert (shown["refunded"], shown["lines"][0]["returned"]) == (270_000, 2)
    assert shown["totals"]["total"] == 405_000
    check_snapshot(await orders.get(id))
    assert bank.returned == 270_000
    await check_books([bank])
    assert await drifts() == []


async def test_what_one_person_alone_approved_and_received_waits_for_another(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    id = await delivered(ann, admin, bank, world, {"tea-250": 2})
    found = (await ask(ann, id, **{"1": 1}))["returns"][0]
    path = f"/orders/{id}/returns/{found['id']}"
    await admin.put(path, state="approved")
    await admin.put(path, state="received")
    await settled(world)
    (refund,) = (await admin.get(f"/orders/{id}"))["refunds"]
    assert (refund["state"], refund["amount"]) == ("waiting", 12_000)
    assert bank.returned == 0


async def test_damaged_goods_are_not_sold_again(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    id = await delivered(ann, admin, bank, world, {"tea-250": 2})
    found = (await ask(ann, id, **{"1": 2}))["returns"][0]
    path = f"/orders/{id}/returns/{found['id']}"
    await admin.put(path, state="approved")
    done = await admin.put(path, state="received", damaged=True)
    assert done["returns"][0]["damaged"] is True
    assert await figures("tea-250") == (98, 0, 0)
    assert await drifts() == []


async def test_what_is_refused_stays_with_who_bought_it(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    id = await delivered(ann, admin, bank, world, {"tea-250": 2})
    found = (await ask(ann, id, **{"1": 2}))["returns"][0]
    path = f"/orders/{id}/returns/{found['id']}"
    await admin.put(path, state="refused", note="It was used.")
    refused = await admin.put(path, state="approved", expect=409)
    assert refused["code"] == "return_decided"
    await ask(ann, id, **{"1": 2})  # they may ask once more
    await settled(world)
    assert bank.returned == 0
    await admin.put(f"/orders/{id}/returns/none", state="approved", expect=404)


async def test_no_more_comes_back_than_was_delivered(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    not_sent = await paid(ann, bank, world)
    assert (await ask(ann, not_sent, 409, **{"1": 1}))["code"] == "not_returnable"
    id = await delivered(ann, admin, bank, world, {"tea-250": 3})
    answers = await asyncio.gather(*(ask(ann, id, [201, 409], **{"1": 2}) for _ in range(5)))
    assert sum("state" in each for each in answers) == 1
    assert (await ask(ann, id, 409, **{"1": 2}))["left"] == 1
    await ask(ann, id, 422, **{"7": 1})


async def test_after_fourteen_days_it_is_too_late(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    id = await delivered(ann, admin, bank, world, {"tea-250": 1})
    with clock.shifted(timedelta(days=15)):
        async with (later := world.client(ann.actor)).http:
            assert (await ask(later, id, 409, **{"1": 1}))["code"] == "return_too_late"
    await ask(ann, id, **{"1": 1})


async def test_what_came_back_twice_at_once_is_paid_once(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    id = await delivered(ann, admin, bank, world, {"tea-250": 2})
    found = (await ask(ann, id, **{"1": 1}))["returns"][0]
    path = f"/orders/{id}/returns/{found['id']}"
    async with (support := world.client(SUPPORT)).http:
        await support.put(path, state="approved")
    await asyncio.gather(*(admin.put(path, state="received", expect=[200, 409]) for _ in range(5)))
    await settled(world)
    assert bank.returned == 12_000
    assert await figures("tea-250") == (99, 0, 0)
    await check_books([bank])


# ---- refunds


async def refund(client: Client, id: str, amount: int, expect: Any = 201) -> Any:
    return await client.post(f"/orders/{id}/refunds", amount=amount, reason="Sorry.", headers=key(), expect=expect)


async def test_a_refund_goes_when_another_person_approves_it(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world)
    async with (owner := world.client(OWNER)).http:
        asked = await refund(owner, id, 5_000)
        assert asked["state"] == "waiting"
        path = f"/orders/{id}/refunds/{asked['id']}/approval"
        refused = await owner.put(path, expect=403)
        assert refused["code"] == "another_person_decides"
        await settled(world)
        assert bank.returned == 0
        approved = await admin.put(path)
        assert (approved["state"], approved["approved_by"]) == ("approved", "admin")
        await admin.put(path)
    await settled(world)
    shown = await ann.get(f"/orders/{id}")
    assert (shown["refunded"], shown["state"]) == (5_000, "confirmed")
    assert bank.returned == 5_000
    assert "asked_by" not in shown["refunds"][0]
    noted = await audit.entries.many({"kind": "shop.refund_approved"})
    assert {each.actor for each in noted} == {"admin"}
    await check_books([bank])


async def test_a19_a_refund_is_approved_by_who_proved_who_they_are_lately(
    ann: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world)
    async with (support := world.client(SUPPORT)).http:
        asked = await refund(support, id, 5_000)
        path = f"/orders/{id}/refunds/{asked['id']}/approval"
        await support.put(path, expect=403)
    stale = Actor(id="boss", roles=OWNER.roles, methods=OWNER.methods, signed_in_at=int(clock.seconds()) - 400)
    async with (boss := world.client(stale)).http:
        refused = await boss.put(path, expect=401)
        assert refused["code"] == "insufficient_user_authentication"
    assert (await payments_of(id))[0].refunds[0].state == "waiting"


async def test_a_refund_that_is_refused_reserves_nothing(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world)
    async with (support := world.client(SUPPORT)).http:
        asked = await refund(support, id, 24_000)
        await refund(support, id, 1, 409)
        await admin.delete(f"/orders/{id}/refunds/{asked['id']}/approval")
        await refund(support, id, 24_000)
    await admin.put(f"/orders/{id}/refunds/none/approval", expect=404)


async def test_no_more_goes_back_than_came_however_many_ask_at_once(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world)
    async with (support := world.client(SUPPORT)).http:
        answers = await asyncio.gather(*(refund(support, id, 10_000, [201, 409]) for _ in range(8)))
        made = [each for each in answers if each.get("state") == "waiting"]
        assert len(made) == 2
        assert {each["code"] for each in answers if "state" not in each} <= {"nothing_to_refund", "refund_too_high"}
    for each in made:
        await admin.put(f"/orders/{id}/refunds/{each['id']}/approval")
    await settled(world)
    assert bank.returned == 20_000
    await check_books([bank])


async def test_what_was_never_paid_is_not_paid_back(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann)
    async with (support := world.client(SUPPORT)).http:
        refused = await refund(support, placed["id"], 1, 409)
        assert (refused["code"], refused["left"]) == ("nothing_to_refund", 0)
        await support.post(f"/orders/{placed['id']}/refunds", amount=1, reason="x", expect=400)
        for bad in (0, -1, "1", 1.5):
            await refund(support, placed["id"], bad, 422)  # type: ignore[arg-type]
    await refund(ann, placed["id"], 1, 403)
