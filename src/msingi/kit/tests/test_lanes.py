"""Quick reads say what PyMongo says, and leave to it whatever is not plain."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pymongo import MongoClient

from msingi.kit import config, embedded, lanes, state
from msingi.kit.tests.conftest import running as running

ROWS = [
    {"_id": f"{number:04}", "kind": "abc"[number % 3], "size": number, "at": datetime(2026, 1, 1, tzinfo=UTC)}
    for number in range(300)
]


@pytest_asyncio.fixture(loop_scope="session")
async def rows(running: state.State) -> AsyncIterator[Any]:
    """A collection with three hundred rows."""
    collection = state.database("lanes")["rows"]
    await collection.insert_many(ROWS)
    yield collection


@pytest.mark.parametrize(
    ("where", "sort", "limit", "fields"),
    [
        ({}, None, 1, None),
        ({"_id": "0007"}, None, 1, None),
        ({"_id": "nobody"}, None, 1, None),
        ({"kind": "b"}, [("size", -1)], 21, None),
        ({"kind": {"$in": ["a", "c"]}}, [("kind", 1), ("_id", -1)], 50, None),
        ({"$and": [{"kind": "a"}, {"size": {"$gte": 100}}]}, [("_id", 1)], 299, {"_id": 1}),
        ({"at": {"$lt": datetime(2027, 1, 1, tzinfo=UTC)}}, None, 3, None),
    ],
)
async def test_a_lane_brings_the_rows_that_pymongo_brings(
    rows: Any, where: Any, sort: Any, limit: int, fields: Any
) -> None:
    found = await lanes.find(rows, where, sort=sort, limit=limit, fields=fields)
    assert found == await rows.find(where, fields, sort=sort, limit=limit).to_list()
    assert found is not None


@pytest.mark.parametrize(
    "pipeline",
    [
        [{"$match": {"kind": "b"}}, {"$sort": {"size": -1}}, {"$limit": 20}],
        [{"$group": {"_id": "$kind", "most": {"$max": "$at"}}}, {"$sort": {"_id": 1}}],
        [{"$match": {"kind": "nobody"}}],
    ],
)
async def test_a_lane_brings_what_an_aggregation_brings(rows: Any, pipeline: Any) -> None:
    found = await lanes.aggregate(rows, pipeline, 20)
    assert found == await (await rows.aggregate(pipeline)).to_list()
    assert found is not None


async def test_an_aggregation_that_is_wrong_or_longer_than_was_said_is_left_to_pymongo(rows: Any) -> None:
    assert await lanes.aggregate(rows, [{"$nonsense": 1}], 20) is None
    assert await lanes.aggregate(rows, [{"$match": {"size": {1, 2}}}], 20) is None
    assert await lanes.aggregate(rows, [{"$limit": 30}], 20) is None


async def test_many_at_once_share_a_few_lanes_and_everybody_gets_their_own(rows: Any) -> None:
    found = await asyncio.gather(*(lanes.find(rows, {"_id": f"{n % 300:04}"}, limit=1) for n in range(900)))
    opened = state.part(lanes.Lanes).lanes
    assert 1 <= len(opened) <= lanes.MOST
    # While the first lane is being opened the others go the ordinary way; of the rest each has the right row.
    answered = [(n, each) for n, each in enumerate(found) if each is not None]
    assert all(each[0]["_id"] == f"{n % 300:04}" for n, each in answered)
    again = await asyncio.gather(*(lanes.find(rows, {"_id": f"{n % 300:04}"}, limit=1) for n in range(900)))
    assert [each and each[0]["_id"] for each in again] == [f"{n % 300:04}" for n in range(900)]


async def test_what_is_not_a_plain_whole_answer_is_left_to_pymongo(rows: Any) -> None:
    assert await lanes.find(rows, {"$nonsense": 1}, limit=1) is None  # an error of the server's
    assert await lanes.find(rows, {"size": {1, 2}}, limit=1) is None  # BSON cannot say it
    assert await lanes.find(rows, {"size": 1 << 70}, limit=1) is None
    assert await lanes.find(rows, {}, limit=0) is None  # more than the first batch
    big = state.database("lanes")["big"]
    await big.insert_many([{"_id": number, "body": "x" * 6_000_000} for number in range(4)])
    assert await lanes.find(big, {}, limit=4) is None  # more than one message holds
    assert await lanes.find(big, {"_id": 2}, limit=1) == [{"_id": 2, "body": "x" * 6_000_000}]


async def test_who_goes_away_while_waiting_disturbs_nobody(rows: Any) -> None:
    await lanes.find(rows, {"_id": "0001"}, limit=1)
    for _ in range(20):
        gone = asyncio.ensure_future(lanes.find(rows, {"_id": "0002"}, limit=1))
        stays = asyncio.ensure_future(lanes.find(rows, {"_id": "0003"}, limit=1))
        await asyncio.sleep(0)
        gone.cancel()
        found = await stays
        assert found is not None
        assert found[0]["_id"] == "0003"
    await asyncio.sleep(0.05)
    assert not any(lane.waiting for lane in state.part(lanes.Lanes).lanes)


async def test_a_driver_that_changed_inside_costs_speed_and_nothing_else(
    rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def changed(kind: Any) -> Any:
        raise AttributeError("_get_topology")

    monkeypatch.setattr(lanes, "opened", changed)
    state.part(lanes.Lanes).lanes.clear()
    assert await lanes.find(rows, {"_id": "0001"}, limit=1) is None
    assert await lanes.find(rows, {"_id": "0001"}, limit=1) is None


# ---- servers that die, stand still, and want to know who asks


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[embedded.Servers]:
    with embedded.start(tmp_path) as servers:
        yield servers


async def test_c1_reads_go_on_after_mongod_was_killed(servers: embedded.Servers) -> None:
    settings = config.load(config.Settings, {"MONGO_URL": servers.mongo_url, "REDIS_URL": servers.redis_url})
    async with state.running(settings):
        collection = state.database("lanes")["rows"]
        await collection.insert_many(ROWS)
        assert await lanes.find(collection, {"_id": "0001"}, limit=1) == [ROWS[1]]
        waiting = [asyncio.ensure_future(lanes.find(collection, {"_id": "0002"}, limit=1)) for _ in range(50)]
        os.kill(servers.pids["mongo"], signal.SIGKILL)
        for found in await asyncio.gather(*waiting):
            assert found in (None, [ROWS[2]])
        assert await lanes.find(collection, {"_id": "0001"}, limit=1) is None
        assert servers.dead() == ["MongoDB"]
        servers.revive()
        ends = asyncio.get_running_loop().time() + 15
        while await lanes.find(collection, {"_id": "0003"}, limit=1) != [ROWS[3]]:
            assert asyncio.get_running_loop().time() < ends
            await asyncio.sleep(0.1)


async def test_c1_a_lane_to_a_server_that_is_no_primary_any_more_is_given_up(servers: embedded.Servers) -> None:
    settings = config.load(config.Settings, {"MONGO_URL": servers.mongo_url, "REDIS_URL": servers.redis_url})
    async with state.running(settings):
        collection = state.database("lanes")["rows"]
        await collection.insert_many(ROWS)
        assert await lanes.find(collection, {"_id": "0001"}, limit=1) == [ROWS[1]]
        [lane] = state.part(lanes.Lanes).lanes
        await state.mongo().admin.command("replSetStepDown", 2, force=True)
        assert await lanes.find(collection, {"_id": "0001"}, limit=1) is None
        assert lane.closed  # else each read would first ask it in vain, for as long as it stays a secondary
        ends = asyncio.get_running_loop().time() + 30
        while await lanes.find(collection, {"_id": "0003"}, limit=1) != [ROWS[3]]:
            assert asyncio.get_running_loop().time() < ends
            await asyncio.sleep(0.1)


async def test_who_waits_at_a_server_that_stands_still_is_let_go(
    servers: embedded.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE", 0.3)
    settings = config.load(config.Settings, {"MONGO_URL": servers.mongo_url, "REDIS_URL": servers.redis_url})
    async with state.running(settings):
        collection = state.database("lanes")["rows"]
        await collection.insert_many(ROWS)
        assert await lanes.find(collection, {"_id": "0001"}, limit=1) == [ROWS[1]]
        os.kill(servers.pids["mongo"], signal.SIGSTOP)
        try:
            async with asyncio.timeout(20):
                while psutil.Process(servers.pids["mongo"]).status() != psutil.STATUS_STOPPED:
                    await asyncio.sleep(0.01)
                assert await lanes.find(collection, {"_id": "0002"}, limit=1) is None
        finally:
            os.kill(servers.pids["mongo"], signal.SIGCONT)
        assert await collection.find_one({"_id": "0002"}) == ROWS[2]


ASK = """
import asyncio, sys
from msingi.kit import config, lanes, state

