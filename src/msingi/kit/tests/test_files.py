"""Files over real HTTP, on a real disk: they arrive in pieces, are judged by content, and go out so that none runs."""

import asyncio
import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from msingi.kit import files, state
from msingi.kit.errors import NotFound
from msingi.kit.files import HEAD
from msingi.kit.testing import test_settings
from msingi.kit.tests.served import Server, read_until_silence, serving, wait_until

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 100
GIF_AND_SCRIPT = b"GIF89a=1;alert(document.domain)//" + b"<script>alert(1)</script>"
HTML = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
APP = "msingi.kit.tests.upload_app:build"
MEGABYTE = 10**6


def environ(folder: Path) -> dict[str, str]:
    return {
        "MONGO_URL": os.environ["MSINGI_TEST_MONGO"],
        "REDIS_URL": os.environ["MSINGI_TEST_REDIS"],
        "MSINGI_DATABASE": "files",
        "MSINGI_FILES": str(folder),
        "BODY_SECONDS": "2",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(environ(folder), app=APP) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("arriving/*")]


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("files/*")}


def name_of(content: bytes, ending: str) -> str:
    return f"{hashlib.sha256(content).hexdigest()}.{ending}"


# ---- how they arrive


def in_pieces(size: int, begin: bytes = PNG) -> Iterator[bytes]:
    yield begin
    piece = b"0123456789abcdef" * 4096
    for _ in range(0, size - len(begin), len(piece)):
        yield piece


def as_form(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield b'--edge\r\nContent-Disposition: form-data; name="about"\r\n\r\nsomething\r\n'
    yield b'--edge\r\nContent-Disposition: form-data; name="file"; filename="../../etc/passwd.png"\r\n\r\n'
    yield from pieces
    yield b"\r\n--edge--\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=edge"}


@pytest.mark.parametrize("form", [False, True], ids=["as it is", "in a form"])
def test_i3_fifty_megabytes_are_taken_in_pieces_and_cost_no_memory(
    server: Server, client: httpx.Client, folder: Path, form: bool
) -> None:
    client.post("/shelf", content=PNG)
    (worker,) = server.workers()
    before = memory(worker, "VmRSS")
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # the peak is counted from here
    begin = PNG + (b"form" if form else b"body")
    expected = hashlib.sha256()
    size = 0
    for piece in in_pieces(50 * MEGABYTE, begin):
        expected.update(piece)
        size += len(piece)
    pieces = in_pieces(50 * MEGABYTE, begin)
    reply = client.post("/shelf", content=as_form(pieces) if form else pieces, headers=FORM if form else {})
    assert reply.status_code == 201, reply.text
    assert reply.json() == {"name": f"{expected.hexdigest()}.png", "kind": "image/png", "size": size}
    assert (folder / "files" / reply.json()["name"]).stat().st_size == size
    assert memory(worker, "VmHWM") - before < 40 * MEGABYTE
    assert left(folder) == []


def memory(pid: int, which: str) -> int:
    """Bytes that a process holds now (VmRSS) or held at most (VmHWM)."""
    line = next(each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith(which))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
@pytest.mark.parametrize(("route", "limit"), [("/shelf", 60 * MEGABYTE), ("/reports", MEGABYTE)])
def test_i3_what_is_too_large_is_refused_and_leaves_nothing(
    client: httpx.Client, folder: Path, announced: bool, route: str, limit: int
) -> None:
    before = kept(folder)
    begin = b"%PDF-1.7\n"
    body: Any = begin + b"x" * limit if announced else in_pieces(limit + MEGABYTE, begin)
    reply = client.post(route, content=body)
    assert (reply.status_code, reply.json()["code"], reply.json()["limit"]) == (413, "too_large", limit)
    assert left(folder) == []
    assert kept(folder) == before


def test_c9_an_upload_that_is_too_slow_is_cut_off_and_leaves_nothing(server: Server, folder: Path) -> None:
    before = kept(folder)
    head = b"POST /shelf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head + PNG + b"x" * 20_000)  # enough to be stored, and to earn a second more
        wait_until(lambda: b"408" in connection.recv(65536), 15)
    wait_until(lambda: left(folder) == [])
    assert kept(folder) == before


def test_an_upload_that_breaks_off_leaves_nothing(server: Server, folder: Path) -> None:
    before = kept(folder)
    head = b"POST /shelf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head + PNG + b"x" * 5 * MEGABYTE)
        wait_until(lambda: left(folder) != [])
    wait_until(lambda: left(folder) == [])
    assert kept(folder) == before


