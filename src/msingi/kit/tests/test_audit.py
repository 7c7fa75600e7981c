"""The audit log: each act is one entry, nobody changes one unseen, and a flood of refusals is counted, not kept."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from msgspec import structs
from pymongo.errors import AutoReconnect

from msingi.kit import audit, audit_chain, clock, leases, state, tokens, unit
from msingi.kit.actors import Actor
from msingi.kit.audit import Entry, entries, note, points
from msingi.kit.errors import Forbidden
from msingi.kit.http import get
from msingi.kit.live import sockets
from msingi.kit.live.wire import Wire
from msingi.kit.product import Product
from msingi.kit.testing import Client, House, house_of
from msingi.kit.tests.waiting import beside
from msingi.kit.unit import atomic


@get("/open", public=True)
async def show_open() -> dict[str, str]:
    return {}


@get("/things")
async def show_things() -> dict[str, str]:
    return {}


@get("/power", permission="orchard:manage")
async def show_power() -> dict[str, str]:
    return {}


orchard = Product(name="orchard", title="O", summary="O", routes=[show_open, show_things, show_power])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house() -> AsyncIterator[House]:
    async with house_of([orchard], MSINGI_DATABASE="audittest") as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def clean(house: House) -> None:
    state.part(audit.Refusals).start_over()
    for store in audit.stores():
        await store.raw.delete_many({})


async def linked(count: int) -> list[Entry]:
    for number in range(count):
        await note("tests.happened", actor="ann", about=f"thing{number}", number=number)
    assert await audit_chain.link_some() == count
    return await entries.many({}, sort=[("seq", 1)])


async def test_l1_entries_are_linked_in_their_order_and_found_whole() -> None:
    found = await linked(7)
    assert [each.seq for each in found] == [1, 2, 3, 4, 5, 6, 7]
    more = await note("tests.happened", actor=Actor(id="bob", session="s1", acting="admin"), outcome="refused")
    assert (more.actor, more.session, more.acting, more.outcome) == ("bob", "s1", "admin", "refused")
    assert (await audit_chain.verify()).fault == ""
    await audit_chain.link_some()
    verdict = await audit_chain.verify()
    assert (verdict.checked, verdict.fault) == (8, "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actor", "eve"),
        ("kind", "tests.other"),
        ("outcome", "refused"),
        ("about", ""),
        ("facts", {"number": 4}),
        ("facts", {}),
        ("address", "x"),
        ("mark", b"x" * 32),
    ],
)
async def test_l1_an_edited_entry_is_named(field: str, value: Any) -> None:
    found = await linked(7)
    await entries.raw.update_one({"_id": found[3].id}, {"$set": {field: value}})
    verdict = await audit_chain.verify()
    assert verdict.fault == f"entry 4 ({found[3].id}) was edited"
    assert verdict.checked == 3


async def test_l1_a_deleted_entry_is_named_and_so_is_the_end_that_was_cut_off() -> None:
    found = await linked(7)
    await entries.raw.delete_one({"_id": found[3].id})
    assert (await audit_chain.verify()).fault == "entry 4 was deleted"
    await entries.raw.delete_many({"seq": {"$gte": 4}})
    assert (await audit_chain.verify()).fault == "the entries after 3 were deleted: the chain reached 7"


async def test_l1_who_cuts_off_the_end_and_moves_the_head_is_found_out() -> None:
    found = await linked(7)
    await entries.raw.delete_many({"seq": {"$gt": 3}})
    await points.raw.update_one({"_id": "head"}, {"$set": {"seq": 3, "link": found[2].link}})
    assert (await audit_chain.verify()).fault == "the point head was edited"


async def test_l1_a_database_set_back_to_an_earlier_day_fails_against_an_anchor_kept_elsewhere() -> None:
    await linked(3)
    early = [await store.raw.find().to_list() for store in audit.stores()]
    await linked_more(4)
    anchor = (await audit_chain.verify()).anchor
    assert (await audit_chain.verify(anchor)).fault == ""
    for store, rows in zip(audit.stores(), early, strict=True):
        await store.raw.delete_many({})
        await store.raw.insert_many(rows)
    assert (await audit_chain.verify()).fault == ""
    assert (await audit_chain.verify(anchor)).fault == "the entries after 3 were deleted: the anchor names 7"


async def test_l1_an_end_cut_off_under_a_head_of_an_earlier_hour_is_found_by_the_point_of_a_day() -> None:
    await linked(3)
    early = await points.raw.find_one({"_id": "head"})
    assert early
    await points.raw.delete_many({"_id": {"$ne": "head"}})
    await linked_more(4)  # the point of the day is at 7
    await entries.raw.delete_many({"seq": {"$gt": 3}})
    await points.raw.replace_one({"_id": "head"}, early)
    assert (await audit_chain.verify()).fault == "the entries after 3 were deleted: the chain reached 7"
    await entries.raw.delete_many({})
    await points.raw.delete_one({"_id": "head"})
    assert (await audit_chain.verify()).fault == "the entries after 0 were deleted: the chain reached 7"


async def test_l1_an_entry_that_was_hidden_from_the_chain_is_named() -> None:
    await linked(2)
    hidden = await note("tests.happened", actor="eve")
    await entries.raw.update_one({"_id": hidden.id}, {"$set": {"seq": -1}})
    await linked_more(2)
    assert (await audit_chain.verify()).fault == f"entry {hidden.id} was kept out of the chain"


async def test_l1_a_long_chain_is_walked_without_keeping_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    await linked(1)
    first = await entries.get((await entries.many({}))[0].id)
    async with unit.alone():
        await entries.add_many([structs.replace(first, id=f"e{number:04}", seq=number) for number in range(2, 1_500)])
    await points.raw.delete_many({})
    head = audit_chain._point("head", 1_499, b"")
    async with unit.alone():
        await points.add(head)
    walked = longest = 0

    def fault_of(entry: Entry, seq: int, link: bytes) -> str:
        nonlocal walked, longest
        walked += 1
        longest = max(longest, walked)
        return ""

    async def others() -> None:
        nonlocal walked
        while True:
            walked = 0
            await asyncio.sleep(0)

    monkeypatch.setattr(audit_chain, "_fault_of", fault_of)
    task = asyncio.create_task(others())
    await audit_chain.verify()
    task.cancel()
    assert 0 < longest <= 250


async def linked_more(count: int) -> None:
    for _ in range(count):
        await note("tests.happened", actor="ann")
    await audit_chain.link_some()


async def test_l1_an_inserted_entry_is_named_wherever_it_is_put() -> None:
    found = await linked(4)
    for seq in (0, 9):
        forged = entries.dump(found[1]) | {"_id": f"forged{seq}", "seq": seq, "actor": "eve"}
        await entries.raw.insert_one(forged)
        fault = (await audit_chain.verify()).fault
        assert "forged" in fault
        assert "inserted" in fault
        await entries.raw.delete_one({"_id": f"forged{seq}"})
    await entries.raw.insert_one(entries.dump(found[1]) | {"_id": "forged", "seq": 0})
    await audit_chain.link_some()
    assert (await audit_chain.verify()).fault == "entry forged was inserted, or edited before it was linked"
    genuine = await note("tests.happened", actor="ann")
    await audit_chain.link_some()
    assert (await entries.get(genuine.id)).seq == 5


async def test_l1_two_entries_that_swap_places_are_found_out() -> None:
    found = await linked(4)
    await entries.raw.update_one({"_id": found[1].id}, {"$set": {"seq": 100}})
    await entries.raw.update_one({"_id": found[2].id}, {"$set": {"seq": 2}})
    await entries.raw.update_one({"_id": found[1].id}, {"$set": {"seq": 3}})
    assert (await audit_chain.verify()).fault == f"entry 2 ({found[2].id}) stands where another stood"


async def test_l1_several_workers_at_once_make_one_chain() -> None:
    for number in range(60):
        await note("tests.happened", actor="ann", number=number)
    await asyncio.gather(*(audit_chain.link_some() for _ in range(5)))
    while await audit_chain.link_some():
        pass
    assert (await audit_chain.verify()) == audit_chain.Verdict(60, (await audit_chain.verify()).anchor)


async def test_l1_after_a_crash_between_entry_and_link_the_next_worker_goes_on() -> None:
    await linked(2)
    await note("tests.happened", actor="ann")  # and the worker is gone
    async with beside(audit_chain.run):
        await until_linked(3)
        await note("tests.happened", actor="ann")
        before = asyncio.get_running_loop().time()
        await until_linked(4)
        assert asyncio.get_running_loop().time() - before < 1.0
    assert (await audit_chain.verify()).checked == 4
    assert await leases.holding("audit", noop)


async def noop() -> None:
    pass


async def until_linked(count: int) -> None:
    async with asyncio.timeout(8):
        while await entries.count({"seq": {"$gt": 0}}) < count:
            await asyncio.sleep(0.02)


async def test_l1_what_did_not_happen_is_not_noted() -> None:
    @atomic
    async def fail() -> None:
        await note("tests.happened", actor="ann")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        await fail()
    assert await entries.count({}) == 0


async def test_l1_an_entry_holds_no_line_break_and_no_address() -> None:
    entry = await note(
        "tests.happened",
        actor="ann",
        told="one\r\ntwo\x00\u2028three",
        mail="to Ann@Example.org, 192.168.3.4 or +255712345678",
        many=["a@b.example", {"deep": "a@b.example"}],
        long="x" * 5000,
        count=3,
    )
    row = str(await entries.raw.find_one({"_id": entry.id}, {"mark": 0}))  # by chance a mark looks like anything
    for bad in ("\\r", "\\n", "\\x00", "\\u2028", "Example.org", "b.example", "192.168", "255712"):
        assert bad not in row, bad
    assert entry.facts["told"] == "one two three"
    assert len(entry.facts["long"]) == 200
    assert entry.facts["many"][0] == entry.facts["many"][1]["deep"]
    await audit_chain.link_some()
    assert (await audit_chain.verify()).fault == ""


async def test_l1_what_is_too_old_goes_and_the_rest_stays_verifiable() -> None:
    await linked(5)
    with clock.shifted(timedelta(days=399)):
        await linked_more(3)
        assert await audit_chain.retire() == 0
    with clock.shifted(timedelta(days=401)):
        assert await audit_chain.retire() == 5
        assert await entries.count({}) == 3
        assert (await audit_chain.verify()) == audit_chain.Verdict(3, (await audit_chain.verify()).anchor)
        await linked_more(1)
    with clock.shifted(timedelta(days=900)):
        assert await audit_chain.retire() == 4
        await linked_more(1)
        assert (await audit_chain.verify()).checked == 1
        await entries.raw.delete_many({})
        assert (await audit_chain.verify()).fault == "the entries after 9 were deleted: the chain reached 10"


# ---- refusals


async def refusals(count: int) -> list[Entry]:
    async with asyncio.timeout(15):
        while len(found := await entries.many({"kind": "access.refused"}, sort=[("_id", 1)])) < count:
            await asyncio.sleep(0.02)
    return found


async def test_l1_who_may_not_and_who_shows_a_bad_token_are_noted_within_a_second(house: House) -> None:
    ann, bad = Client(house, Actor(id="ann", session="s1")), Client(house, None)
    await ann.get("/v1/orchard/power", expect=403)
    began = asyncio.get_running_loop().time()
    await bad.get("/v1/orchard/things?token=a@b.example", headers={"authorization": "Bearer nonsense"}, expect=401)
    await bad.get("/v1/orchard/things", expect=401)  # nobody at all: no entry
    await ann.get("/v1/orchard/things")
    found = await refusals(2)
    assert asyncio.get_running_loop().time() - began < 1.0
    assert [(each.actor, each.session, each.facts) for each in found] == [
        ("ann", "s1", {"method": "GET", "route": "/v1/orchard/power", "code": "forbidden"}),
        ("", "", {"method": "GET", "route": "/v1/orchard/things", "code": "sign_in_first"}),
    ]
    assert all(each.outcome == "refused" and each.request and each.address for each in found)
    await audit_chain.link_some()
    assert (await audit_chain.verify()).checked == 2


async def test_l1_a_flood_of_refusals_is_counted_and_not_kept_one_by_one(house: House) -> None:
    ann = Client(house, Actor(id="ann"))
    headers = ann.headers
    for number in range(60):
        someone = Client(house, Actor(id=f"person{number}"))
        await someone.get("/v1/orchard/power", expect=403)
    transport = httpx.ASGITransport(app=house.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://msingi.test", headers=headers) as client:
        replies = await asyncio.gather(*(client.get("/v1/orchard/power") for _ in range(200)))
    assert {reply.status_code for reply in replies} == {403}
    await state.part(audit.Refusals).flush()
    found = await entries.many({"kind": "access.refused"})
    assert sum(each.facts.get("count", 1) for each in found) == 260
    assert len(found) < 130


async def test_l1_what_was_refused_while_the_database_was_away_is_written_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(found: list[Entry]) -> None:
        raise AutoReconnect("away")

    seen = state.part(audit.Refusals)
    scope: dict[str, Any] = {"headers": [], "state": {}, "method": "GET"}
    audit.refused(scope, Forbidden())
    with monkeypatch.context() as patch:
        patch.setattr(entries, "add_many", away)
        with pytest.raises(AutoReconnect):
            await seen.flush()
    audit.refused(scope, Forbidden())
    await seen.flush()
    assert [each.facts["count"] for each in await entries.many({})] == [2]


async def test_l1_what_is_being_written_is_there_when_a_second_flush_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it lands later: not in a log that was read meanwhile, nor, in tests, in one that was emptied."""
    seen, add_many = state.part(audit.Refusals), entries.add_many
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(found: list[Entry]) -> None:
        begun.set()
        await go_on.wait()
        await add_many(found)

    monkeypatch.setattr(entries, "add_many", slowly)
    seen.count(("x",), audit._Refusal("ann", "", "", "", "", {"route": "/x"}))
    first = asyncio.create_task(seen.flush())
    await begun.wait()
    second = asyncio.create_task(seen.flush())
    await asyncio.sleep(0)
    assert not second.done()
    go_on.set()
    await second
    assert await entries.count({"kind": "access.refused", "facts.route": "/x"}) == 1
    await first