async def ask() -> None:
    async with state.running(config.load(config.Settings, {"MONGO_URL": sys.argv[1]})):
        collection = state.database("lanes")["rows"]
        await collection.insert_one({"_id": 1, "body": "x" * 300_000})
        for _ in range(50):
            assert await lanes.find(collection, {"_id": 1}, limit=1) == [{"_id": 1, "body": "x" * 300_000}]
        print("found")

if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(ask())
else:
    asyncio.run(ask())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_lane_keeps_the_encryption_and_the_sign_in_of_the_connection(
    tmp_path: Path, servers: embedded.Servers, loop: str
) -> None:
    surroundings = embedded._environment(servers, embedded.MONGO)
    certificate = _certificate(tmp_path)
    port = embedded._port_for(tmp_path / "no", embedded.MONGO)
    (tmp_path / "data").mkdir()
    arguments = ["--dbpath", str(tmp_path / "data"), "--port", str(port), "--bind_ip", "127.0.0.1", "--auth"]
    arguments += ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(certificate)]
    arguments += ["--tlsCAFile", str(certificate), "--tlsAllowConnectionsWithoutCertificates", "--quiet"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [embedded._program(embedded.MONGO), *arguments], stdout=log, stderr=log, env=surroundings
        )
    try:
        options = f"tls=true&tlsCAFile={certificate}&directConnection=true&serverSelectionTimeoutMS=8000"
        _make_user(f"mongodb://127.0.0.1:{port}/?{options}")
        known = f"mongodb://ann:secret@127.0.0.1:{port}/?authSource=admin&{options}"
        said = subprocess.run([sys.executable, "-c", ASK, known, loop], capture_output=True, text=True, timeout=60)
        assert said.stdout == "found\n", said.stderr
    finally:
        server.kill()
        server.wait()


def _make_user(url: str) -> None:
    with MongoClient[dict[str, Any]](url) as client:
        client.admin.command("createUser", "ann", pwd="secret", roles=["root"])


def _certificate(folder: Path) -> Path:
    """A certificate and its key in one file, for 127.0.0.1, its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    return file


async def test_a_lane_that_closed_a_moment_ago_keeps_nobody_waiting(rows: Any) -> None:
    await lanes.find(rows, {"_id": "0001"}, limit=1)
    lane = state.part(lanes.Lanes).lanes[0]
    waiting = lane.ask({"find": rows.name, "filter": {}, "limit": 1, "$db": rows.database.name})
    lane.give_up()
    async with asyncio.timeout(10):
        assert await waiting is None
        assert await lane.ask({"ping": 1, "$db": "admin"}) is None