def test_c2_a_killed_process_leaves_a_temporary_object_and_no_file(tmp_path: Path) -> None:
    head = b"POST /shelf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n"
    with (
        serving(environ(tmp_path), app=APP, options=["--respawn-failed-workers"]) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
    ):
        connection.sendall(head + PNG + b"x" * 5 * MEGABYTE)
        wait_until(lambda: left(tmp_path) != [])
        os.kill(server.workers()[0], signal.SIGKILL)
        assert read_until_silence(connection) == (b"", True)
    assert len(left(tmp_path)) == 1
    assert kept(tmp_path) == set()


def test_a_disk_that_fails_is_a_reason_to_come_again(tmp_path: Path) -> None:
    with serving(environ(tmp_path), app=APP) as server, server.client() as client:
        (tmp_path / "arriving").write_bytes(b"not a folder")
        reply = client.post("/shelf", content=PNG * 100)
        assert (reply.status_code, reply.json()["code"], reply.headers["retry-after"]) == (503, "busy", "2")
        (tmp_path / "arriving").unlink()
        assert client.post("/shelf", content=PNG * 100).status_code == 201
    assert kept(tmp_path) == {name_of(PNG * 100, "png")}


@pytest.mark.parametrize("route", ["/broken", "/reports"])
def test_what_the_handler_does_not_keep_is_gone(client: httpx.Client, folder: Path, route: str) -> None:
    before = kept(folder)
    assert client.post(route, content=PNG * 100).status_code in (500, 415)
    assert (left(folder), kept(folder)) == ([], before)


def test_z1_the_same_content_at_the_same_time_is_kept_once(server: Server, folder: Path) -> None:
    content = PNG + os.urandom(300_000)

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
            return await asyncio.gather(*(client.post("/shelf", content=content) for _ in range(20)))

    replies = asyncio.run(all_at_once())
    assert {reply.status_code for reply in replies} == {201}
    assert {reply.json()["name"] for reply in replies} == {name_of(content, "png")}
    assert (folder / "files" / name_of(content, "png")).read_bytes() == content
    assert left(folder) == []


# ---- what they are


@pytest.mark.parametrize(
    ("content", "said", "kind"),
    [
        (PNG, "text/html", "image/png"),
        (b"%PDF-1.7\n1 0 obj", "image/png", "application/pdf"),
        (b"name,price\nchai,120\n", "application/pdf", "text/plain"),
        ("bei,jina\n120,ng'ombe – ñ\n".encode(), "image/gif", "text/plain"),
        (GIF_AND_SCRIPT, "image/gif", "image/gif"),
        (b"PK\x03\x04" + b"\x14\x00" * 40, "image/png", "application/zip"),
        (HTML, "image/png", "application/octet-stream"),
        (SVG, "image/png", "application/octet-stream"),
        (b"hello <img src=x onerror=alert(1)>", "text/plain", "application/octet-stream"),
        (b"MZ\x90\x00" + b"\x00" * 200, "image/jpeg", "application/octet-stream"),
        (b"\x00\x01\x02\x03" * 30, "image/jpeg", "application/octet-stream"),
    ],
)
def test_i4_the_content_says_what_it_is_and_never_the_sender(
    client: httpx.Client, content: bytes, said: str, kind: str
) -> None:
    reply = client.post("/shelf", content=content, headers={"Content-Type": said})
    assert (reply.status_code, reply.json()["kind"]) == (201, kind)
    served = client.get(f"/files/{reply.json()['name']}")
    assert (served.headers["content-type"].partition(";")[0], served.content) == (kind, content)


@pytest.mark.parametrize("content", [PNG, HTML, SVG, GIF_AND_SCRIPT, b"PK\x03\x04" + b"\x14\x00" * 40, b"\x00" * 50])
def test_i4_a_route_takes_the_types_on_its_list_and_no_other(
    client: httpx.Client, folder: Path, content: bytes
) -> None:
    before = kept(folder)
    reply = client.post("/reports", content=content, headers={"Content-Type": "application/pdf"})
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media")
    assert "application/pdf" in reply.json()["detail"]
    assert (left(folder), kept(folder)) == ([], before)