async def test_l1_a_socket_that_is_refused_is_noted() -> None:
    scope = {"type": "websocket", "headers": [], "client": ("10.0.0.9", 1)}
    here = sockets.Socket(Wire(None, None), tokens.identify_token, scope)  # type: ignore[arg-type]  # it says nothing
    assert (await sockets.greet(here, {"token": "nonsense"}))["message"] == "sign_in_first"
    here.actor = Actor(id="ann", session="s1")

    async def subscribe(socket: sockets.Socket, given: dict[str, Any]) -> dict[str, Any]:
        raise Forbidden

    assert "error" in await sockets.answer(here, subscribe, {})
    await state.part(audit.Refusals).flush()
    found = await entries.many({}, sort=[("_id", 1)])
    assert [(each.actor, each.facts) for each in found] == [
        ("", {"method": "SOCKET", "route": "connect", "code": "sign_in_first"}),
        ("ann", {"method": "SOCKET", "route": "subscribe", "code": "forbidden"}),
    ]
    assert all(each.address for each in found)


async def test_l1_a_process_that_ends_writes_what_it_still_knows() -> None:
    audit.refused({"headers": [], "state": {}, "method": "GET"}, Forbidden())
    await state.part(audit.Refusals).aclose()
    assert len(await entries.many({})) == 1
