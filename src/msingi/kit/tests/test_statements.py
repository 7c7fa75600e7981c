"""Writes by the short way are made once, whatever happens to the connection, and say what PyMongo says."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest
import pytest_asyncio
from pymongo.errors import OperationFailure

from msingi.kit import config, db, drain, embedded, lanes, state, statements, unit
from msingi.kit.db import Collection, Doc, Index
from msingi.kit.errors import AlreadyExists, Busy, NotFound, Stale
from msingi.kit.tests.conftest import running as running
from msingi.kit.unit import atomic, guarded


class Barn(Doc):
    name: str = ""
    hens: int = 0


barns = Collection(Barn, "barns", indexes=[Index("name", unique=True)])
barns.product = "farm"


@guarded
async def build(name: str) -> Barn:
    return await barns.add(Barn(id=name, name=name))


@guarded
async def hatch(name: str, count: int = 1) -> Barn:
    return await barns.change(name, {"$inc": {"hens": count}})


@guarded
async def hatch_unseen(name: str) -> bool:
    return await barns.apply(name, {"$inc": {"hens": 1}})


@atomic
async def move_hens(source: str, target: str, count: int = 1) -> int:
    """From one barn to another; how many there are then at the target, as the transaction sees it."""
    await barns.change(source, {"$inc": {"hens": -count}})
    await barns.change(target, {"$inc": {"hens": count}})
    return (await barns.get(target)).hens


class Wire:
    """A stretch of network between us and MongoDB on which answers get lost, together with their connection."""

    def __init__(self, mongo_url: str) -> None:
        self.address = urlsplit(mongo_url)
        self.lose: dict[bytes, int] = {}  # a command's name: how many of its answers
        self.odds = 0.0  # of any answer to a write, to be lost
        self.lost = 0
        self.port = 0
        self.server: asyncio.Server
        self.carrying: set[asyncio.Task[None] | None] = set()

    async def __aenter__(self) -> "Wire":
        self.server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.server.close()
        await drain.end([each for each in self.carrying if each is not None])

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carrying.add(asyncio.current_task())
        answers, questions = await asyncio.open_connection(self.address.hostname, self.address.port)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._asked(reader, writer, answers, questions)
        finally:
            writer.close()
            questions.close()
            self.carrying.discard(asyncio.current_task())

    async def _asked(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        questions: asyncio.StreamWriter,
    ) -> None:
        while True:
            question = await message(reader)
            questions.write(question)
            while True:
                answer = await message(answers)
                if self._loses(question):
                    self.lost += 1
                    return
                writer.write(answer)
                if not int.from_bytes(answer[16:20], "little") & 2:  # more is to come
                    break

    def _loses(self, question: bytes) -> bool:
        name = question[26 : question.find(b"\0", 26)]  # of the first field: the command
        if self.lose.get(name, 0) > 0:
            self.lose[name] -= 1
            return True
        writes = (b"insert", b"update", b"findAndModify", b"commitTransaction")
        return name in writes and random.random() < self.odds


async def message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(int.from_bytes(head, "little") - 4)


@pytest_asyncio.fixture(loop_scope="session")
async def farm(running: state.State) -> None:
    await db.prepare([barns])
    for name in ("old", "new"):
        await build(name)


@pytest_asyncio.fixture(loop_scope="session")
async def wire(farm: None) -> AsyncIterator[Wire]:
    """The same database, behind a network that loses what it is told to lose."""
    settings = state.settings()
    async with Wire(settings.mongo_url) as wire, state.running(msgspec.structs.replace(settings, mongo_url=wire.url)):
        await hatch("old", 0)  # so that there is a lane
        yield wire


async def hens(name: str) -> int:
    return (await barns.get(name)).hens


def close_lanes() -> None:
    for lane in state.part(statements.WriteLanes).idle:
        lane.give_up()


# ---- it says what PyMongo says


async def test_writes_go_by_lanes_and_say_what_was_written(farm: None) -> None:
    assert (await hatch("old")).hens == 1
    assert await hatch_unseen("old")
    assert not await hatch_unseen("nowhere")
    assert await move_hens("old", "new") == 1
    assert (await hens("old"), await hens("new")) == (1, 1)
    kept = state.part(statements.WriteLanes)
    assert kept.idle
    assert kept.taken == 0


@pytest_asyncio.fixture(loop_scope="session", params=["by lanes", "by PyMongo"])
async def both_ways(farm: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Once with lanes, and once without any."""
    if request.param == "by PyMongo":
        monkeypatch.setattr(statements, "MOST", 0)
        close_lanes()


