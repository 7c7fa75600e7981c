"""The typed layer: what is stored comes back, what does not fit is refused, pages neither repeat nor skip."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Struct, UnsetType
from pymongo.errors import WriteError

from msingi.kit import db, state
from msingi.kit.db import BadCursor, BadSort, Collection, Doc, Form, Index, Page, Paging, View
from msingi.kit.errors import AlreadyExists, Conflict, NotFound, Stale
from msingi.kit.unit import atomic, guarded


class Money(Struct, frozen=True):
    amount: Annotated[int, Meta(ge=0)]
    currency: str = "KES"


class Crate(Doc):
    name: Annotated[str, Meta(min_length=1, max_length=20)]
    left: Annotated[int, Meta(ge=0)] = 0
    price: Money | None = None
    picked_at: datetime | None = None
    labels: list[str] = []
    note: str | UnsetType = UNSET


crates = Collection(
    Crate,
    "crates",
    indexes=["left -_id", Index("name", unique=True), Index("note", where={"note": {"$exists": True}})],
    tags=lambda crate: [f"crate:{crate.id}"],
)
crates.product = "store"


class Sold(Conflict):
    """There are only {left} left."""


@atomic
async def put(*new: Crate) -> None:
    for crate in new:
        await crates.add(crate)


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def store(running: state.State) -> AsyncIterator[None]:
    await crates.prepare()
    await crates.raw.delete_many({})
    yield


async def test_what_is_stored_comes_back_equal() -> None:
    crate = Crate(name="Mangoes", left=3, price=Money(4500), picked_at=datetime(2026, 3, 1, 6, 30, tzinfo=UTC))
    await put(crate)
    assert await crates.get(crate.id) == crate
    assert await crates.find({"name": "none"}) is None


async def test_a_document_that_does_not_fit_the_condition_does_not_exist() -> None:
    crate = Crate(name="Mangoes")
    await put(crate)
    with pytest.raises(NotFound):
        await crates.get(crate.id, when={"left": 5})


async def test_a_write_outside_an_action_is_refused() -> None:
    with pytest.raises(RuntimeError, match="belongs inside"):
        await crates.add(Crate(name="Mangoes"))
    assert await crates.count({}) == 0


async def test_the_database_itself_refuses_what_the_types_refuse() -> None:
    for bad in ({"left": -1}, {"left": "three"}, {"name": "x" * 21}, {"price": {"amount": -5, "currency": "KES"}}):
        row = crates.dump(Crate(name="ok")) | bad
        with pytest.raises(WriteError, match="validation"):
            await crates.raw.insert_one(row)
    assert await crates.count({}) == 0


async def test_a_like_document_is_a_problem_that_names_the_field() -> None:
    await put(Crate(name="Mangoes"))
    with pytest.raises(AlreadyExists, match="same name already"):
        await put(Crate(name="Mangoes"))


async def test_a_change_counts_the_version_and_gives_the_document_as_it_is_now() -> None:
    crate = Crate(name="Mangoes", left=3)
    await put(crate)

    @guarded
    async def take() -> Crate:
        return await crates.change(crate.id, {"$inc": {"left": -1}}, when={"left": {"$gt": 0}}, otherwise=Sold(left=0))

    assert (await take()).left == 2
    assert (await take()).version == 3


async def test_p3_a_guarded_change_never_goes_below_its_limit() -> None:
    crate = Crate(name="Mangoes", left=5)
    await put(crate)

    @guarded
    async def take() -> None:
        await crates.change(crate.id, {"$inc": {"left": -1}}, when={"left": {"$gt": 0}}, otherwise=Sold(left=0))

    results = await asyncio.gather(*(take() for _ in range(40)), return_exceptions=True)
    assert sum(result is None for result in results) == 5
    assert {type(result) for result in results if result is not None} == {Sold}
    assert (await crates.get(crate.id)).left == 0


async def test_what_was_decided_on_an_old_read_is_not_removed() -> None:
    crate = Crate(name="Mangoes")
    await put(crate)

    @atomic
    async def change_then_remove() -> None:
        await crates.change(crate.id, {"$set": {"left": 1}})
        await crates.remove(crate)

    with pytest.raises(Stale):
        await change_then_remove()
    assert (await crates.get(crate.id)).left == 0


async def test_structs_in_an_update_are_stored_as_documents() -> None:
    crate = Crate(name="Mangoes")
    await put(crate)

    @guarded
    async def price() -> Crate:
        return await crates.change(crate.id, {"$set": {"price": Money(100), "picked_at": crate.created_at}})

    assert (await price()).price == Money(100)


async def test_pages_follow_one_another_while_others_insert() -> None:
    await put(*(Crate(id=f"{number:02}", name=f"c{number:02}") for number in range(10)))
    first = await crates.page({}, Paging(limit=4))
    await put(Crate(id="99", name="newer"), Crate(id="00a", name="older"))
    seen = [crate.id for crate in first.items]
    page: Page[Crate] = first
    while page.next:
        page = await crates.page({}, Paging(limit=4, after=page.next))
        seen += [crate.id for crate in page.items]
    assert seen == ["09", "08", "07", "06", "05", "04", "03", "02", "01", "00a", "00"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=12),
    limit=st.integers(1, 5),
    sort=st.sampled_from(["picked_at", "-picked_at", "left", "-left", "_id", "-_id"]),
)
async def test_pages_in_any_order_hold_each_document_once(values: list[int | None], limit: int, sort: str) -> None:
    await crates.raw.delete_many({})
    day = datetime(2026, 1, 1, tzinfo=UTC)
    docs = [
        Crate(
            id=f"{number:03}",
            name=f"c{number}",
            left=value or 0,
            picked_at=None if value is None else day + timedelta(days=value),
        )
        for number, value in enumerate(values)
    ]
    if docs:

        @atomic
        async def plant() -> None:
            await crates.add_many(docs)

        await plant()
    key, way = sort.lstrip("-"), -1 if sort.startswith("-") else 1
    order = [(key, way)] if key == "_id" else [(key, way), ("_id", way)]
    expected = [row["_id"] async for row in crates.raw.find({}, sort=order)]
    seen: list[str] = []
    after = None
    while True:
        page = await crates.page({}, Paging(limit=limit, after=after, sort=sort), sorts=[sort])
        seen += [crate.id for crate in page.items]
        if page.next is None:
            break
        after = page.next
    assert seen == expected


async def test_a_cursor_of_another_list_or_of_nobody_is_refused() -> None:
    await put(*(Crate(name=f"c{number}") for number in range(3)))
    page = await crates.page({}, Paging(limit=1, sort="left"), sorts=["left", "-_id"])
    for after in (page.next, "nonsense", "", "e30", "W10"):
        with pytest.raises(BadCursor):
            await crates.page({}, Paging(limit=1, after=after), sorts=["-_id", "left"])


async def test_an_order_that_the_list_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(BadSort, match="by: id, left"):
        await crates.page({}, Paging(sort="price"), sorts=["-_id", "left"])


async def test_indexes_follow_the_types_and_an_operators_own_is_left_alone() -> None:
    await crates.raw.create_index("price", name="operator_made_it")
    await crates.raw.create_index("picked_at", name="kit picked_at deadbeef")
    await crates.prepare()
    names = set(await crates.raw.index_information())
    assert {index.name for index in crates.indexes} | {"operator_made_it", "_id_"} == names


async def test_preparing_at_once_from_several_processes_works() -> None:
    await state.mongo().drop_database(state.database_name("store"))
    await asyncio.gather(*(crates.prepare() for _ in range(4)))
    assert len(await crates.raw.index_information()) == 4


class CrateView(View):
    id: str
    name: str
    price: Money | None
    shelf: str = ""


class CratePatch(Form):
    name: str | UnsetType = UNSET
    left: int | UnsetType = UNSET


def test_a_view_shows_the_fields_it_names_and_no_others() -> None:
    crate = Crate(id="c1", name="Mangoes", left=3, price=Money(5))
    assert CrateView.of(crate) == CrateView(id="c1", name="Mangoes", price=Money(5))
    assert CrateView.of(crate, shelf="A").shelf == "A"


def test_a_patch_gives_only_what_was_sent() -> None:
    assert CratePatch(left=0).given() == {"left": 0}


def test_null_bytes_and_operators_in_plain_values_stay_values() -> None:
    assert db.plain({"$set": {"name": "$where\x00"}}) == {"$set": {"name": "$where\x00"}}
