"""Outgoing HTTP, against servers that fail on purpose and names that lead where they should not."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import pytest_asyncio
import structlog
from msgspec import Struct

from msingi.kit import fetch, state
from msingi.kit.fetch import AddressRefused, Guard, ReplyTooLarge, Unreachable, is_public

Answer = Callable[[bytes], "bytes | None"]


def reply(status: int = 200, body: bytes = b"ok", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Server:
    """A socket that answers each request with the next of its answers, the last one for ever; None hangs up."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.answers: list[bytes | None] = [reply()]
        self.port = 0
        self.delay = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heard.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            await asyncio.sleep(self.delay)
            if answer:
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest_asyncio.fixture
async def server(running: state.State) -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow one another without the usual pause."""
    monkeypatch.setattr(fetch, "_backoff", lambda attempt: 0.01)


class Greeting(Struct):
    hello: str


async def test_a_reply_is_read_as_a_type(server: Server) -> None:
    server.answers = [reply(200, b'{"hello": "world"}')]
    got = await fetch.get(f"{server.url}/x?y=1")
    assert (got.ok, got.status, got.json(Greeting)) == (True, 200, Greeting("world"))
    assert server.heard[0].startswith("get /x?y=1 http/1.1")


async def test_what_belongs_to_a_request_says_so_to_the_next_server(server: Server) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1", traceparent="00-ab-cd-01"):
        await fetch.post(server.url, json={"a": 1})
    assert "x-request-id: r-1\r\n" in server.heard[0]
    assert "traceparent: 00-ab-cd-01\r\n" in server.heard[0]
    assert "content-type: application/json\r\n" in server.heard[0]


@pytest.mark.parametrize(
    ("method", "headers", "failing", "tries"),
    [
        ("GET", {}, None, 3),
        ("GET", {}, 503, 3),
        ("PUT", {}, 502, 3),
        ("POST", {}, 429, 3),
        ("POST", {"Idempotency-Key": "k"}, 503, 3),
        ("POST", {"Idempotency-Key": "k"}, None, 3),
        ("POST", {}, 503, 1),
        ("POST", {}, None, 1),
        ("GET", {}, 500, 1),
        ("GET", {}, 404, 1),
    ],
)
async def test_only_what_can_do_no_harm_is_tried_again(
    server: Server, method: str, headers: dict[str, str], failing: int | None, tries: int
) -> None:
    failure = None if failing is None else reply(failing)
    server.answers = [failure, failure, reply(200)]
    if failing is None and tries == 1:
        with pytest.raises(Unreachable):
            await fetch.request(method, server.url, headers=headers)
    else:
        got = await fetch.request(method, server.url, headers=headers)
        assert got.status == (200 if tries == 3 else failing)
    assert len(server.heard) == tries


async def test_what_never_reached_the_server_is_tried_again_even_if_it_is_a_post(running: state.State) -> None:
    closed = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    with pytest.raises(Unreachable) as told:
        await fetch.post(f"http://127.0.0.1:{port}")
    assert told.value.details == {"host": f"127.0.0.1:{port}", "reason": "ConnectError"}
    assert state.part(fetch.Fetching).circuit(f"127.0.0.1:{port}").failures == 3


async def test_retry_after_is_obeyed_if_there_is_time(server: Server) -> None:
    server.answers = [reply(429, b"", "retry-after: 1"), reply(200)]
    began = time.monotonic()
    assert (await fetch.get(server.url)).status == 200
    assert 1 <= time.monotonic() - began < 4
    server.answers = [reply(429, b"", "retry-after: 100"), reply(200)]
    assert (await fetch.get(server.url)).status == 429


async def test_a_slow_server_costs_no_more_than_was_allowed(server: Server) -> None:
    server.delay = 5
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"no answer within 0\.3 seconds"):
        await fetch.get(server.url, within=0.3)
    assert time.monotonic() - began < 4  # less than the server takes


async def test_a_server_that_keeps_failing_is_left_alone_and_then_probed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "REST", (0.3, 1.0))
    server.answers = [reply(503)]
    for _ in range(fetch.FAILURES):
        await fetch.get(server.url, tries=1)
    for _ in range(3):
        with pytest.raises(Unreachable, match="failed several times"):
            await fetch.get(server.url)
    assert len(server.heard) == fetch.FAILURES
    await asyncio.sleep(0.35)
    server.answers = [reply(200)]
    server.delay = 0.1
    results = await asyncio.gather(*(fetch.get(server.url) for _ in range(4)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["Reply", "Unreachable", "Unreachable", "Unreachable"]
    assert (await fetch.get(server.url)).status == 200


@pytest.mark.parametrize("ask", [fetch.get, fetch.safely])
async def test_a_reply_that_is_too_large_is_not_read(server: Server, ask: Callable[..., Awaitable[object]]) -> None:
    open_all(server)
    server.answers = [reply(200, b"x" * 5000)]
    with pytest.raises(ReplyTooLarge):
        await ask(server.url, largest=4999)
    await ask(server.url, largest=5000)


# ---- addresses that users gave


def open_all(server: Server, names: dict[str, list[str]] | None = None, inside: Sequence[str] = ()) -> list[str]:
    """Let loopback addresses pass as public, but for those `inside`; returns the list of names that get looked up."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return (names or {}).get(host) or [host]

    state.current().parts[Guard] = Guard(resolve, lambda address: address not in inside, frozenset({server.port}))
    return asked


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a9fe:a9fe::", "64:ff9b::7f00:1", "64:ff9b::a00:1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "64:ff9b:1::1", "fec0::1", "3fff::1", "100::1",
    ],
)  # fmt: skip
def test_i5_no_address_of_an_inner_network_is_public(address: str) -> None:
    assert is_public(address) is False


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "196.201.214.200", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_i5_addresses_of_the_open_internet_are_public(address: str) -> None:
    assert is_public(address) is True


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://127.1/", "http://2130706433/", "http://0x7f000001/",
        "http://0177.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://0/",
        "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "ftp://8.8.8.8/", "file:///etc/passwd",
        "gopher://8.8.8.8/", "//8.8.8.8/", "http://", "http:///x", "http://user:pass@8.8.8.8/", "http://8.8.8.8:6379/",
        "http://8.8.8.8:22/", "", "x", "http://exa mple.test/", "http://[::1", "http://a\x00b/", "http://１２７.0.0.1/",
        "http://xn--/", "http://xn--a/", "http://。/", "http://[fe80::1%25eth0．/", "http://[fe80::1%25eth0．[v1.a]",
    ],
)  # fmt: skip
async def test_i5_no_way_into_the_inner_network_is_opened(running: state.State, url: str) -> None:
    with pytest.raises(AddressRefused):
        await fetch.safely(url)


