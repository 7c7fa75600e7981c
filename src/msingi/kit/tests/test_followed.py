"""Collections that processes hold in memory: read at the start, followed from then on, and never opened by a fault."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pymongo.errors import PyMongoError

from msingi.kit import actors, db, followed, limits, roles, state
from msingi.kit.actors import permissions_of
from msingi.kit.roles import Role
from msingi.kit.state import State
from msingi.kit.testing import test_settings
from msingi.kit.tests.waiting import beside, until
from msingi.kit.unit import atomic

GUARDS = frozenset({"guard"})


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def prepared(running: State) -> AsyncIterator[None]:
    await db.prepare(followed.stores())
    for store in followed.stores():
        await store.raw.delete_many({})
    await followed.begin()
    yield
    state.part(followed._Held).start_over()


@pytest.fixture(autouse=True)
def granted() -> None:
    actors.grant("guard", ["gate:open"])


def test_what_the_code_grants_holds_until_somebody_changes_it() -> None:
    assert permissions_of(GUARDS) == {"gate:open"}


async def test_a11_what_another_process_writes_is_known_within_a_second() -> None:
    async with beside(followed.run_watch):
        raw = roles.roles.raw
        await asyncio.sleep(0)
        waits = []
        await raw.insert_one(roles.roles.dump(Role(id="guard", permissions=[])))
        waits.append(await until(lambda: permissions_of(GUARDS) == frozenset()))
        await raw.update_one({"_id": "guard"}, {"$set": {"permissions": ["gate:open", "gate:paint"]}})
        waits.append(await until(lambda: permissions_of(GUARDS) == {"gate:open", "gate:paint"}))
        await raw.delete_one({"_id": "guard"})
        waits.append(await until(lambda: permissions_of(GUARDS) == {"gate:open"}))
        changed = limits.ChangedLimit(id="member", limit="7/minute")
        await limits.changed_limits.raw.insert_one(limits.changed_limits.dump(changed))
        waits.append(await until(lambda: state.part(limits.Table).member == limits.parse("7/minute")))
        assert max(waits[1:]) < 1.0


async def test_the_process_that_writes_knows_with_its_commit_and_not_before() -> None:
    @atomic
    async def change(fails: bool) -> None:
        await roles.roles.add(Role(id="guard", permissions=[]))
        roles.followed.changes()
        if fails:
            raise KeyError

    with pytest.raises(KeyError):
        await change(True)
    assert permissions_of(GUARDS) == {"gate:open"}
    await change(False)
    assert permissions_of(GUARDS) == frozenset()


async def test_listeners_hear_of_a_change_once_and_one_that_fails_keeps_nothing_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []

    async def failing() -> None:
        raise KeyError

    async def listening() -> None:
        told.append(permissions_of(GUARDS))

    monkeypatch.setattr(roles.followed, "listeners", [failing, listening])
    await roles.roles.raw.insert_one(roles.roles.dump(Role(id="guard", permissions=[])))
    await roles.followed.read()
    await roles.followed.read()
    assert told == [frozenset()]


async def test_z4_a_process_that_starts_without_its_database_lets_nobody_do_anything() -> None:
    async with state.running(test_settings()) as away:
        await away.mongo.close()  # each reading fails from here on
        await followed.begin()
        assert permissions_of(GUARDS) == frozenset()
        assert state.part(limits.Table).member == limits.parse(state.settings().member_limit)
    state.part(followed._Held).rows.clear()
    await followed.begin()
    assert permissions_of(GUARDS) == {"gate:open"}


async def test_z4_what_was_known_last_goes_on_to_hold_while_the_database_is_away(running: State) -> None:
    await roles.roles.raw.insert_one(roles.roles.dump(Role(id="guard", permissions=[])))
    await roles.followed.read()
    held: dict[type, Any] = {followed._Held: state.part(followed._Held)}
    async with state.running(test_settings(), parts=held) as away:
        await away.mongo.close()
        with pytest.raises(PyMongoError):
            await roles.followed.read()
        assert permissions_of(GUARDS) == frozenset()


async def test_a_stream_that_fails_is_opened_again() -> None:
    tried = []

    async def watch() -> Any:
        tried.append(1)
        if len(tried) < 3:
            raise PyMongoError
        return await roles.roles.raw.watch(max_await_time_ms=100)

    begun = asyncio.Event()

    async def begin() -> None:
        begun.set()

    async def hear(change: Any) -> None:
        return

    async with beside(lambda: followed.follow("trees", watch, begin, hear)):
        await asyncio.wait_for(begun.wait(), 5)
        assert len(tried) == 3


def test_z4_what_a_role_keeps_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "_kept", {"guard": frozenset({"gate:open"})})
    actors.know({"guard": ()})
    assert permissions_of(GUARDS) == {"gate:open"}
    actors.know(None)
    assert permissions_of(GUARDS) == frozenset()
    actors.know({})
