"""The lane to Redis: who reads together asks once, nobody hears anything older than their question, no fault shows."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import redis.asyncio as aioredis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from msingi.kit import breaker, drain, redis_lane, state
from msingi.kit.redis_lane import Lane, Lanes
from msingi.kit.tests.own_redis import OwnRedis

COUNTING = "return redis.call('INCR', KEYS[1])"


class Wire:
    """A stretch of network between us and a Redis: it counts what is asked, and answers may be held up or lost."""

    def __init__(self, port: int, secured: ssl.SSLContext | None = None) -> None:
        self.redis, self.secured = port, secured
        self.questions: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.carrying: set[asyncio.Task[None] | None] = set()
        self.port = 0
        self.server: asyncio.Server

    async def __aenter__(self) -> "Wire":
        self.server = await asyncio.start_server(self._carry, "127.0.0.1", 0, ssl=self.secured)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.server.close()
        await self.cut()

    async def cut(self) -> None:
        """Cut every connection, with what is under way."""
        await drain.end([each for each in self.carrying if each is not None])

    def asked(self, word: bytes) -> int:
        """In how many messages this stood."""
        return sum(word in each for each in self.questions)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carrying.add(asyncio.current_task())
        answers, questions = await asyncio.open_connection("127.0.0.1", self.redis)
        back = asyncio.create_task(self._back(answers, writer))
        try:
            while asked := await reader.read(65536):
                self.questions.append(asked)
                questions.write(asked)
        except OSError:
            pass
        finally:
            back.cancel()
            writer.transport.abort()
            questions.transport.abort()
            self.carrying.discard(asyncio.current_task())

    async def _back(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while answer := await answers.read(65536):
                await self.open.wait()
                writer.write(answer)
            writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def wire(own: OwnRedis) -> AsyncIterator[Wire]:
    async with Wire(own.port) as wire:
        yield wire


@pytest_asyncio.fixture(loop_scope="session")
async def lane(running: state.State, wire: Wire) -> AsyncIterator[Lane]:
    """This process's lane, over the wire, to a Redis of its own."""
    async with over(running, f"redis://127.0.0.1:{wire.port}/0") as lane:
        wire.questions.clear()
        yield lane


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that hold answers up for as long as they like, on a machine that is busy with others."""
    monkeypatch.setattr(breaker, "PATIENCE", 10.0)


@asynccontextmanager
async def over(running: state.State, url: str) -> AsyncIterator[Lane]:
    async with state.running(msgspec.structs.replace(running.settings, redis_url=url)):
        yield await opened()


async def opened() -> Lane:
    """The lane, once it is there: nobody waits for it who asks, but a test does."""
    found: list[Lane] = []

    async def is_there() -> bool:
        await redis_lane.read(["nothing"])
        found[:] = [each for each in [state.part(Lanes).free()] if each is not None]
        return bool(found)

    await until(is_there)
    return found[0]


async def until(done: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not await done():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def told(wire: Wire, word: bytes, times: int) -> None:
    """Wait until this was asked so often."""

    async def is_told() -> bool:
        return wire.asked(word) >= times

    await until(is_told)


def outside(own: OwnRedis) -> Any:
    """Another process's connection."""
    return aioredis.Redis.from_url(own.url)


# ---- together


async def test_who_reads_in_one_turn_of_the_loop_asks_once_and_gets_their_own(lane: Lane, wire: Wire) -> None:
    await redis_lane.ask(lambda: [("SET", f"n{number}", number) for number in range(50)])
    wire.questions.clear()
    found = await asyncio.gather(*(redis_lane.read([f"n{number}", "none"]) for number in range(50)))
    assert [each and (each[f"n{number}"], each["none"]) for number, each in enumerate(found)] == [
        (str(number).encode(), None) for number in range(50)
    ]
    assert wire.asked(b"MGET") == len(wire.questions) == 1


