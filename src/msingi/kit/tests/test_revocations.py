"""Revocations: known to every process at once, also to one that starts later or lost its database."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
import pytest_asyncio

from msingi.kit import db, embedded, revocations, state
from msingi.kit.actors import Actor
from msingi.kit.ids import new_id
from msingi.kit.revocations import fresh, is_revoked, revoke
from msingi.kit.state import State
from msingi.kit.testing import test_settings
from msingi.kit.tests.waiting import beside, until
from msingi.kit.unit import atomic

ANN = Actor(id="ann", session="phone", version=2)


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def prepared(running: State) -> None:
    await db.prepare(revocations.stores())


@asynccontextmanager
async def watching() -> AsyncIterator[None]:
    """This process follows the revocations, and has caught up."""
    async with beside(revocations.run_watch):
        await until(fresh)
        yield


revoke_now = atomic(revoke)


async def test_a_revoked_session_is_known_at_once_where_it_was_revoked(running: State) -> None:
    assert not is_revoked(ANN)
    await revoke_now(actor="ann", session="phone")
    assert is_revoked(ANN)
    assert not is_revoked(Actor(id="ann", session="laptop", version=2))


async def test_older_token_versions_of_an_actor_end_and_newer_do_not(running: State) -> None:
    await revoke_now(actor="ann", below=2)
    assert not is_revoked(ANN)
    assert is_revoked(Actor(id="ann", session="laptop", version=1))
    assert not is_revoked(Actor(id="bob", session="laptop", version=1))
    await revoke_now(actor="ann", below=3)
    await revoke_now(actor="ann", below=1)  # arriving late takes nothing back
    assert is_revoked(ANN)


async def test_what_fails_revokes_nothing(running: State) -> None:
    @atomic
    async def fail() -> None:
        await revoke(actor="ann", session="phone")
        raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert not is_revoked(ANN)
    assert await revocations.revocations.count({}) == 0
    with pytest.raises(ValueError, match="which session"):
        await revoke_now(actor="ann")
    with pytest.raises(RuntimeError, match="belongs inside"):
        await revoke(actor="ann", session="phone")


async def test_listeners_are_told_and_one_that_fails_keeps_nothing_from_the_others(
    running: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []

    async def failing(actor: str, session: str) -> None:
        raise KeyError

    async def listening(actor: str, session: str) -> None:
        told.append((actor, session))

    monkeypatch.setattr(revocations, "_listeners", [failing, listening])
    await revoke_now(actor="ann", session="phone")
    await revoke_now(actor="bob", below=1)
    assert told == [("ann", "phone"), ("bob", "")]


async def test_a11_every_process_knows_within_a_second(running: State) -> None:
    async with following(running) as other:
        waits = []
        for _ in range(5):
            actor = Actor(id=new_id(), session=new_id())
            assert not await other(actor)
            await revoke_now(actor=actor.id, session=actor.session)
            began = monotonic()
            while not await other(actor):
                assert monotonic() - began < 1.0, "the other process does not know"
            waits.append(monotonic() - began)
        late = Actor(id="carol", session="tablet", version=0)
        await revoke_now(actor="carol", below=1)
        await until_true(lambda: other(late), 1.0)


async def until_true(ask: Callable[[], Awaitable[bool]], seconds: float) -> None:
    began = monotonic()
    while not await ask():
        assert monotonic() - began < seconds, "the other process does not know"


FOLLOWER = """
import asyncio, json, sys
from msingi.kit import revocations, state
from msingi.kit.actors import Actor
from msingi.kit.config import Settings

async def main():
    async with state.running(Settings(**json.loads(sys.argv[1]))):
        asyncio.create_task(revocations.run_watch())
        while not revocations.fresh():
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(revocations.is_revoked(Actor(**json.loads(line))), flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def following(running: State) -> AsyncIterator[Callable[[Actor], Awaitable[bool]]]:
    """Another process that follows the revocations and answers whether an actor is among them."""
    told = json.dumps({"mongo_url": running.settings.mongo_url, "database": running.settings.database})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        FOLLOWER,
        told,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ},
    )
    assert process.stdin
    assert process.stdout
    lines, asks = process.stdout, process.stdin
    line = b""
    while line != b"ready\n":  # log lines come before
        line = await asyncio.wait_for(lines.readline(), 20)
        assert line, "the other process died"

    async def ask(actor: Actor) -> bool:
        asks.write(json.dumps({"id": actor.id, "session": actor.session, "version": actor.version}).encode() + b"\n")
        while True:
            answer = await asyncio.wait_for(lines.readline(), 5)
            if answer in (b"True\n", b"False\n"):
                return answer == b"True\n"
            assert answer, "the other process died"

    try:
        yield ask
    finally:
        process.kill()
        await process.wait()


async def test_who_starts_later_knows_what_was_revoked_before(running: State) -> None:
    await revoke_now(actor="ann", session="phone")
    async with state.running(running.settings):
        assert not is_revoked(ANN)
        async with watching():
            assert is_revoked(ANN)


async def test_who_cannot_hear_knows_that_it_may_be_late(running: State) -> None:
    assert not fresh()
    async with watching():
        known = state.part(revocations._Revoked)
        heard = known.heard_at
        await until(lambda: known.heard_at > heard)  # nobody revokes anything, yet the stream is known to live
        known.heard_at -= revocations.STALE
        assert not fresh()
        await until(fresh)


# A driver whose server dies while it connects leaves that socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_watch_goes_on_after_the_database_was_killed(tmp_path: Path) -> None:
    servers = embedded.start(tmp_path, only=["mongo"])
    try:
        async with state.running(test_settings(MONGO_URL=servers.mongo_url)):
            await db.prepare(revocations.stores())
            async with watching():
                await revoke_now(actor="ann", session="phone")
                os.kill(servers.pids["mongo"], signal.SIGKILL)
                await until(servers.dead)
                await asyncio.to_thread(servers.revive)
                assert is_revoked(ANN)
                bob = Actor(id="bob", session="laptop")
                await _revoke_elsewhere(bob)
                await until(lambda: is_revoked(bob), 15)
    finally:
        servers.release()


async def _revoke_elsewhere(actor: Actor) -> None:
    """Write the row without telling this process."""
    row = revocations.Revocation(actor=actor.id, session=actor.session)
    await revocations.revocations.raw.insert_one(revocations.revocations.dump(row))