async def test_i5_a_name_that_leads_inside_by_any_of_its_addresses_is_refused(server: Server) -> None:
    open_all(server, {"shop.test": ["127.0.0.1", "127.0.0.9"]}, inside=["127.0.0.9"])
    with pytest.raises(AddressRefused):
        await fetch.safely(f"http://shop.test:{server.port}/")
    assert server.heard == []


async def test_i5_the_address_that_was_judged_is_the_one_that_is_opened(server: Server) -> None:
    """A name that answers differently each time cannot slip in: it is asked once, and the name is still sent."""
    lookups = 0

    async def rebinding(host: str, port: int) -> Sequence[str]:
        nonlocal lookups
        lookups += 1
        return ["127.0.0.1"] if lookups == 1 else ["127.0.0.9"]

    def may_open(address: str) -> bool:
        return address == "127.0.0.1"

    state.current().parts[Guard] = Guard(rebinding, may_open, frozenset({server.port}))
    got = await fetch.safely(f"http://shop.test:{server.port}/price", headers={"Host": "evil.test", "X-Key": "1"})
    assert got.status == 200
    assert lookups == 1
    assert f"host: shop.test:{server.port}\r\n" in server.heard[0]
    assert "x-key: 1\r\n" in server.heard[0]
    assert "evil.test" not in server.heard[0]
    assert got.url == f"http://shop.test:{server.port}/price"


async def test_a_name_of_other_letters_and_an_ipv6_address_are_opened_too(server: Server) -> None:
    asked = open_all(server, {"xn--duka-epa.test": ["127.0.0.1"]})
    assert (await fetch.safely(f"http://dukaé.test:{server.port}/")).status == 200
    assert asked == ["xn--duka-epa.test"]
    assert f"host: xn--duka-epa.test:{server.port}\r\n" in server.heard[0]
    listening = await asyncio.start_server(server.serve, "::1", 0)
    port = listening.sockets[0].getsockname()[1]
    state.current().parts[Guard].ports = frozenset({port})
    assert (await fetch.safely(f"http://[::1]:{port}/")).status == 200
    assert f"host: [::1]:{port}\r\n" in server.heard[1]
    listening.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_i5_a_redirect_is_looked_at_like_the_first_address(server: Server, status: int) -> None:
    asked = open_all(server, {"shop.test": ["127.0.0.1"], "inner.test": ["127.0.0.9"]}, inside=["127.0.0.9"])
    server.answers = [reply(status, b"", f"location: http://inner.test:{server.port}/")]
    with pytest.raises(AddressRefused):
        await fetch.safely(f"http://shop.test:{server.port}/", headers={"Authorization": "secret"})
    assert asked == ["shop.test", "inner.test"]
    assert len(server.heard) == 1


async def test_i5_headers_stay_with_the_host_they_were_meant_for(server: Server) -> None:
    open_all(server, {"shop.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]})
    server.answers = [
        reply(302, b"", "location: /second"),
        reply(302, b"", f"location: http://other.test:{server.port}/third"),
        reply(200),
    ]
    got = await fetch.safely(f"http://shop.test:{server.port}/", headers={"Authorization": "secret"})
    assert got.url == f"http://other.test:{server.port}/third"
    assert ["authorization: secret" in heard for heard in server.heard] == [True, True, False]


async def test_i5_endless_redirects_end_and_posts_follow_none(server: Server) -> None:
    open_all(server)
    server.answers = [reply(302, b"", "location: /again")]
    with pytest.raises(AddressRefused, match="redirects more than 5 times"):
        await fetch.safely(server.url)
    assert len(server.heard) == 6
    assert (await fetch.safely(server.url, method="POST", content=b"{}")).status == 302
    assert len(server.heard) == 7


async def test_i3_a_compressed_reply_is_not_unpacked(server: Server) -> None:
    open_all(server)
    server.answers = [reply(200, b"\x1f\x8b", "content-encoding: gzip")]
    with pytest.raises(Unreachable, match="compressed"):
        await fetch.safely(server.url)
    assert "accept-encoding: identity\r\n" in server.heard[0]


async def test_i5_https_proves_the_name_and_not_the_address(running: state.State) -> None:
    """Seen from the server: the client names the host in its TLS greeting, though it connects to a bare address."""
    hello = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.set_result(await reader.read(4096))
        writer.close()

    listening = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    running.parts[Guard] = Guard(resolve, lambda address: True, frozenset({port}))
    with pytest.raises(Unreachable):
        await fetch.safely(f"https://shop.test:{port}/")
    assert b"shop.test" in await hello
    listening.close()
