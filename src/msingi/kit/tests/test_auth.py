"""Who asks, and the gate: nothing opens but what somebody opened."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from msingi.kit import auth, http, limits, revocations, state, tokens
from msingi.kit.actors import Actor, permissions_of
from msingi.kit.errors import SignInFirst
from msingi.kit.product import Product
from msingi.kit.testing import PEOPLE, Client, House, World
from msingi.kit.tests import orchard
from msingi.kit.tests.orchard import Tree, trees
from msingi.kit.unit import atomic

ANN, ADMIN = PEOPLE["ann"], PEOPLE["admin"]


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [orchard.product]


@pytest.fixture
def sessions() -> Iterator[dict[str, Actor]]:
    """Session cookies that are good, and whose they are."""
    before, anew = list(auth._cookie), [*auth._anew]
    known: dict[str, Actor] = {}

    async def identify(value: str) -> Actor | None:
        return known.get(value)

    auth.identify_cookie_with(identify)
    yield known
    auth._cookie[:], auth._anew[:] = before, anew


# ---- the gate


@pytest.mark.parametrize("path", ["/trees", "/trees/x", "/mine", "/raw", "/pictures"])
async def test_z4_what_nobody_opened_is_shut(nobody: Client, path: str) -> None:
    method = "POST" if path == "/pictures" else "GET"
    told = await nobody.ask(method, path, expect=401)
    assert told["code"] == "sign_in_first"
    assert nobody.last.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "TRACE", "PROPFIND"])
async def test_z4_a_method_that_nobody_serves_opens_nothing(nobody: Client, method: str) -> None:
    await nobody.ask(method, "/trees", expect=[401, 405])


async def test_who_is_signed_in_comes_in(ann: Client) -> None:
    assert await ann.get("/trees") == {"items": [], "next": None}
    assert await ann.get("/mine") == {}
    assert await ann.get("/raw") == b"fruit"


async def test_a_public_route_knows_who_comes(ann: Client, nobody: Client) -> None:
    assert await ann.get("/open") == {"who": "ann"}
    assert await nobody.get("/open") == {"who": "nobody"}


@pytest.mark.parametrize(
    "shown", ["Bearer", "Bearer x", "Bearer a.b.c", "Basic YW5uOnB3", "ann", "Bearer  two", "Bearer \xff", "Token x"]
)
@pytest.mark.parametrize("path", ["/open", "/trees"])
async def test_a_bad_bearer_is_turned_away_on_public_routes_too(nobody: Client, shown: str, path: str) -> None:
    nobody.headers = {"authorization": shown.encode("latin-1")}  # type: ignore[dict-item]
    assert (await nobody.get(path, expect=401))["code"] == "sign_in_first"


async def test_the_word_bearer_may_be_written_in_any_case(ann: Client) -> None:
    ann.headers["authorization"] = ann.headers["authorization"].replace("Bearer", "bEARER")
    assert await ann.get("/open") == {"who": "ann"}


async def test_a_token_in_the_query_is_no_token(nobody: Client, ann: Client) -> None:
    token = ann.headers["authorization"].split()[1]
    await nobody.get(f"/trees?access_token={token}", expect=401)


async def test_without_the_permission_it_is_403(ann: Client, admin: Client, world: World) -> None:
    tree = await orchard.plant(Tree(owner="ann"))
    assert (await ann.delete(f"/trees/{tree.id}", expect=403))["code"] == "forbidden"
    assert await trees.count({}) == 1
    await admin.delete(f"/trees/{tree.id}", expect=204)
    assert await trees.count({}) == 0


async def test_z4_a_permission_counts_on_a_public_route_too(nobody: Client, ann: Client, admin: Client) -> None:
    await nobody.get("/shut", expect=403)
    await ann.get("/shut", expect=403)
    await admin.get("/shut", expect=200)


async def test_z4_an_unknown_role_carries_nothing(world: World) -> None:
    odd = world.client(Actor(id="odd", roles=frozenset({"root", "Admin", "admin ", "*"})))
    await odd.get("/trees", expect=200)
    await odd.get("/shut", expect=403)
    assert permissions_of(frozenset({"root"})) == frozenset()
    assert permissions_of(frozenset()) == frozenset()


def test_a_grant_made_later_is_known_at_once() -> None:
    role = frozenset({"gardener of one test"})
    assert permissions_of(role) == frozenset()
    auth.grant("gardener of one test", ["beds:dig"])
    auth.grant("gardener of one test", ["beds:weed"])
    assert permissions_of(role) == {"beds:dig", "beds:weed"}


async def test_a11_a_revoked_session_is_out_with_the_same_token(world: World) -> None:
    person = world.client(Actor(id="kim", session="s-kim"))
    await person.get("/trees")
    await _revoke(actor="kim", session="s-kim")
    await person.get("/trees", expect=401)
    await person.get("/open", expect=401)
    await world.client(Actor(id="kim", session="another")).get("/trees")


async def test_a11_an_older_version_of_an_account_is_out(world: World) -> None:
    old, new = (world.client(Actor(id="lee", session=f"s{version}", version=version)) for version in (1, 2))
    await old.get("/trees")
    await _revoke(actor="lee", below=2)
    await old.get("/trees", expect=401)
    await new.get("/trees")


@atomic
async def _revoke(**what: Any) -> None:
    await revocations.revoke(**what)


# ---- cookies


async def test_a_session_cookie_says_who_comes(nobody: Client, sessions: dict[str, Actor]) -> None:
    sessions["good"] = ANN
    assert await nobody.get("/open", headers={"cookie": "sid=good"}) == {"who": "ann"}
    await nobody.get("/trees", headers={"cookie": "theme=dark; sid=good"})
    assert await nobody.get("/open", headers={"cookie": "sid=bad"}) == {"who": "nobody"}
    await nobody.get("/trees", headers={"cookie": "sid=bad"}, expect=401)


async def test_cookies_in_several_headers_are_one_list(nobody: Client, sessions: dict[str, Actor]) -> None:
    """HTTP/2 lets a client send them so (RFC 9113, 8.2.3)."""
    sessions["good"] = ANN
    headers = [("cookie", "sid=good"), ("cookie", "theme=dark")]
    for order in (headers, headers[::-1]):
        found = await nobody.http.get("/v1/orchard/open", headers=order)
        assert found.json() == {"who": "ann"}


async def test_a11_a_revoked_cookie_session_is_out(world: World, sessions: dict[str, Actor]) -> None:
    sessions["good"] = Actor(id="moe", session="s-moe")
    person = world.client(None)
    await person.get("/trees", headers={"cookie": "sid=good"})
    await _revoke(actor="moe", session="s-moe")
    await person.get("/trees", headers={"cookie": "sid=good"}, expect=401)


async def test_a_bad_bearer_is_not_rescued_by_a_cookie(nobody: Client, sessions: dict[str, Actor]) -> None:
    sessions["good"] = ANN
    await nobody.get("/open", headers={"cookie": "sid=good", "authorization": "Bearer x"}, expect=401)


async def test_z4_who_cannot_tell_whose_a_cookie_is_lets_nobody_in(nobody: Client) -> None:
    before, anew = list(auth._cookie), [*auth._anew]

    async def falls(value: str) -> Actor | None:
        raise RuntimeError("the sessions cannot be read")

    auth.identify_cookie_with(falls)
    try:
        for path in ("/trees", "/open"):
            told = await nobody.get(path, headers={"cookie": "sid=good"}, expect=500)
            assert "sessions" not in told["detail"]
    finally:
        auth._cookie[:], auth._anew[:] = before, anew


async def test_one_request_leaves_no_actor_behind_for_another(
    ann: Client, nobody: Client, sessions: dict[str, Actor]
) -> None:
    sessions["good"] = ADMIN
    who = await asyncio.gather(
        *(client.get("/open") for client in (ann, nobody) * 20),
        *(nobody.get("/open", headers={"cookie": "sid=good"}) for _ in range(10)),
    )
    assert [each["who"] for each in who] == ["ann", "nobody"] * 20 + ["admin"] * 10


# ---- websockets


async def _connect(house: House, **headers: str) -> list[dict[str, Any]]:
    """What the house says to a websocket that is opened with some headers."""
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/v1/orchard/feed",
        "raw_path": b"/v1/orchard/feed",
        "query_string": b"",
        "root_path": "",
        "scheme": "ws",
        "http_version": "1.1",
        "server": ("msingi.test", 80),
        "client": ("127.0.0.1", 1),
        "subprotocols": [],
        "headers": [(b"host", b"msingi.test"), *((k.encode(), v.encode("latin-1")) for k, v in headers.items())],
    }
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    async with asyncio.timeout(10):
        await house.app(scope, receive, send)
    return said


async def test_z4_a_websocket_is_shut_to_nobody(house: House, world: World) -> None:
    assert [each["type"] for each in await _connect(house)] == ["websocket.close"]
    assert [each["type"] for each in await _connect(house, authorization="Bearer x")] == ["websocket.close"]


async def test_a_websocket_opens_to_a_token(house: House, world: World) -> None:
    said = await _connect(house, authorization=f"Bearer {tokens.token_for(ANN, house.key)}")
    assert [each["type"] for each in said] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert "ann" in str(said[1])


@pytest.mark.parametrize(
    ("origin", "opens"),
    [("http://msingi.test", True), ("https://evil.test", False), ("null", False), ("http://[", False), (None, False)],
)
async def test_a14_a_websocket_with_a_cookie_opens_to_our_own_pages_alone(
    house: House, world: World, sessions: dict[str, Actor], origin: str | None, opens: bool
) -> None:
    sessions["good"] = ANN
    said = await _connect(house, cookie="sid=good", **({"origin": origin} if origin else {}))
    assert said[0]["type"] == ("websocket.accept" if opens else "websocket.close")


# ---- what an actor may see


async def test_z1_what_is_anothers_is_the_same_404_as_what_is_not_there(world: World, bob: Client) -> None:
    tree = await orchard.plant(Tree(owner="ann"))
    there = await bob.get(f"/trees/{tree.id}", expect=404)
    absent = await bob.get("/trees/nothing", expect=404)
    assert there | {"request_id": ""} == absent | {"request_id": ""}


class _Scoped:
    def __init__(self, user: object) -> None:
        self.scope = {"user": user}


@pytest.mark.parametrize("user", [None, "ann", {"id": "ann"}])
async def test_z4_a_handler_that_wants_an_actor_gets_one_or_none_at_all(user: object) -> None:
    with pytest.raises(SignInFirst):
        await http.given_actor(_Scoped(user))  # type: ignore[arg-type]


# ---- what is refused still counts, and what matters most is looked up


async def test_r1_whoever_tries_tokens_runs_out_of_tries(
    world: World, nobody: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state.part(limits.Table), "anonymous", limits.parse("5/minute"))
    monkeypatch.setattr(limits.Meter, "strained", False)  # a busy machine would halve it
    nobody.headers = {"authorization": "Bearer made.up.token"}
    answers = [(await nobody.ask("GET", "/trees", expect=[401, 429]), nobody.last.status_code)[1] for _ in range(8)]
    assert answers == [401] * 5 + [429] * 3
    assert int(nobody.last.headers["retry-after"]) > 0


async def test_a11_while_the_stream_is_silent_an_admin_is_looked_up(
    world: World, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await admin.get("/shut")
    monkeypatch.setattr(revocations, "fresh", lambda: False)
    await admin.get("/shut")
    row = revocations.Revocation(actor="admin", below=ADMIN.version + 1)
    await revocations.revocations.raw.insert_one(revocations.revocations.dump(row))
    state.part(revocations._Revoked).start_over()  # this process has heard nothing of it
    await admin.get("/shut", expect=401)
