"""Fields sealed at rest: unreadable in the database, bound to their row, and never searched by value."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
import pytest_asyncio

from msingi.kit import sealing, state
from msingi.kit.db import SEALED, Collection, Doc, Index, Paging
from msingi.kit.sealed_fields import SealedField
from msingi.kit.sealing import CannotOpen
from msingi.kit.testing import test_settings
from msingi.kit.unit import atomic, guarded


class Patient(Doc, kw_only=True):
    name: str
    email: Annotated[str, SEALED]
    phone: Annotated[str, SEALED] | None = None
    seed: Annotated[bytes | None, SEALED] = None
    tags: Annotated[list[str], SEALED] = []
    facts: Annotated[dict[str, Any], SEALED] = {}
    email_key: str = ""


patients = Collection(Patient, "patients", indexes=[Index("email_key"), "name"])
patients.product = "sealedtest"


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def running() -> AsyncIterator[None]:
    async with state.running(test_settings(), []):
        await state.mongo().drop_database(state.database_name("sealedtest"))
        await patients.prepare()
        yield


@guarded
async def add(patient: Patient) -> Patient:
    return await patients.add(patient)


@guarded
async def change(id: str, to: dict[str, Any]) -> Patient:
    return await patients.change(id, to)


@guarded
async def change_in_stages(id: str, stage: dict[str, Any]) -> Patient:
    return await patients.change(id, [stage])


@atomic
async def change_many(where: dict[str, Any], to: dict[str, Any]) -> int:
    return await patients.change_many(where, to)


async def row_of(patient: Patient) -> dict[str, Any]:
    row = await patients.raw.find_one({"_id": patient.id})
    assert row is not None
    return row


def ann(**more: Any) -> Patient:
    given = {
        "name": "Ann",
        "email": "ann@example.org",
        "phone": "+255700000001",
        "seed": b"\x00seed",
        "tags": ["a", "b"],
        "facts": {"blood": "0+", "n": 3},
    }
    return Patient(**given | more)


async def test_d2_a_sealed_field_is_read_as_it_was_written_and_is_binary_in_the_database() -> None:
    written = await add(ann())
    for read in (
        await patients.get(written.id),
        (await patients.many({}))[0],
        (await patients.page({}, Paging())).items[0],
        await anext(patients.each({})),
    ):
        assert read == written
    row = await row_of(written)
    for name in ("email", "phone", "seed", "tags", "facts"):
        assert isinstance(row[name], bytes)
        assert int.from_bytes(row[name][1:5], "big") == 1
    assert b"example.org" not in row["email"]
    assert row["name"] == "Ann"


async def test_d2_the_database_itself_refuses_clear_text_in_a_sealed_field() -> None:
    written = await add(ann())
    with pytest.raises(Exception, match="validation"):
        await patients.raw.update_one({"_id": written.id}, {"$set": {"email": "ann@example.org"}})


async def test_a_change_seals_what_it_sets_and_may_empty_it() -> None:
    written = await add(ann())
    changed = await change(written.id, {"$set": {"email": "new@example.org", "tags": [], "phone": None}})
    assert (changed.email, changed.phone, changed.tags) == ("new@example.org", None, [])
    assert await patients.get(written.id) == changed
    assert await patients.count({"phone": None}) == 1
    assert await patients.count({"email": {"$exists": True}}) == 1
    assert await change_many({}, {"$set": {"seed": None}}) == 1


async def test_a_change_in_stages_leaves_what_is_sealed_alone() -> None:
    written = await add(ann())
    changed = await change_in_stages(written.id, {"$set": {"name": {"$concat": ["$name", "!"]}}})
    assert (changed.name, changed.email) == (f"{written.name}!", written.email)
    for stage in ({"$set": {"email": "x"}}, {"$set": {"name": "$email"}}, {"$set": {"email_key": {"$max": "$tags"}}}):
        with pytest.raises(SealedField):
            await change_in_stages(written.id, stage)
    with pytest.raises(TypeError, match="only"):
        await change_in_stages(written.id, {"$unset": "email"})
    assert await patients.get(written.id) == changed


async def test_d2_a_value_moved_to_another_row_or_field_does_not_open() -> None:
    one, other = await add(ann()), await add(ann(name="Bob", email="bob@example.org"))
    row = await row_of(one)
    await patients.raw.update_one({"_id": other.id}, {"$set": {"email": row["email"]}})
    with pytest.raises(CannotOpen, match=f"sealedtest.patients/{other.id}/email"):
        await patients.get(other.id)
    await patients.raw.update_one({"_id": one.id}, {"$set": {"email": row["phone"]}})
    with pytest.raises(CannotOpen):
        await patients.get(one.id)


async def test_d2_what_is_altered_or_not_sealed_at_all_does_not_open() -> None:
    one = await add(ann())
    row = await row_of(one)
    sealed = row["email"]
    unknown = sealed[:1] + (99).to_bytes(4, "big") + sealed[5:]
    for value in (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"", b"ann@example.org", b"x", unknown):
        await patients.raw.update_one({"_id": one.id}, {"$set": {"email": value}})
        with pytest.raises(CannotOpen):
            await patients.get(one.id)


@pytest.mark.parametrize(
    "where",
    [
        {"email": "ann@example.org"},
        {"$or": [{"name": "x"}, {"email": {"$regex": "ann"}}]},
        {"facts.blood": "0+"},
        {"tags": "a"},
        {"$and": [{"$nor": [{"phone": {"$gt": "+"}}]}]},
        {"$expr": {"$eq": ["$email", "ann@example.org"]}},
        {"email": {"$in": []}},
        {"email": {"$ne": "x"}},
    ],
)
async def test_filtering_by_a_sealed_field_is_refused_when_it_is_called(where: dict[str, Any]) -> None:
    for asked in (patients.find(where), patients.many(where), patients.count(where), patients.exists(where)):
        with pytest.raises(SealedField):
            await asked
    with pytest.raises(SealedField):
        await patients.page({}, Paging(), also=where)
    with pytest.raises(SealedField):
        await change_many(where, {"$set": {"name": "x"}})


@pytest.mark.parametrize(
    "to",
    [
        {"$inc": {"email": 1}},
        {"$push": {"tags": "c"}},
        {"$addToSet": {"tags": "c"}},
        {"$set": {"facts.blood": "A"}},
        {"$rename": {"email": "mail"}},
        {"$setOnInsert": {"email": "x"}},
    ],
)
async def test_changing_a_sealed_field_in_part_is_refused(to: dict[str, Any]) -> None:
    written = await add(ann())
    with pytest.raises(SealedField):
        await change(written.id, to)
    assert await patients.get(written.id) == written


async def test_many_rows_cannot_get_one_sealed_value() -> None:
    with pytest.raises(SealedField):
        await change_many({}, {"$set": {"email": "x@example.org"}})


async def test_sorting_aggregating_and_indexing_by_a_sealed_field_are_refused() -> None:
    with pytest.raises(SealedField):
        await patients.find({}, sort=[("email", 1)])
    with pytest.raises(SealedField):
        await patients.page({}, Paging(), sorts=("name", "-email"))
    for stage in ({"$match": {"email": "x"}}, {"$sort": {"email": 1}}, {"$group": {"_id": "$email"}}):
        with pytest.raises(SealedField):
            await patients.aggregate([stage], Patient)
    with pytest.raises(SealedField):
        Collection(Patient, "others", indexes=["name -email"])


async def test_d2_a_blind_index_finds_by_equality_and_tells_nothing_without_the_key() -> None:
    key = sealing.blind("sealedtest.email", "ann@example.org")
    written = await add(ann(email_key=key))
    assert await patients.find({"email_key": sealing.blind("sealedtest.email", "ann@example.org")}) == written
    others = {sealing.blind("sealedtest.email", "ann@example.com"), sealing.blind("another", "ann@example.org")}
    assert len({key, *others}) == 3
    assert len(key) == 22