@pytest.mark.usefixtures("both_ways")
async def test_what_the_database_refuses_is_told_alike_both_ways() -> None:
    @atomic
    async def build_twice() -> None:
        await barns.add(Barn(id="third", name="third"))
        await barns.add(Barn(id="fourth", name="third"))

    @guarded
    async def build_badly() -> None:
        await barns.change("old", {"$set": {"hens": "many"}})

    @guarded
    async def hatch_in(name: str) -> None:
        await barns.change(name, {"$inc": {"hens": 1}}, when={"hens": 77})

    with pytest.raises(AlreadyExists) as taken:
        await build("old")
    assert taken.value.details["fields"] == "id"
    with pytest.raises(AlreadyExists) as named:
        await build_twice()
    assert named.value.details["fields"] == "name"
    with pytest.raises(NotFound):
        await barns.get("third")
    with pytest.raises(OperationFailure) as refused:
        await build_badly()
    assert refused.value.code == 121
    with pytest.raises(Stale):
        await hatch_in("old")
    with pytest.raises(NotFound):
        await hatch("nowhere")
    with pytest.raises(OverflowError):
        await hatch("old", 1 << 70)
    assert await hens("old") == 0


@pytest.mark.usefixtures("both_ways")
async def test_what_is_written_to_many_is_the_same_both_ways() -> None:
    @atomic
    async def turn_all() -> tuple[int, int, int, int]:
        before = await barns.count({})
        changed = await barns.change_many({"hens": 0}, {"$set": {"hens": 5}})
        seen = await barns.touch("old", "seen")
        await barns.remove(await barns.get("new"))
        return before, changed, seen.version, await barns.remove_many({"hens": 0}) + await barns.count({"hens": 5})

    @atomic
    async def count_two() -> int:
        return await barns.count({}, limit=2)

    @atomic
    async def remove_outdated() -> None:
        await barns.remove(Barn(id="old", version=77))

    async with unit.alone():
        wanted = [db.Change(name, {"$inc": {"hens": 0}}, {"hens": 0}) for name in ("old", "new", "nowhere")]
        assert await barns.apply_each(wanted) == 2
    await build("third")
    assert await count_two() == 2
    assert await turn_all() == (3, 3, 3, 2)
    with pytest.raises(Stale):
        await remove_outdated()
    with pytest.raises(NotFound):
        await atomic(barns.touch)("nowhere", "seen")
    assert [(each.id, each.hens) for each in await barns.many({}, sort=[("_id", 1)])] == [("old", 5), ("third", 5)]


async def test_who_changes_what_was_touched_conflicts(farm: None) -> None:
    tries: list[int] = []

    @atomic
    async def touch_and_wait() -> int:
        tries.append((await barns.get("old")).hens)
        if len(tries) == 1:
            await asyncio.create_task(_outside(hatch("old")))
        return (await barns.touch("old", "seen")).hens

    assert await touch_and_wait() == 1
    assert tries == [0, 1]  # the first try saw what was no longer so, and was done again


async def _outside(writing: Any) -> None:
    unit.current.set(None)
    await writing


async def test_many_who_want_the_same_documents_lose_nothing(farm: None) -> None:
    await asyncio.gather(*(move_hens("old", "new") for _ in range(40)), *(hatch("old") for _ in range(40)))
    assert (await hens("old"), await hens("new")) == (0, 40)


