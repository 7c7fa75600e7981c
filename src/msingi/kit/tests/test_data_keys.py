"""Data keys: the secret they are wrapped under can be changed, and they can be renewed, while everything goes on."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated

import pytest
import pytest_asyncio

from msingi.kit import clock, csrf, data_keys, resealing, sealing, state
from msingi.kit.config import BadSettings, Settings
from msingi.kit.data_keys import SecretChanged
from msingi.kit.db import SEALED, Collection, Doc
from msingi.kit.product import Product
from msingi.kit.testing import test_settings
from msingi.kit.unit import atomic, guarded

OLD, NEW, NEWER = (f"a-secret-of-this-test-number-{number}-0123456789" for number in range(3))


class Thing(Doc, kw_only=True):
    told: Annotated[str, SEALED]
    note: Annotated[str | None, SEALED] = None


things = Collection(Thing, "things")
things.product = "things"


def house(secret: str = OLD, before: str = "") -> Settings:
    return test_settings(MSINGI_DATABASE="keytest", MSINGI_SECRET=secret, MSINGI_SECRET_OLD=before)


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def clean() -> AsyncIterator[None]:
    async with state.running(house()):
        for name in ("kit", "things"):
            await state.mongo().drop_database(state.database_name(name))
        yield


@guarded
async def add(told: str) -> Thing:
    return await things.add(Thing(told=told, note="note"))


@atomic
async def add_many(count: int) -> None:
    await things.add_many([Thing(told=f"thing {number}") for number in range(count)])


@guarded
async def change(id: str, told: str) -> Thing:
    return await things.change(id, {"$set": {"told": told}})


async def test_processes_that_start_at_once_agree_on_one_key() -> None:
    rings = [data_keys.Ring() for _ in range(8)]
    await asyncio.gather(*(asyncio.to_thread(ring.load) for ring in rings))
    assert len({ring.first().raw for ring in rings}) == 1
    assert await state.database("kit")["data_keys"].count_documents({}) == 1


async def test_d2_no_key_stands_in_the_database_in_the_clear() -> None:
    raw = data_keys.ring().first().raw
    row = await state.database("kit")["data_keys"].find_one()
    assert row is not None
    assert all(raw not in wrapped for wrapped in row["wraps"].values())
    assert raw.hex() not in repr(data_keys.ring().first())


async def test_d2_while_the_secret_changes_processes_with_the_old_and_the_new_one_read_each_other() -> None:
    token, mark = csrf.token_for("session"), sealing.blind("a", "b")
    first = await add("written under the old secret")
    for settings in (house(NEW, OLD), house(OLD), house(NEW, OLD), house(NEWER, f"{NEW},{OLD}"), house(OLD)):
        async with state.running(settings):
            assert csrf.is_token("session", token)
            assert sealing.blind("a", "b") == mark
            assert (await things.get(first.id)).told.startswith("written under")
            first = await change(first.id, f"written under {settings.secret}")
    assert await things.get(first.id) == first  # the process that runs since before all that


async def test_d2_the_last_step_leaves_the_old_secret_good_for_nothing() -> None:
    written = await add("x")
    async with state.running(house(NEW, OLD)):
        assert await asyncio.to_thread(data_keys.rewrap) == 1
    async with state.running(house(NEW)):
        assert (await things.get(written.id)).told == "x"
    async with state.running(house(OLD)):
        with pytest.raises(SecretChanged, match="MSINGI_SECRET_OLD"):
            await data_keys.load()
    assert await things.get(written.id) == written


async def test_a_secret_forgotten_too_early_refuses_to_start_and_loses_nothing() -> None:
    written = await add("x")
    async with state.running(house(NEW)):
        with pytest.raises(BadSettings, match="MSINGI_SECRET does not open data key 000001"):
            await data_keys.load()
        with pytest.raises(SecretChanged):
            sealing.key_for("a.purpose")
    async with state.running(house()):
        await data_keys.load()
        assert await things.get(written.id) == written
        assert await state.database("kit")["data_keys"].count_documents({}) == 1


async def test_d2_a_new_key_seals_once_every_process_can_know_it_and_the_old_ones_still_open() -> None:
    before = await add("before")
    purpose, peppers = sealing.key_for("a.purpose"), sealing.keys_for("a.pepper")
    assert await asyncio.to_thread(data_keys.renew) == 2
    await data_keys.load()
    assert await _key_of(await add("within the minute")) == 1
    with clock.shifted(timedelta(seconds=61)):
        after = await add("after")
        assert await _key_of(after) == 2
        assert sealing.key_for("a.purpose") == purpose
        assert sealing.keys_for("a.pepper")[1:] == peppers
        async with state.running(house()):
            assert [(await things.get(each.id)).told for each in (before, after)] == ["before", "after"]


async def test_d2_a_process_that_has_not_heard_of_a_key_finds_it_when_it_needs_it() -> None:
    data_keys.ring().load()
    ring = data_keys.ring()
    async with state.running(house()):
        await asyncio.to_thread(data_keys.renew)
        with clock.shifted(timedelta(seconds=61)):
            written = await add("x")
    ring.looked_at -= 60
    assert set(ring.keys) == {1}
    assert await things.get(written.id) == written


async def test_d2_rows_are_sealed_anew_in_batches_while_others_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "BATCH", 50)
    await add_many(220)
    old = [each.id for each in await things.many({})]
    await asyncio.to_thread(data_keys.renew)
    await data_keys.load()
    with clock.shifted(timedelta(seconds=61)):

        async def write() -> None:
            for id in old[::10]:
                await change(id, "changed meanwhile")

        [[done], _] = await asyncio.gather(resealing.reseal([things]), write())
        assert (done.seen, done.done) == (220, True)
        assert {await _key_of(each) for each in await things.many({})} == {2}
        changed = [each.told for each in await things.many({"_id": {"$in": old[::10]}})]
        assert set(changed) == {"changed meanwhile"}
        assert (await resealing.progress())[0].seen == 220
        [again] = await resealing.reseal([things])
        assert (again.seen, again.sealed) == (done.seen, done.sealed)


async def test_sealing_anew_goes_on_where_a_crash_left_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "BATCH", 50)
    await add_many(120)
    await asyncio.to_thread(data_keys.renew)
    await data_keys.load()
    with clock.shifted(timedelta(seconds=61)):
        task = asyncio.create_task(resealing.reseal([things]))
        async with asyncio.timeout(10):
            while not await resealing.progress():
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await resealing.reseal([things])
        assert {await _key_of(each) for each in await things.many({})} == {2}


async def test_a_row_that_cannot_be_opened_keeps_no_other_from_being_sealed_anew() -> None:
    await add_many(3)
    broken, *whole = [each.id for each in await things.many({})]
    await things.raw.update_one({"_id": broken}, {"$set": {"told": b"\x01\x00\x00\x00\x01" + b"x" * 40}})
    await asyncio.to_thread(data_keys.renew)
    await data_keys.load()
    with clock.shifted(timedelta(seconds=61)):
        [done] = await resealing.reseal([things])
        assert (done.seen, done.sealed, done.unreadable, done.done) == (3, 2, 1, True)
        assert {await _key_of(each) for each in await things.many({"_id": {"$in": whole}})} == {2}


# ---- what was restored


async def test_d3_a_database_without_its_data_keys_makes_no_new_one_over_what_is_sealed() -> None:
    await add("x")
    kept = await state.database("kit")["data_keys"].find_one_and_delete({})
    assert kept is not None
    product = Product(name="things", title="T", summary="T", stores=[things])
    async with state.running(house(), [product]):
        with pytest.raises(BadSettings, match="things holds what was sealed"):
            await data_keys.load()
        assert await state.database("kit")["data_keys"].count_documents({}) == 0
        await state.database("kit")["data_keys"].insert_one(kept)
        await data_keys.load()
        assert [each.told for each in await things.many({})] == ["x"]


async def test_d3_a_key_of_the_same_number_from_another_history_is_not_taken_for_the_one_that_is_known() -> None:
    await asyncio.to_thread(data_keys.renew)  # on an empty house, too
    await data_keys.load()
    ring, before = data_keys.ring(), data_keys.ring().keys[2]
    await state.database("kit")["data_keys"].delete_one({"_id": "000002"})  # a backup from before was restored
    with clock.shifted(timedelta(seconds=1)):
        await asyncio.to_thread(data_keys.renew)
    ring.load()
    async with state.running(house()):
        await data_keys.load()
        assert data_keys.ring().keys[2].raw == ring.keys[2].raw != before.raw


async def _key_of(thing: Thing) -> int | None:
    row = await things.raw.find_one({"_id": thing.id})
    assert row is not None
    return sealing.number_of(row["told"])