def test_i4_who_sends_much_of_the_wrong_type_reads_why(client: httpx.Client, folder: Path) -> None:
    reply = client.post("/pictures", content=in_pieces(15 * MEGABYTE, b"%PDF-1.7\n"))
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media")
    assert left(folder) == []


@pytest.mark.parametrize("body", [b"", b"--edge\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--edge--\r\n"])
def test_without_a_file_there_is_nothing_to_keep(client: httpx.Client, body: bytes) -> None:
    reply = client.post("/shelf", content=body, headers=FORM if body else {})
    assert (reply.status_code, reply.json()["code"]) == (422, "file_missing")


def test_of_several_files_none_is_kept(client: httpx.Client, folder: Path) -> None:
    before = kept(folder)
    two = [("file", ("a.png", PNG + b"a")), ("file", ("b.png", PNG + b"b"))]
    reply = client.post("/shelf", files=two)
    assert (reply.status_code, reply.json()["code"]) == (422, "one_file_only")
    assert (left(folder), kept(folder)) == ([], before)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no form at all", "multipart/form-data; boundary=edge"),
        (
            b"--edge\r\nContent-Disposition: form-data; name=a; filename=a\r\n\r\nxxx",
            "multipart/form-data; boundary=edge",
        ),
        (b"--edge\nContent-Disposition: form-data\n\nxxx", "multipart/form-data; boundary=edge"),
        (b"--edge\r\n" + b"X: y\r\n" * 1000, "multipart/form-data; boundary=edge"),
        (b"--edge\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n" * 50, "multipart/form-data; boundary=edge"),
        (b"--\r\n", "multipart/form-data"),
    ],
)
def test_c13_a_broken_form_is_malformed(client: httpx.Client, folder: Path, body: bytes, said: str) -> None:
    reply = client.post("/shelf", content=body, headers={"Content-Type": said})
    assert (reply.status_code, reply.json()["code"]) == (400, "malformed")
    assert left(folder) == []


# ---- how they go out


@pytest.fixture(scope="module")
def stored(client: httpx.Client) -> tuple[str, bytes]:
    content = PNG + os.urandom(1_000_000)
    return client.post("/shelf", content=content).json()["name"], content


def test_i4_a_file_goes_out_so_that_no_browser_runs_it(client: httpx.Client, stored: tuple[str, bytes]) -> None:
    shown = client.get(f"/files/{stored[0]}").headers
    page = client.get(f"/files/{client.post('/shelf', content=HTML).json()['name']}").headers
    assert (shown["content-disposition"], page["content-disposition"]) == ("inline", "attachment")
    assert page["content-type"] == "application/octet-stream"
    for headers in (shown, page):
        assert headers.get_list("x-content-type-options") == ["nosniff"]
        assert headers.get_list("content-security-policy") == ["default-src 'none'; frame-ancestors 'none'; sandbox"]
        assert headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_file_is_served_whole_with_its_length_and_its_tag(client: httpx.Client, stored: tuple[str, bytes]) -> None:
    name, content = stored
    reply = client.get(f"/files/{name}", headers={"Cookie": "sid=x"})
    assert (reply.status_code, reply.content) == (200, content)
    assert reply.headers["content-length"] == str(len(content))
    assert (reply.headers["etag"], reply.headers["accept-ranges"]) == (f'"{name}"', "bytes")
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-encoding" not in reply.headers


def test_head_tells_the_same_and_sends_nothing(client: httpx.Client, stored: tuple[str, bytes]) -> None:
    reply = client.head(f"/files/{stored[0]}")
    assert (reply.status_code, reply.content, reply.headers["content-length"]) == (200, b"", str(len(stored[1])))


@pytest.mark.parametrize("held", ['"{}"', 'W/"{}"', '"other", "{}"'])
def test_who_holds_it_already_gets_304(client: httpx.Client, stored: tuple[str, bytes], held: str) -> None:
    reply = client.get(f"/files/{stored[0]}", headers={"If-None-Match": held.format(stored[0])})
    assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", f'"{stored[0]}"')
    assert client.get(f"/files/{stored[0]}", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-99", 0, 100), ("100-", 100, None), ("-5", -5, None), ("999999-99999999999", 999_999, None), ("7-7", 7, 8)],
)
def test_a_range_is_served_as_asked(
    client: httpx.Client, stored: tuple[str, bytes], asked: str, start: int, end: int | None
) -> None:
    name, content = stored
    part = content[start:end]
    first = start % len(content)
    reply = client.get(f"/files/{name}", headers={"Range": f"bytes={asked}"})
    assert (reply.status_code, reply.content) == (206, part)
    assert reply.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{len(content)}"
    assert reply.headers["content-length"] == str(len(part))