@pytest.mark.usefixtures("patience")
async def test_who_reads_while_a_question_is_under_way_shares_the_next_and_hears_what_was_written_before_they_asked(
    lane: Lane, wire: Wire, own: OwnRedis
) -> None:
    async with outside(own) as other:
        await other.set("n", "old")
        wire.open.clear()
        first = asyncio.create_task(redis_lane.read(["n"]))
        await told(wire, b"MGET", 1)
        await asyncio.sleep(0.05)  # by now Redis has answered it, and the answer is on its way
        await other.set("n", "new")  # acknowledged; who asks from here on must not hear of "old"
        later = [asyncio.create_task(redis_lane.read(["n"])) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert wire.asked(b"MGET") == 1
        wire.open.set()
        assert await first == {"n": b"old"}
        assert await asyncio.gather(*later) == [{"n": b"new"}] * 20
    assert wire.asked(b"MGET") == 2


async def test_nobody_hears_of_anything_older_than_their_question(lane: Lane, wire: Wire, own: OwnRedis) -> None:
    async def write_and_read(other: Any) -> None:
        for _ in range(100):
            written = await other.incr("count")
            found = await redis_lane.read(["count"])
            assert found is None or int(found["count"] or 0) >= written

    async with outside(own) as other:
        await asyncio.gather(*(write_and_read(other) for _ in range(8)))
    assert 0 < wire.asked(b"MGET") < 800


@pytest.mark.usefixtures("patience")
async def test_who_goes_away_takes_nobody_along(lane: Lane, wire: Wire) -> None:
    wire.open.clear()
    leaver, stayer = (asyncio.create_task(redis_lane.read(["n"])) for _ in range(2))
    counting = asyncio.create_task(redis_lane.ask(lambda: [("INCR", "n")]))
    await told(wire, b"MGET", 1)
    await told(wire, b"INCR", 1)
    leaver.cancel()
    counting.cancel()
    wire.open.set()
    assert await stayer in ({"n": None}, {"n": b"1"})
    assert await redis_lane.ask(lambda: [("INCR", "n"), ("ECHO", "whole")]) == [2, b"whole"]
    assert not lane.closed


async def test_a_reply_of_many_pieces_comes_whole(lane: Lane) -> None:
    large = b"\r\n$3\r\nsmall" * 200_000
    assert await redis_lane.ask(lambda: [("SET", "large", large)]) == [b"OK"]
    assert await redis_lane.read(["large"]) == {"large": large}


# ---- what Redis refuses


async def test_an_error_is_left_to_the_ordinary_way_and_the_lane_goes_on(lane: Lane, wire: Wire) -> None:
    assert await redis_lane.ask(lambda: [("SET", "text", "x"), ("INCR", "text"), ("SET", "last", "1")]) is None
    assert wire.asked(b"INCR") == 2
    assert await redis_lane.read(["last"]) == {"last": b"1"}
    assert state.part(Lanes).free() is lane


async def test_a_script_that_redis_does_not_know_is_loaded_and_run_once(lane: Lane) -> None:
    script = state.redis().register_script(COUNTING)
    assert [await redis_lane.run(script, ["n"], []) for _ in range(3)] == [1, 2, 3]
    await state.redis().script_flush()
    assert await redis_lane.run(script, ["n"], []) == 4


# ---- when the connection is lost


@pytest.mark.usefixtures("patience")
async def test_when_the_connection_is_lost_reads_are_asked_again_and_scripts_are_not(
    lane: Lane, wire: Wire, own: OwnRedis
) -> None:
    script = state.redis().register_script(COUNTING)
    await redis_lane.run(script, ["n"], [])
    async with outside(own) as other:
        await other.set("key", "value")
        wire.open.clear()
        wire.questions.clear()
        reading = asyncio.create_task(redis_lane.read(["key"]))
        counting = asyncio.create_task(redis_lane.run(script, ["n"], []))
        await told(wire, b"EVALSHA", 1)
        late = asyncio.create_task(redis_lane.read(["key"]))  # would share the next question
        await asyncio.sleep(0.05)
        await wire.cut()
        wire.open.set()
        assert (await reading, await late, await counting) == ({"key": b"value"}, {"key": b"value"}, None)
        assert int(await other.get("n")) == 2  # it may have run, and did: once
    assert lane.closed
    assert await opened() is not lane


async def test_a_redis_that_stands_still_is_given_up_in_time_and_found_again(
    lane: Lane, wire: Wire, own: OwnRedis
) -> None:
    own.stop()
    since = asyncio.get_running_loop().time()
    found = await asyncio.gather(*(redis_lane.read(["n"]) for _ in range(breaker.FAILURES)))
    took = asyncio.get_running_loop().time() - since
    assert found == [None] * breaker.FAILURES
    assert took >= breaker.PATIENCE
    assert lane.closed
    assert state.part(breaker.Breaker).open
    own.go_on()
    assert await opened() is not lane


async def test_after_a_restart_no_lane_to_the_redis_of_before_is_used(lane: Lane, own: OwnRedis) -> None:
    run = lane.run
    assert run == state.current().redis_run
    own.kill()
    own.start()
    found = await opened()
    assert found.run == state.current().redis_run != run


async def test_a_lane_to_another_redis_than_the_newest_connection_reached_is_closed(lane: Lane) -> None:
    state.current().redis_run = "another"
    assert await redis_lane.read(["n"]) == {"n": None}
    assert lane.closed


async def test_a_lane_that_says_what_nobody_asked_is_closed(lane: Lane) -> None:
    lane.data_received(b"+OK\r\n")
    assert lane.closed
    assert await redis_lane.read(["n"]) == {"n": None}


async def test_nonsense_closes_the_lane(lane: Lane) -> None:
    answer = lane.ask([("PING",)])
    lane.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert await answer is None
    assert lane.closed


async def test_without_what_we_know_of_the_driver_redis_is_asked_the_ordinary_way(
    running: state.State, own: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strange(redis_lane.Lane):
        def __init__(self, *_: Any) -> None:
            raise AttributeError("the driver looks otherwise inside")

    monkeypatch.setattr(redis_lane, "Lane", Strange)
    async with state.running(msgspec.structs.replace(running.settings, redis_url=own.url)):
        assert await redis_lane.ask(lambda: [("SET", "n", 1)]) == [b"OK"]
        lanes = state.part(Lanes)
        if lanes.opening is not None:
            await lanes.opening
        assert (lanes.lane, lanes.opened_at > 0) == (None, True)
        assert await redis_lane.read(["n"]) == {"n": b"1"}


async def test_at_the_end_no_connection_is_left(running: state.State, own: OwnRedis) -> None:
    async with outside(own) as other:

        async def is_alone() -> bool:
            return int((await other.info("clients"))["connected_clients"]) == 1

        async with over(running, own.url):
            assert not await is_alone()
        await until(is_alone)


# ---- by password, over TLS


async def test_a_lane_has_the_password_the_database_and_the_encryption_of_the_address(
    running: state.State, tmp_path: Path
) -> None:
    own = OwnRedis(tmp_path, "--requirepass", "a long walk")
    own.start()
    try:
        async with Wire(own.port, _secured(tmp_path)) as wire:
            url = f"rediss://:a%20long%20walk@127.0.0.1:{wire.port}/3?ssl_cert_reqs=none"
            async with over(running, url) as lane:
                assert await redis_lane.ask(lambda: [("SET", "n", "7")]) == [b"OK"]
                assert await redis_lane.read(["n"]) == {"n": b"7"}
                assert not lane.closed
                assert (await state.redis().info("keyspace"))["db3"]["keys"] == 1
    finally:
        own.kill()


def _secured(folder: Path) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate of its own making."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wire")])
    today = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(today - timedelta(days=1)).not_valid_after(today + timedelta(days=1))
    shown = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    hidden = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "wire.pem").write_bytes(hidden + shown)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "wire.pem")
    return context
