"""Kept replies: the route is not asked again, nothing written is missed, and nothing is kept that may not be."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar, Response
from litestar.types import ASGIApp

from msingi.kit import breaker, cache, clock, replies, state
from msingi.kit.by_address import by_address
from msingi.kit.cache import Cache, cached
from msingi.kit.db import Collection, Doc, Page
from msingi.kit.edge import Edge
from msingi.kit.encoded import Encoded, encoded
from msingi.kit.errors import NotFound
from msingi.kit.http import Path, Query, get
from msingi.kit.limits import Limit
from msingi.kit.replies import KitResponse, sent
from msingi.kit.tests.test_cache import as_another_process
from msingi.kit.unit import atomic


class Stall(Doc):
    name: str
    goats: int = 0


stalls = Collection(Stall, "stalls", tags=lambda stall: [f"stall:{stall.id}"])
stalls.product = "market"
asked: list[str] = []


@cached(minutes=10, tags=lambda stall_id: [f"stall:{stall_id}"])
async def shown(stall_id: str) -> Encoded:
    return encoded(await stalls.get(stall_id))


@cached(minutes=10, tags=lambda: ["names"])
async def names() -> dict[str, str]:
    return {each.name: each.id for each in await stalls.many({}, limit=100)}


@cached(minutes=10, tags=lambda: ["list"])
async def listed() -> Encoded:
    return encoded(Page([each.name for each in await stalls.many({}, limit=100)], "more"))


@get("/stalls", public=True, middleware=[by_address])
async def list_stalls() -> KitResponse[Page[str]]:
    asked.append("list")
    return sent(await listed())


@get("/stalls/{stall_id:str}", public=True, middleware=[by_address])
async def show_stall(stall_id: Path[str]) -> KitResponse[Stall]:
    asked.append(stall_id)
    return sent(await shown(stall_id))


@get("/named", public=True, middleware=[by_address], limit="20/minute")
async def show_named(name: Query[str], tries: Query[int] = 1) -> KitResponse[Stall]:
    asked.append(name)
    id = (await names()).get(name)
    if id is None:
        raise NotFound
    return sent(await shown(id))


@get("/searched", public=True, middleware=[by_address])
async def search(goats: Query[int]) -> KitResponse[Page[Stall]]:
    """Of the database, with one that is cached looked at on the way."""
    asked.append("searched")
    await shown("red")
    return sent(encoded(Page(await stalls.many({"goats": goats}, limit=100), None)))


@get("/counted", public=True, middleware=[by_address])
async def show_counted() -> Response[bytes]:
    asked.append("counted")
    answer = await shown("red")
    return Response(answer.body, headers={"Set-Cookie": "seen=1"})


@get("/made", public=True, middleware=[by_address])
async def show_made() -> Response[bytes]:
    asked.append("made")
    answer = await shown("red")
    return Response(answer.body, status_code=203)


@get("/own", middleware=[by_address])
async def show_own() -> KitResponse[Stall]:
    asked.append("own")
    return sent(await shown("red"))


@atomic
async def bring(stall_id: str, **changes: Any) -> Stall:
    return await stalls.change(stall_id, {"$set": changes})


@pytest_asyncio.fixture(loop_scope="session")
async def client(running: state.State, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(breaker, "PATIENCE", 5.0)
    await stalls.prepare()
    await stalls.raw.delete_many({})
    for id, name in (("red", "Rosa"), ("blue", "Baraka")):
        await stalls.raw.insert_one(stalls.dump(Stall(id=id, name=name)))
    asked.clear()
    app: Any = Litestar(
        route_handlers=[list_stalls, show_stall, show_named, search, show_counted, show_made, show_own],
        middleware=[Limit()],
        exception_handlers=replies.HANDLERS,
        response_class=replies.KitResponse,
        openapi_config=None,
        logging_config=None,
    )
    edge: ASGIApp = Edge(app, running.settings)  # type: ignore[assignment]
    transport = httpx.ASGITransport(app=edge, client=("192.0.2.1", 1))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://msingi.test") as client:
        yield client


async def test_a_reply_is_kept_whole_and_the_route_not_asked_again(client: httpx.AsyncClient) -> None:
    first, again = await client.get("/stalls/red"), await client.get("/stalls/red")
    assert asked == ["red"]
    varying = ("x-request-id", "ratelimit")
    assert (again.status_code, again.content) == (200, first.content)
    assert [each for each in again.headers.items() if each[0] not in varying] == [
        each for each in first.headers.items() if each[0] not in varying
    ]
    assert again.headers["etag"] == '"1"'
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert (await client.get("/stalls/blue")).json()["name"] == "Baraka"
    assert (await client.get("/stalls/blue?currency=KES")).json()["name"] == "Baraka"
    assert asked == ["red", "blue", "blue"]


async def test_a_page_that_is_kept_has_its_link_and_its_tag(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        reply = await client.get("/stalls?limit=2")
        assert reply.headers["link"] == '</stalls?limit=2&after=more>; rel="next"'
        assert reply.headers["etag"].startswith('W/"')
        same = await client.get("/stalls?limit=2", headers={"If-None-Match": reply.headers["etag"]})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", reply.headers["etag"])
        head = await client.head("/stalls?limit=2")
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", reply.headers["etag"])
    assert asked == ["list"]


async def test_after_a_commit_the_route_is_asked_anew(client: httpx.AsyncClient) -> None:
    for goats in range(1, 4):
        await bring("red", goats=goats)
        for _ in range(2):
            assert (await client.get("/stalls/red")).json()["goats"] == goats
    assert asked == ["red"] * 3


async def test_what_another_process_wrote_is_seen(client: httpx.AsyncClient, running: state.State) -> None:
    await client.get("/stalls/red")
    mine = running.parts[Cache]
    as_another_process()
    await bring("red", goats=5)
    running.parts[Cache] = mine
    assert (await client.get("/stalls/red")).json()["goats"] == 5
    assert asked == ["red", "red"]


async def test_whatever_was_looked_up_on_the_way_makes_the_reply_stale(client: httpx.AsyncClient) -> None:
    assert [(await client.get("/named?name=Rosa")).json()["_id"] for _ in range(2)] == ["red", "red"]
    assert asked == ["Rosa"]
    await stalls.raw.update_one({"_id": "red"}, {"$set": {"name": "Rose"}})
    await stalls.raw.update_one({"_id": "blue"}, {"$set": {"name": "Rosa"}})
    await cache.forget(["names"])
    assert (await client.get("/named?name=Rosa")).json()["_id"] == "blue"


async def test_when_its_minutes_are_over_the_reply_is_made_again(client: httpx.AsyncClient) -> None:
    await client.get("/stalls/red")
    await stalls.raw.update_one({"_id": "red"}, {"$set": {"goats": 9}})  # past the kit: no tag is raised
    assert (await client.get("/stalls/red")).json()["goats"] == 0
    with clock.shifted(timedelta(minutes=12)):
        assert (await client.get("/stalls/red")).json()["goats"] in (0, 9)
    assert asked == ["red", "red"]


@pytest.mark.parametrize("path", ["/searched?goats=0", "/counted", "/made", "/own"])
async def test_only_an_answer_of_the_cache_is_kept_and_only_of_a_public_route(
    client: httpx.AsyncClient, path: str
) -> None:
    first, again = await client.get(path), await client.get(path)
    assert first.content == again.content
    assert len(asked) == 2


async def test_a_problem_is_not_kept(client: httpx.AsyncClient) -> None:
    assert [(await client.get("/named?name=Nobody")).status_code for _ in range(2)] == [404, 404]
    assert [(await client.get("/named?name=Rosa&tries=x")).status_code for _ in range(2)] == [422, 422]
    assert (await client.get("/stalls/green")).status_code == 404
    await stalls.raw.insert_one(stalls.dump(Stall(id="green", name="Gathoni")))
    assert (await client.get("/stalls/green")).status_code == 200


async def test_r1_a_kept_reply_counts_against_the_limit(client: httpx.AsyncClient) -> None:
    statuses = [(await client.get("/named?name=Rosa")).status_code for _ in range(25)]
    assert (statuses.count(200), statuses.count(429)) == (20, 5)
    assert asked == ["Rosa"]


async def test_c5_without_redis_nothing_that_is_kept_is_believed(
    client: httpx.AsyncClient, running: state.State
) -> None:
    await client.get("/stalls/red")
    health = state.part(breaker.Breaker)
    for _ in range(breaker.FAILURES):
        health.failed(TimeoutError("Redis did not answer"))
    await stalls.raw.update_one({"_id": "red"}, {"$set": {"goats": 3}})
    assert (await client.get("/stalls/red")).json()["goats"] == 3
    health.succeeded()  # and for a second after that: others may not have told yet what they wrote
    await stalls.raw.update_one({"_id": "red"}, {"$set": {"goats": 4}})
    assert (await client.get("/stalls/red")).json()["goats"] == 4


async def test_kept_replies_take_no_more_memory_than_they_may(client: httpx.AsyncClient) -> None:
    copies = state.part(Cache).copies
    copies.most = 60_000
    for number in range(200):
        assert (await client.get(f"/stalls/red?try={number}&{'x' * 100}")).status_code == 200
        assert copies.taken == sum(size for _, size in copies.found.values()) <= 60_000
    assert 20 < len(copies.found) < 60
    assert (await client.get(f"/stalls/red?{'x' * 20_000}")).status_code == 200
    assert not any(isinstance(each, tuple) and len(each[2]) > 5_000 for each in copies.found)


async def test_an_answer_in_json_says_what_its_headers_follow_from() -> None:
    assert encoded(Stall(id="red", name="Rosa", version=7)).tag == '"7"'
    assert encoded({"a": 1}).tag == encoded({"a": 1}).tag != encoded({"a": 2}).tag
    assert (encoded(Page([1], "more")).next, encoded({"next": "more"}).next) == ("more", None)
    assert msgspec.json.decode(encoded(Page([1], None)).body) == {"items": [1], "next": None}