@pytest.mark.parametrize("asked", ["bytes=5000000-", "bytes=1000116-1000120", "bytes=-0"])
def test_a_range_that_is_not_there_is_416(client: httpx.Client, stored: tuple[str, bytes], asked: str) -> None:
    reply = client.get(f"/files/{stored[0]}", headers={"Range": asked})
    assert (reply.status_code, reply.headers["content-range"]) == (416, f"bytes */{len(stored[1])}")


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=-", "bytes=0-1,5-6", "lines=1-2", "bytes=a-b", "bytes=1-" + "9" * 99]
)
def test_a_range_that_cannot_be_read_is_passed_over(
    client: httpx.Client, stored: tuple[str, bytes], asked: str
) -> None:
    reply = client.get(f"/files/{stored[0]}", headers={"Range": asked})
    assert (reply.status_code, len(reply.content)) == (200, len(stored[1]))


def test_a_range_of_another_content_is_not_mixed_in(client: httpx.Client, stored: tuple[str, bytes]) -> None:
    asked = {"Range": "bytes=0-9"}
    assert client.get(f"/files/{stored[0]}", headers=asked | {"If-Range": '"other"'}).status_code == 200
    assert client.get(f"/files/{stored[0]}", headers=asked | {"If-Range": f'"{stored[0]}"'}).status_code == 206