async def test_a_driver_that_changed_inside_costs_speed_and_nothing_else(
    farm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def changed(kind: Any) -> Any:
        raise AttributeError("_get_topology")

    monkeypatch.setattr(lanes, "opened", changed)
    close_lanes()
    assert (await hatch("old")).hens == 1
    assert await move_hens("old", "new") == 1
    assert not state.part(statements.WriteLanes).idle


async def test_who_goes_away_while_it_writes_leaves_no_answer_to_the_next(farm: None) -> None:
    for _ in range(30):
        gone = asyncio.ensure_future(hatch("new"))
        await asyncio.sleep(random.random() * 0.003)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert (await hatch("old")).id == "old"
    assert await hens("old") == 30
    kept = state.part(statements.WriteLanes)
    assert kept.taken == 0
    assert not any(lane.waiting for lane in kept.idle)


# ---- answers that are lost


@pytest.mark.parametrize("times", [1, 2])
async def test_c1_a_write_whose_answer_is_lost_is_made_once(wire: Wire, times: int) -> None:
    wire.lose = {b"findAndModify": times, b"insert": times}
    if times == 1:
        assert (await hatch("old")).hens == 1
        assert (await build("fresh")).version == 1
    else:  # nobody knows: the caller is told so, and not that it failed
        with pytest.raises(Busy):
            await hatch("old")
        with pytest.raises(Busy):
            await build("fresh")
    assert wire.lost == 2 * times
    assert await hens("old") == 1
    assert await barns.count({"_id": "fresh"}) == 1


async def test_c1_many_writes_in_one_command_whose_answer_is_lost_are_made_once(wire: Wire) -> None:
    wire.lose = {b"update": 1}
    async with unit.alone():
        assert await barns.apply_each([db.Change(name, {"$inc": {"hens": 1}}) for name in ("old", "new")]) == 2
    assert wire.lost == 1
    assert (await hens("old"), await hens("new")) == (1, 1)


@pytest.mark.parametrize("command", [b"aggregate", b"update", b"delete"])
async def test_c1_a_transaction_over_many_that_loses_an_answer_has_its_effect_once(wire: Wire, command: bytes) -> None:
    @atomic
    async def hatch_everywhere() -> int:
        await barns.change_many({"hens": {"$gte": 0}}, {"$inc": {"hens": 1}})
        await barns.remove_many({"hens": 77})
        return await barns.count({"hens": 1})

    wire.lose = {command: 1}
    assert await hatch_everywhere() == 2
    assert wire.lost == 1
    assert (await hens("old"), await hens("new")) == (1, 1)


@pytest.mark.parametrize("command", [b"findAndModify", b"find", b"commitTransaction"])
async def test_c1_a_transaction_that_loses_an_answer_has_its_effect_once(wire: Wire, command: bytes) -> None:
    wire.lose = {command: 1}
    assert await move_hens("old", "new") == 1
    assert wire.lost == 1
    assert (await hens("old"), await hens("new")) == (-1, 1)


async def test_c1_on_a_bad_network_all_that_was_acknowledged_is_there_and_once(wire: Wire) -> None:
    wire.odds = 0.1
    done = await asyncio.gather(
        *(hatch("old") for _ in range(60)), *(move_hens("old", "new") for _ in range(30)), return_exceptions=True
    )
    wire.odds = 0.0
    assert wire.lost > 5
    assert all(isinstance(each, (Barn, int, Busy)) for each in done), done
    hatched = sum(isinstance(each, Barn) for each in done[:60])
    moved = sum(isinstance(each, int) for each in done[60:])
    there = await hens("old") + await hens("new")
    unsure = sum(isinstance(each, Busy) for each in done[:60])  # each of these was made once or not at all
    assert hatched <= there <= hatched + unsure
    assert moved <= await hens("new") <= 30


# ---- servers that die and stand still


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[embedded.Servers]:
    with embedded.start(tmp_path) as servers:
        yield servers


async def test_c1_writing_goes_on_after_mongod_was_killed(servers: embedded.Servers) -> None:
    settings = config.load(config.Settings, {"MONGO_URL": servers.mongo_url, "REDIS_URL": servers.redis_url})
    async with state.running(settings):
        await db.prepare([barns])
        for name in ("old", "new"):
            await build(name)
        under_way = [asyncio.ensure_future(hatch("old")) for _ in range(30)]
        await asyncio.sleep(0.005)
        os.kill(servers.pids["mongo"], signal.SIGKILL)
        assert servers.dead() == ["MongoDB"] or servers.pids
        servers.revive()
        done = await asyncio.gather(*under_way, return_exceptions=True)
        assert all(isinstance(each, (Barn, Busy)) for each in done), done
        acknowledged = sum(isinstance(each, Barn) for each in done)
        async with asyncio.timeout(30):
            while True:
                with suppress(Busy):
                    await hatch("new")
                    break
        assert acknowledged <= await hens("old") <= 30


async def test_c1_a_primary_that_steps_down_is_left(servers: embedded.Servers) -> None:
    settings = config.load(config.Settings, {"MONGO_URL": servers.mongo_url, "REDIS_URL": servers.redis_url})
    async with state.running(settings):
        await db.prepare([barns])
        await build("old")
        await state.mongo().admin.command("replSetStepDown", 2, force=True)
        async with asyncio.timeout(30):
            while True:
                with suppress(Busy):
                    await hatch("old")
                    break
        assert await hens("old") >= 1


async def test_c8_who_writes_to_a_server_that_stands_still_is_told_in_time(
    servers: embedded.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, "PATIENCE", 0.5)
    settings = config.load(config.Settings, {"MONGO_URL": servers.mongo_url, "REDIS_URL": servers.redis_url})
    async with state.running(settings):
        monkeypatch.setattr(unit, "PATIENCE", 20.0)
        await db.prepare([barns])
        await build("old")
        monkeypatch.setattr(unit, "PATIENCE", 0.5)
        os.kill(servers.pids["mongo"], signal.SIGSTOP)
        try:
            async with asyncio.timeout(20):
                while psutil.Process(servers.pids["mongo"]).status() != psutil.STATUS_STOPPED:
                    await asyncio.sleep(0.01)
                with pytest.raises(Busy):
                    await hatch("old")
                with pytest.raises(Busy):
                    await move_hens("old", "old")
        finally:
            os.kill(servers.pids["mongo"], signal.SIGCONT)
        monkeypatch.setattr(unit, "PATIENCE", 20.0)
        await hatch("old")
