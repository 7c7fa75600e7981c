"""The same files in a bucket: an S3 server of another make, over a real socket."""

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
import pytest
import pytest_asyncio
from obstore.store import S3Store

from msingi.kit import clock, files, state
from msingi.kit.errors import Busy, NotFound
from msingi.kit.testing import test_settings
from msingi.kit.tests.served import Server, serving, wait_until
from msingi.kit.tests.test_files import APP, MEGABYTE, PNG, environ, in_pieces, memory, name_of

MOTO = Path(sys.prefix, "s3")  # where the Makefile puts it: it wants other versions of some packages than we have
pytestmark = pytest.mark.skipif(not (MOTO / "moto").is_dir(), reason="moto is not installed; `make test` does that")
BUCKET = "goods"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server with one bucket, which the AWS_… variables lead to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"PYTHONPATH": str(MOTO)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    aws = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (aws | {"AWS_ALLOW_HTTP": "true"}).items():
                patch.setenv(name, value)
            wait_until(lambda: answers(url), 60)
            assert httpx.put(f"{url}/{BUCKET}", trust_env=False).status_code == 200
            yield url
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/moto-api/", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def server(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    surroundings = environ(tmp_path_factory.mktemp("unused"))
    with serving(surroundings | {"MSINGI_FILES": f"s3://{BUCKET}", "BODY_SECONDS": "20"}, app=APP) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def listed(s3: str, what: str = "list-type=2") -> str:
    return httpx.get(f"{s3}/{BUCKET}?{what}", trust_env=False).text


def test_i3_fifty_megabytes_go_through_to_the_bucket(server: Server, client: httpx.Client, s3: str) -> None:
    client.post("/shelf", content=PNG + b"first").raise_for_status()
    (worker,) = server.workers()
    before = memory(worker, "VmRSS")
    with open(f"/proc/{worker}/clear_refs", "w") as refs:
        refs.write("5")
    expected = hashlib.sha256()
    for piece in in_pieces(50 * MEGABYTE):
        expected.update(piece)
    reply = client.post("/shelf", content=in_pieces(50 * MEGABYTE))
    assert (reply.status_code, reply.json()["name"]) == (201, f"{expected.hexdigest()}.png")
    assert memory(worker, "VmHWM") - before < 60 * MEGABYTE  # three parts of 5 MiB, and what sending them costs
    got = hashlib.sha256()
    with client.stream("GET", f"/files/{reply.json()['name']}") as served:
        for piece in served.iter_raw():
            got.update(piece)
    assert got.digest() == expected.digest()
    assert "arriving/" not in listed(s3)


def test_what_the_bucket_says_of_a_file_to_a_cdn(client: httpx.Client, s3: str) -> None:
    shown = client.post("/shelf", content=PNG + b"shown").json()["name"]
    page = client.post("/shelf", content=b"<!doctype html><script>1</script>").json()["name"]
    bucket = S3Store(BUCKET, client_options={"allow_http": True})
    found = [obstore.get(bucket, f"files/{name}").attributes for name in (shown, page)]
    assert [each["Content-Type"] for each in found] == ["image/png", "application/octet-stream"]
    assert [each["Content-Disposition"] for each in found] == ["inline", "attachment"]
    assert {each["Cache-Control"] for each in found} == {"public, max-age=31536000, immutable"}


def test_ranges_of_it_are_served(client: httpx.Client) -> None:
    content = PNG + bytes(range(256)) * 100
    address = f"/files/{client.post('/shelf', content=content).json()['name']}"

    def part(asked: str) -> httpx.Response:
        return client.get(address, headers={"Range": f"bytes={asked}"})

    assert (part("10-19").status_code, part("10-19").content) == (206, content[10:20])
    assert (part("-7").content, part("25000-").content) == (content[-7:], content[25000:])
    for beyond in (f"{len(content)}-", "9999999-99999999", "-0"):
        assert part(beyond).status_code == 416
        assert part(beyond).headers["content-range"] == f"bytes */{len(content)}"
    assert client.get("/files/" + "a" * 64 + ".png").status_code == 404
    assert client.get("/files/" + "a" * 64 + ".png", headers={"Range": "bytes=0-1"}).status_code == 404


def test_an_upload_that_breaks_off_leaves_no_parts(server: Server, s3: str) -> None:
    head = b"POST /shelf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head + PNG + b"x" * 20 * MEGABYTE)
        wait_until(lambda: "<Upload>" in listed(s3, "uploads"), 20)
    wait_until(lambda: "<Upload>" not in listed(s3, "uploads"), 20)
    assert "arriving/" not in listed(s3)


def test_z1_the_same_content_at_the_same_time_is_kept_once(server: Server, s3: str) -> None:
    content = PNG + os.urandom(100_000)

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
            return await asyncio.gather(*(client.post("/shelf", content=content) for _ in range(8)))

    assert {reply.json()["name"] for reply in asyncio.run(all_at_once())} == {name_of(content, "png")}
    assert listed(s3).count(name_of(content, "png")) == 1
    assert "arriving/" not in listed(s3)


@pytest_asyncio.fixture(loop_scope="session")
async def here(s3: str) -> AsyncIterator[None]:
    async with state.running(test_settings(MSINGI_FILES=f"s3://{BUCKET}/below")):
        yield


async def test_what_the_house_makes_is_kept_read_and_removed(here: None, s3: str) -> None:
    file = await files.put(b"hello", "text/plain")
    assert await files.put(b"hello", "text/plain") == file
    assert f"<Key>below/files/{file.name}</Key>" in listed(s3)
    assert b"".join([piece async for piece in files.read(file.name)]) == b"hello"
    await files.remove(file.name)
    await files.remove(file.name)
    with pytest.raises(NotFound):
        [piece async for piece in files.read(file.name)]


async def test_c2_what_was_left_behind_is_swept_when_it_is_old(here: None, s3: str) -> None:
    await obstore.put_async(files.storage().store, "arriving/left", b"x")
    assert await files.sweep() == 0
    with clock.shifted(timedelta(days=2)):
        assert await files.sweep() == 1
    assert "arriving/left" not in listed(s3)


async def test_a_bucket_that_is_away_is_a_reason_to_come_again(monkeypatch: pytest.MonkeyPatch, s3: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with state.running(test_settings(MSINGI_FILES=f"s3://{BUCKET}")):
        with pytest.raises(Busy):
            await files.put(b"hello", "text/plain")
        with pytest.raises(Busy):
            [piece async for piece in files.read("a" * 64 + ".png")]