@pytest.mark.parametrize(
    "path",
    [
        "../arriving/x",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..\\..\\secret",
        "a%00.png",
        "a" * 64,
        "a" * 64 + ".png",
        "A" * 64 + ".png",
        "a" * 64 + ".png%0a",
        "a" * 64 + ".html",
        "%2Fetc%2Fpasswd",
        "%ff.png",
    ],
)
def test_i4_no_name_leads_out_of_the_folder(server: Server, path: str) -> None:
    reply, _ = server.exchange(f"GET /files/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert reply.split(b" ", 2)[1] in (b"404", b"400"), reply[:200]
    assert b"root:" not in reply


def test_a_great_file_is_sent_in_pieces(server: Server, client: httpx.Client, folder: Path) -> None:
    content = in_pieces(50 * MEGABYTE, PNG + b"great")
    name = client.post("/shelf", content=content).json()["name"]
    (worker,) = server.workers()
    before = memory(worker, "VmRSS")
    Path(f"/proc/{worker}/clear_refs").write_text("5")
    got = hashlib.sha256()
    with client.stream("GET", f"/files/{name}") as reply:
        for piece in reply.iter_raw():
            got.update(piece)
    assert f"{got.hexdigest()}.png" == name
    assert memory(worker, "VmHWM") - before < 40 * MEGABYTE


# ---- the storage itself


@pytest_asyncio.fixture(loop_scope="session")
async def here(tmp_path: Path) -> AsyncIterator[Path]:
    async with state.running(test_settings(MSINGI_FILES=tmp_path, CDN_URL="https://cdn.example/")):
        yield tmp_path


async def test_what_the_house_makes_is_kept_read_and_removed(here: Path) -> None:
    file = await files.put(b"hello", "text/plain")
    assert file == files.File(name_of(b"hello", "txt"), "text/plain", 5)
    assert await files.put(b"hello", "text/plain") == file
    assert b"".join([piece async for piece in files.read(file.name)]) == b"hello"
    await files.remove(file.name)
    await files.remove(file.name)
    with pytest.raises(NotFound):
        [piece async for piece in files.read(file.name)]


async def test_what_belongs_to_something_has_a_name_of_its_own(here: Path) -> None:
    names = {(await files.put(b"same", "text/plain", of)).name for of in ("", "one", "other")}
    assert kept(here) == names
    assert len(names) == 3


async def test_a_private_file_is_there_when_it_is_whole_and_no_address_leads_to_it(here: Path) -> None:
    async def some(*pieces: bytes | type[Exception]) -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            if not isinstance(piece, bytes):
                raise piece
            yield piece

    with pytest.raises(ZeroDivisionError):
        await files.keep_private("sheets/one.csv", some(b"a" * 3 * MEGABYTE, ZeroDivisionError))
    with pytest.raises(NotFound):
        await anext(files.read_private("sheets/one.csv"))
    assert left(here) == []
    assert await files.keep_private("sheets/one.csv", some(b"a" * 3 * MEGABYTE, b"bc")) == 3 * MEGABYTE + 2
    assert await files.keep_private("sheets/one.csv", some(b"ab", b"c")) == 3
    assert b"".join([piece async for piece in files.read_private("sheets/one.csv")]) == b"abc"
    for name in ("sheets/one.csv", "one.csv", "../private/sheets/one.csv"):
        with pytest.raises(NotFound):
            await anext(files.read(name))
    for name in ("../files/x", "sheets/../../x", "/etc/passwd", "sheets/", "sheets/.x", "Sheets/x", ""):
        with pytest.raises(NotFound):
            await files.remove_private(name)
    await files.remove_private("sheets/one.csv")
    await files.remove_private("sheets/one.csv")
    with pytest.raises(NotFound):
        await anext(files.read_private("sheets/one.csv"))


async def test_a_file_that_a_failure_cut_short_is_written_again(here: Path) -> None:
    file = await files.put(b"whole", "text/plain")
    (here / "files" / file.name).write_bytes(b"")
    await files.put(b"whole", "text/plain")
    assert (here / "files" / file.name).read_bytes() == b"whole"


async def test_who_leaves_while_a_thread_still_writes_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created, began, go_on = files._created, threading.Event(), threading.Event()
    made: list[FileIO] = []

    def slowly(path: Path) -> FileIO:
        began.set()
        go_on.wait(10)
        made.append(created(path))
        return made[0]

    monkeypatch.setattr(files, "_created", slowly)
    writing = files.Writing(["image/png"], 60 * MEGABYTE)
    upload = asyncio.create_task(writing.write(PNG + b"x" * 2 * MEGABYTE))
    await asyncio.to_thread(began.wait, 10)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    clearing = asyncio.create_task(writing.clear_away())
    await asyncio.sleep(0)
    clearing.cancel()  # whoever waits for this may go too
    go_on.set()
    await asyncio.wait([clearing])
    await until(lambda: bool(made) and left(here) == [])


async def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it did not come about in time"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("pieces", [[1], [HEAD - 1, 1], [HEAD, 3 * MEGABYTE, 1], [1] * (HEAD + 9), [5 * MEGABYTE]])
async def test_what_arrives_is_whole_however_it_is_cut(here: Path, pieces: list[int]) -> None:
    sent = os.urandom(sum(pieces))
    writing = files.Writing([files.OTHER, "text/plain"], 60 * MEGABYTE)
    at = 0
    for size in pieces:
        await writing.write(sent[at : at + size])
        at += size
    await writing.close()
    arrival = files.Arrival(writing.place, writing.kind, writing.size, writing.hash.hexdigest())
    assert arrival.digest == hashlib.sha256(sent).hexdigest()
    assert b"".join([piece async for piece in arrival.read()]) == sent
    await writing.clear_away()
    assert left(here) == []


@pytest.mark.parametrize("most", [1, 4096, MEGABYTE])
async def test_what_the_system_did_not_take_at_once_is_written_after_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    def take_less(descriptor: int, pieces: Sequence[bytes]) -> int:
        return os.write(descriptor, b"".join(pieces)[:most])

    monkeypatch.setattr(os, "writev", take_less)
    sent = [os.urandom(500_000) for _ in range(5)]
    writing = files.Writing([files.OTHER], 60 * MEGABYTE)
    for each in sent:
        await writing.write(each)
    await writing.close()
    assert (here / writing.place).read_bytes() == b"".join(sent)
    await writing.clear_away()


async def test_c2_what_was_left_behind_is_swept_when_it_is_old(here: Path) -> None:
    await files.put(b"kept", "text/plain")
    (here / "arriving").mkdir()
    for name, age in (("old", 90_000), ("old#1", 90_000), ("new", 10)):
        path = here / "arriving" / name
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age, time.time() - age))
    assert await files.sweep() == 2
    assert left(here) == ["new"]
    assert await files.sweep(timedelta(0)) == 1
    assert len(kept(here)) == 1


async def test_files_are_fetched_from_the_cdn_if_there_is_one(here: Path) -> None:
    assert files.url_of("a.png") == "https://cdn.example/files/a.png"
    async with state.running(test_settings(MSINGI_FILES=here)):
        assert files.url_of("a.png") == "/files/a.png"
