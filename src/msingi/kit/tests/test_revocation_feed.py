"""What processes with databases of their own tell each other: what was revoked, and what they know."""

from datetime import timedelta

import pytest
from msgspec import Struct

from msingi.kit import clock, http, peers, revocation_feed, revocations
from msingi.kit.actors import Actor
from msingi.kit.peers import Question, answers
from msingi.kit.product import Product
from msingi.kit.testing import Client, World
from msingi.kit.unit import atomic

SERVICE = Actor(
    id="svc",
    roles=frozenset({"service"}),
    client="svc",
    scopes=frozenset({revocation_feed.READING, peers.ASKING}),
)


class Asked(Struct, frozen=True):
    number: int


HALF: Question[Asked, int] = Question("apart.half", Asked, int)
THIRD: Question[Asked, int] = Question("elsewhere.third", Asked, int)


@answers(HALF)
async def half(asked: Asked) -> int:
    return asked.number // 2


@answers(THIRD)
async def third(asked: Asked) -> int:
    return asked.number // 3


@http.get("/shut", identify=False)
async def show_what_nobody_opened() -> None:
    """A route that looks for nobody, and that nobody opened either."""


@http.get("/open", identify=False, public=True)
async def show_what_is_open() -> None:
    """A route that looks for nobody."""


@pytest.fixture(scope="module")
def products() -> list[Product]:
    routes = [*revocation_feed.routes, *peers.routes, show_what_nobody_opened, show_what_is_open]
    return [Product(name="apart", title="Apart", summary="A product that others ask.", routes=routes)]


@atomic
async def revoke(session: str) -> None:
    await revocations.revoke(actor="ann", session=session)


async def test_a11_what_was_revoked_is_told_to_services_until_all_have_heard(world: World, ann: Client) -> None:
    service = world.client(SERVICE)
    await revoke("phone")
    first = await service.get("/revocations")
    assert [(each["actor"], each["session"], each["below"]) for each in first["items"]] == [("ann", "phone", 0)]
    # What was begun before and committed later would be missed without the overlap: so it is told again for a while.
    again = await service.ask("GET", f"/revocations?after={first['next'].replace('+', '%2B')}")
    assert again["items"] == first["items"]
    with clock.shifted(timedelta(seconds=20)):
        await revoke("laptop")
        later = clock.now().isoformat().replace("+00:00", "Z")
        newer = await service.get(f"/revocations?after={later}")
    assert [each["session"] for each in newer["items"]] == ["laptop"]
    await service.get("/revocations?after=yesterday", expect=422)
    await service.get("/revocations?after=2026-01-31T08:00:00", expect=422)  # where?
    assert (await service.get("/revocations?after=0001-01-01T00:00:00Z"))["items"]
    await ann.get("/revocations", expect=403)


async def test_z4_a_route_that_looks_for_nobody_is_shut_unless_it_is_public(world: World, admin: Client) -> None:
    await admin.get("/shut", expect=401)
    await admin.get("/open")
    stranger = world.client(None)
    stranger.headers["authorization"] = "Basic bm9ib2R5OnNlY3JldA=="
    await stranger.get("/open")
    await stranger.get("/shut", expect=401)


async def test_a_question_of_this_product_is_answered_to_a_service_and_no_other_question(world: World) -> None:
    service = world.client(SERVICE)
    assert await service.post("/questions/apart.half", number=8) == 4
    await service.post("/questions/elsewhere.third", number=9, expect=404)
    await service.post("/questions/apart.whole", number=9, expect=404)
    told = await service.post("/questions/apart.half", number="8", expect=422)
    assert told["errors"][0]["pointer"] == "/number"
