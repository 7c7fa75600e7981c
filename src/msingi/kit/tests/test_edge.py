"""The edge over real HTTP: what comes in is judged, what goes out is dressed, whatever answers inside."""

import gzip
import http.client
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import httpx
import msgspec
import pytest

from msingi.kit.edge import coding_for
from msingi.kit.tests.served import BIG, PAGE, Server, read_until_silence, serving, wait_until

HELMET = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "origin-agent-cluster": "?1",
    "referrer-policy": "no-referrer",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "x-dns-prefetch-control": "off",
    "x-download-options": "noopen",
    "x-frame-options": "SAMEORIGIN",
    "x-permitted-cross-domain-policies": "none",
    "x-xss-protection": "0",
}
HELMETS_PAGE_POLICY = (
    "default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';frame-ancestors 'self';"
    "img-src 'self' data:;object-src 'none';script-src 'self';script-src-attr 'none';"
    "style-src 'self' https: 'unsafe-inline';upgrade-insecure-requests"
)
FRIEND = "https://app.example"
PROXY = "127.0.0.2"
FOREIGN = [
    "null",
    "*",
    "https://evil.example",
    f"{FRIEND}.evil.example",
    "https://evil-app.example",
    "http://app.example",
    f"{FRIEND}:8443",
    "https://APP.example",
    "https://app.exampl",
    "https://app-example",
]
STRANGE = [
    "apiXexample",
    "evil.example",
    "api.example.evil.example",
    "evil-api.example",
    "other.example",
    "other.example:1",
    "api.example@evil.example",
    "api.example:x",
    "api.example/",
    "",
    "api.example,evil.example",
    "api.example:999999",
]
LIKED = [
    ("br, gzip", "br"),
    ("gzip", "gzip"),
    ("br;q=0, gzip", "gzip"),
    ("gzip;q=1, br;q=0.5", "gzip"),
    ("*", "br"),
    ("identity", None),
    ("br;q=0, gzip;q=0", None),
    ("*;q=0", None),
    ("gzip;q=nonsense", None),
    ("", None),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    said = {
        "BODY_SECONDS": "2",
        "MSINGI_TRUSTED_PROXIES": f"{PROXY},10.0.0.0/8",
        "MSINGI_ALLOWED_HOSTS": "api.example,other.example:8443",
        "MSINGI_CORS_ORIGINS": f"{FRIEND},*,null",
    }
    with serving(said) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


# ---- headers


@pytest.mark.parametrize(
    ("path", "status"), [("/small", 200), ("/nothing", 404), ("/busy", 429), ("/boom", 500), ("/ready", 503)]
)
def test_h1_the_twelve_headers_of_helmet_stand_on_every_status(client: httpx.Client, path: str, status: int) -> None:
    reply = client.get(path)
    assert reply.status_code == status
    assert {name: reply.headers.get_list(name) for name in HELMET} == {name: [value] for name, value in HELMET.items()}
    assert "x-powered-by" not in reply.headers
    assert not re.search(r"\d", reply.headers.get("server", ""))


def test_h1_refusals_of_the_edge_itself_carry_them_too(client: httpx.Client) -> None:
    for reply in (
        client.get("/small", headers={"Host": "evil.example"}),
        client.post("/weigh", content=b"x", headers={"Content-Encoding": "gzip"}),
        client.post("/weigh", content=b"x" * 1_000_001),
        client.get("/small", headers={"X-Long": "x" * 70_000}),
    ):
        assert reply.status_code >= 400
        assert {name: reply.headers.get(name) for name in HELMET} == HELMET


def test_h1_a_page_gets_helmets_policy_unless_it_brings_its_own(client: httpx.Client) -> None:
    assert client.get("/page").headers["content-security-policy"] == HELMETS_PAGE_POLICY
    assert client.get("/strict-page").headers.get_list("content-security-policy") == ["default-src 'self'"]


def test_a_304_of_a_page_keeps_the_policy_of_a_page(client: httpx.Client) -> None:
    tag = client.get("/page").headers["etag"]
    again = client.get("/page", headers={"If-None-Match": tag})
    assert again.status_code == 304
    assert again.headers["content-security-policy"] == HELMETS_PAGE_POLICY


@pytest.mark.parametrize("given", ["a" * 64, "0f8e-4a.b_C"])
def test_a_good_request_id_comes_back(client: httpx.Client, given: str) -> None:
    reply = client.get("/who", headers={"X-Request-ID": given})
    assert (reply.headers["x-request-id"], reply.json()["id"]) == (given, given)


@pytest.mark.parametrize("given", ["a" * 65, "", "a b", "<script>", "é"])
def test_a_bad_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    reply = client.get("/who", headers={b"X-Request-ID": given.encode()})
    assert re.fullmatch("[0-9a-f]{24}", reply.headers["x-request-id"])


# ---- CORS


def test_h2_a_listed_origin_may_read_with_credentials(client: httpx.Client) -> None:
    reply = client.get("/small", headers={"Origin": FRIEND})
    assert reply.headers["access-control-allow-origin"] == FRIEND
    assert reply.headers["access-control-allow-credentials"] == "true"
    assert "ETag" in reply.headers["access-control-expose-headers"]
    assert "Origin" in reply.headers.get_list("vary")


@pytest.mark.parametrize(
    "origin",
    FOREIGN,
)
def test_h2_no_other_origin_gets_a_word(client: httpx.Client, origin: str) -> None:
    reply = client.get("/small", headers={"Origin": origin})
    assert reply.status_code == 200
    assert "Origin" in reply.headers.get_list("vary")
    preflight = client.options("/crates", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert (preflight.status_code, preflight.json()["code"]) == (403, "origin_not_allowed")
    for each in (reply, preflight):
        assert not [name for name in each.headers if name.startswith("access-control-")]


def test_h2_a_preflight_is_answered_for_a_listed_origin(client: httpx.Client) -> None:
    reply = client.options("/crates", headers={"Origin": FRIEND, "Access-Control-Request-Method": "PATCH"})
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == FRIEND
    assert "PATCH" in reply.headers["access-control-allow-methods"]
    assert "Idempotency-Key" in reply.headers["access-control-allow-headers"]


# ---- who may keep a reply


def test_h3_what_is_made_for_one_person_is_kept_by_nobody_else(client: httpx.Client) -> None:
    signed = {"Authorization": "Bearer x"}
    assert client.get("/small", headers=signed).headers["cache-control"] == "private, no-cache"
    assert client.get("/nothing", headers=signed).headers["cache-control"] == "no-store"
    assert client.post("/weigh", content=b"x", headers=signed).headers["cache-control"] == "no-store"
    assert client.get("/small", headers={"Cookie": "sid=1"}).headers["cache-control"] == "private, no-cache"
    assert client.get("/kept", headers=signed).headers.get_list("cache-control") == ["public, max-age=60"]
    assert "cache-control" not in client.get("/small").headers


def test_h3_a_reply_that_sets_a_cookie_is_not_stored_and_has_no_etag(server: Server) -> None:
    reply = httpx.get(server.url + "/cookie")
    assert reply.headers["cache-control"] == "no-store"
    assert "etag" not in reply.headers


# ---- names and proxies


@pytest.mark.parametrize(
    "host", ["api.example", "API.example:9000", "other.example:8443", "msingi.test", "localhost:1"]
)
def test_h4_the_house_answers_to_its_names(client: httpx.Client, host: str) -> None:
    assert client.get("/small", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    STRANGE,
)
def test_h4_no_other_name_is_answered(server: Server, host: str) -> None:
    got, _ = server.exchange(b"GET /who HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
    assert got.startswith(b"HTTP/1.1 400")
    assert b'"client"' not in got


def test_h4_two_hosts_are_refused(server: Server) -> None:
    got, _ = server.exchange(b"GET /who HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 400")


def test_h4_forwarded_headers_are_believed_from_a_trusted_proxy_alone(server: Server) -> None:
    said = {
        "X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.1.2.3",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "api.example",
    }
    with server.client() as anybody:
        seen = anybody.get("/who", headers=said).json()
    host = f"127.0.0.1:{server.port}"
    assert {**seen, "id": ""} == {"client": "127.0.0.1", "scheme": "http", "host": host, "names": [], "id": ""}
    with server.client(transport=httpx.HTTPTransport(local_address=PROXY)) as proxy:
        seen = proxy.get("/who", headers=said).json()
        # 10.1.2.3 is a proxy of ours; what stands left of the first stranger, that stranger may have made up.
        expected = {"client": "203.0.113.9", "scheme": "https", "host": "api.example", "names": [], "id": ""}
        assert {**seen, "id": ""} == expected
        assert proxy.get("/who", headers={**said, "X-Forwarded-Host": "evil.example"}).status_code == 400
        assert proxy.get("/who", headers={"X-Forwarded-For": "nonsense"}).json()["client"] == PROXY


def _handshake(server: Server, *headers: str) -> bytes:
    asked = ["GET /talk HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", *headers]
    lines = [*asked, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
    got, _ = server.exchange("\r\n".join(lines).encode())
    return got.partition(b"\r\n")[0]


@pytest.mark.parametrize(
    "headers",
    [
        ["Host: api.example"],
        ["Host: api.example", "Origin: https://api.example", "Cookie: sid=1"],
        ["Host: api.example:9000", "Origin: http://api.example:9000"],
        ["Host: localhost", f"Origin: {FRIEND}", "Cookie: sid=1"],
        ["Host: localhost", "Origin: http://msingi.test"],
    ],
)
def test_g2_a_socket_opens_for_our_own_pages_and_for_programs(server: Server, headers: list[str]) -> None:
    assert _handshake(server, *headers) == b"HTTP/1.1 101 Switching Protocols"


@pytest.mark.parametrize(
    "headers",
    [
        ["Host: api.example", "Origin: https://evil.example"],
        ["Host: api.example", "Origin: null", "Cookie: sid=1"],
        ["Host: api.example", "Origin: https://api.example.evil.example"],
        ["Host: api.example", "Cookie: sid=1"],
        ["Host: evil.example", "Origin: https://evil.example"],
    ],
)
def test_g2_a_socket_opens_for_no_foreign_page(server: Server, headers: list[str]) -> None:
    assert _handshake(server, *headers) == b"HTTP/1.1 403 Forbidden"


# ---- smuggling


def _request(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /weigh HTTP/1.1", b"Host: localhost", *lines, b"", body])


SECOND = b"GET /small?smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        _request(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
        _request(b"Content-Length: 5, 5", body=b"hello"),
        _request(b"Content-Length: +5", body=b"hello"),
        _request(b"X-Folded: one", b" two"),
        _request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        _request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        _request(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
        _request(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
        _request(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
        _request(b"X-Nul: a\0b"),
    ],
)
def test_h5_a_request_whose_end_is_unclear_is_refused_and_cut_off(server: Server, request_: bytes) -> None:
    got, closed = server.exchange(request_ + SECOND)
    assert got.startswith(b"HTTP/1.1 400")
    assert got.count(b"HTTP/1.1 ") == 1
    assert closed


def test_h5_of_a_length_and_a_coding_the_coding_counts_and_nothing_follows(server: Server) -> None:
    both = _request(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")
    got, closed = server.exchange(both + SECOND)
    assert got.count(b"HTTP/1.1 ") == 1
    assert b"smuggled" not in got
    assert closed


def test_h5_headers_over_64_kib_are_431(client: httpx.Client, server: Server) -> None:
    assert client.get("/small", headers={"X-Long": "x" * 60_000}).status_code == 200
    reply = client.get("/small", headers={"X-Long": "x" * 66_000})
    assert (reply.status_code, reply.json()["code"]) == (431, "headers_too_large")
    many = b"".join(b"X-%d: y\r\n" % number for number in range(2000))
    got, closed = server.exchange(b"GET /small HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n")
    assert got.startswith(b"HTTP/1.1 431")
    assert closed


# ---- errors


def test_h6_an_error_tells_its_id_and_nothing_of_what_went_wrong(client: httpx.Client, server: Server) -> None:
    reply = client.get("/boom")
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json() == {
        "type": "/problems/problem",
        "title": "Problem",
        "status": 500,
        "detail": "Something went wrong on our side; trying again later may help.",
        "code": "problem",
        "request_id": reply.headers["x-request-id"],
    }
    id = reply.headers["x-request-id"]
    line = next(each for each in server.lines() if each.get("request_id") == id and each["level"] == "error")
    assert "RuntimeError: the password is hunter2" in line["exception"]


# ---- bodies


def test_i3_a_body_over_the_limit_is_413_by_its_length_and_by_its_pieces(client: httpx.Client) -> None:
    assert client.post("/weigh", content=b"x" * 1_000_000).json() == {"bytes": 1_000_000}
    announced = client.post("/weigh", content=b"x" * 1_000_001)
    assert (announced.status_code, announced.json()["limit"]) == (413, 1_000_000)
    chunked = client.post("/weigh", content=(b"x" * 65536 for _ in range(640)))
    assert (chunked.status_code, chunked.json()["code"]) == (413, "too_large")


def test_i3_a_route_may_take_more(client: httpx.Client) -> None:
    assert client.post("/weigh-much", content=b"x" * 7_000_000).json() == {"bytes": 7_000_000}
    assert client.post("/weigh-much", content=b"x" * 8_000_001).status_code == 413


def test_i3_a_refused_body_costs_no_memory(server: Server, client: httpx.Client) -> None:
    def resident() -> int:
        with open(f"/proc/{server.workers()[0]}/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    for _ in range(3):
        client.post("/weigh", content=(b"x" * 65536 for _ in range(640)))
    assert resident() - before < 50_000_000


def test_i3_a_coded_body_is_415_and_not_unpacked(client: httpx.Client) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    reply = client.post("/weigh", content=bomb, headers={"Content-Encoding": "gzip"})
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media")
    assert client.post("/weigh", content=b"x", headers={"Content-Encoding": "identity"}).json() == {"bytes": 1}


def test_c12_a_body_that_never_comes_is_408_and_cut_off(server: Server) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(_request(b"Content-Length: 100", body=b"x"))
        got, closed = read_until_silence(connection)
    assert got.startswith(b"HTTP/1.1 408")
    assert b'"code":"body_too_slow"' in got
    assert closed
    assert 1.5 < time.monotonic() - began < 6


def test_c12_a_body_that_trickles_does_not_buy_time(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.3) as connection:
        connection.sendall(_request(b"Transfer-Encoding: chunked"))
        end = time.monotonic() + 8
        got = b""
        while not got:
            assert time.monotonic() < end, "nobody cut it off"
            connection.sendall(b"1\r\nx\r\n")
            try:
                got = connection.recv(65536)
            except TimeoutError:
                continue
    assert got.startswith(b"HTTP/1.1 408")


def _ask_slowly(server: Server, path: str, body: bytes, **headers: str) -> http.client.HTTPConnection:
    """Send a body a moment after its headers, when the reply is ready for long."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.auto_open = 0
    connection.connect()
    connection.putrequest("POST", path)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    time.sleep(0.05)
    with suppress(OSError):
        connection.send(body)
    return connection


@pytest.mark.parametrize(("path", "status"), [("/wave", 201), ("/nothing", 404), ("/small", 405), ("/crates", 400)])
def test_a_body_that_nobody_reads_does_not_end_the_connection(server: Server, path: str, status: int) -> None:
    body = b"{}" if status != 400 else b"{"
    with closing(_ask_slowly(server, path, body, Content_Length=str(len(body)))) as connection:
        reply = connection.getresponse()
        reply.read()
        assert (reply.status, reply.headers["Connection"]) == (status, None)
        connection.request("GET", "/small")
        assert connection.getresponse().read() == b'{"hello":"world"}'


def test_a_reply_says_that_the_connection_ends_where_the_rest_of_a_body_does_not_come(server: Server) -> None:
    with closing(_ask_slowly(server, "/wave", b"{", Content_Length="2")) as connection:
        reply = connection.getresponse()
        assert (reply.status, reply.read(), reply.headers["Connection"]) == (201, b'{"hello":"back"}', "close")


def test_who_asks_before_sending_a_body_that_nobody_reads_is_answered_at_once(server: Server) -> None:
    with closing(_ask_slowly(server, "/wave", b"", Content_Length="2", Expect="100-continue")) as connection:
        reply = connection.getresponse()
        assert (reply.status, reply.headers["Connection"]) == (201, "close")


# ---- ETag, compression, HEAD


def test_who_has_it_already_gets_304(client: httpx.Client) -> None:
    first = client.get("/big")
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    for held in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = client.get("/big", headers={"If-None-Match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert "content-type" not in again.headers
        assert "content-encoding" not in again.headers
    assert client.get("/big", headers={"If-None-Match": 'W/"other"'}).json() == BIG
    assert client.get("/nothing", headers={"If-None-Match": "*"}).status_code == 404


def test_an_etag_of_the_reply_itself_is_kept_and_weakened_when_compressed(client: httpx.Client) -> None:
    assert client.get("/kept", headers={"Accept-Encoding": "identity"}).headers["etag"] == '"3"'
    squeezed = client.get("/kept")
    assert (squeezed.headers["content-encoding"], squeezed.headers["etag"]) == ("br", 'W/"3"')
    assert squeezed.headers.get_list("vary") == ["Accept-Language", "Origin", "Accept-Encoding"]
    assert client.get("/kept", headers={"If-None-Match": 'W/"3"'}).status_code == 304


@pytest.mark.parametrize(
    ("accepted", "coding"),
    LIKED,
)
def test_a_reply_is_compressed_as_the_caller_likes(client: httpx.Client, accepted: str, coding: str | None) -> None:
    reply = client.get("/big", headers={"Accept-Encoding": accepted})
    assert reply.json() == BIG
    assert reply.headers.get("content-encoding") == coding
    assert "Accept-Encoding" in reply.headers.get_list("vary")
    assert (coding_for(accepted.encode()).decode() or None) == coding


def test_what_is_small_is_not_compressed(client: httpx.Client) -> None:
    assert "content-encoding" not in client.get("/small").headers


def test_head_is_get_without_the_body(client: httpx.Client) -> None:
    for path in ("/small", "/big", "/nothing", "/page"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-length", "content-type", "etag", "content-encoding"):
            assert head.headers.get(name) == got.headers.get(name)


def test_a_page_is_a_page(client: httpx.Client) -> None:
    assert client.get("/page").text == PAGE


def test_a_stream_arrives_piece_by_piece_and_uncompressed(client: httpx.Client) -> None:
    with client.stream("GET", "/ticks") as reply:
        assert "content-encoding" not in reply.headers
        assert "etag" not in reply.headers
        assert next(reply.iter_lines()).startswith("data: begin")


# ---- the log


def test_a_request_is_logged_without_its_query(client: httpx.Client, server: Server) -> None:
    client.get("/small?token=secret-in-a-query", headers={"X-Request-ID": "look-for-me"})
    line = wait_until(lambda: [each for each in server.lines() if each.get("request_id") == "look-for-me"])[0]
    assert line.pop("ms") >= 0
    assert line.pop("timestamp")
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "access",
        "method": "GET",
        "path": "/small",
        "status": 200,
        "bytes": 17,
        "request_id": "look-for-me",
    }
    assert b"secret-in-a-query" not in server.output.read_bytes()


def test_a_path_cannot_forge_a_line_in_the_log(client: httpx.Client, server: Server) -> None:
    client.get('/%0d%0a{"event":"forged"}', headers={"X-Request-ID": "the-forger"})
    wait_until(lambda: [each for each in server.lines() if each.get("request_id") == "the-forger"])
    (line,) = [each for each in server.output.read_bytes().splitlines() if b"forged" in each]
    assert msgspec.json.decode(line)["event"] == "request"
    assert not [each for each in server.lines() if each["event"] == "forged"]
