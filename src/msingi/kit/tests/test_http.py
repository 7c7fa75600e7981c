"""What lists and versions are asked with: filters that no operator passes, pages, and If-Match."""

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from msingi.kit.errors import Invalid
from msingi.kit.http import COMPARISONS, PAGING, BadFilter, Filters
from msingi.kit.product import Product
from msingi.kit.testing import Client, World
from msingi.kit.tests import orchard
from msingi.kit.tests.orchard import FILTERS, Kind, Tree, trees

FIELDS = {"kind", "height", "pruned_at", "labels", "dead", "weight"}


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [orchard.product]


def read(**query: str) -> dict[str, Any]:
    """The filter of one value a name; `__` stands for the brackets."""
    names = {name: name.replace("__", "[") + ("]" if "__" in name else "") for name in query}
    return FILTERS.read({names[name]: [value] for name, value in query.items()}, PAGING | {"q"})


# ---- filters, as they are read


@pytest.mark.parametrize(("comparison", "operator"), [(name, COMPARISONS[name]) for name in ("gt", "gte", "lt", "lte")])
def test_each_comparison_becomes_its_operator(comparison: str, operator: str) -> None:
    assert read(**{f"height__{comparison}": "3"}) == {"$and": [{"height": {operator: 3}}]}


def test_equal_unequal_and_lists() -> None:
    assert read(height="3") == {"$and": [{"height": 3}]}
    assert read(height__ne="3") == {"$and": [{"height": {"$ne": 3}}]}
    assert read(label__in="old,tall") == {"$and": [{"labels": {"$in": ["old", "tall"]}}]}
    assert read(height__nin="1,2") == {"$and": [{"height": {"$nin": [1, 2]}}]}


def test_several_filters_must_all_hold() -> None:
    query = {"height[gte]": ["3"], "label": ["old", "tall"], "q": ["x"], "limit": ["2"]}
    clauses = [{"height": {"$gte": 3}}, {"labels": "old"}, {"labels": "tall"}]
    assert FILTERS.read(query, PAGING | {"q"}) == {"$and": clauses}
    assert FILTERS.read({}, PAGING) == {}


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("height", "-3", -3),
        ("dead", "true", True),
        ("dead", "0", False),
        ("weight", "1.5", 1.5),
        ("kind", "mango", "mango"),
        ("kind", "null", None),
        ("label", '{"$gt":""}', '{"$gt":""}'),
        ("pruned_at", "2026-01-01T02:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_value_has_the_type_of_its_field(name: str, value: str, meant: Any) -> None:
    (clause,) = read(**{name: value})["$and"]
    (found,) = clause.values()
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("height", ""),
        ("height", "3.5"),
        ("height", "three"),
        ("height", "9223372036854775808"),
        ("height", "9" * 5000),
        ("height[in]", "1,,2"),
        ("dead", "perhaps"),
        ("kind", "Apple"),
        ("weight", "heavy"),
        ("pruned_at", "2026-01-01"),
        ("pruned_at", "2026-01-01T00:00:00"),
        ("pruned_at", "0001-01-01T00:00:00+14:00"),
        ("pruned_at", "253402300800"),
        ("pruned_at", "-99999999999999"),
        ("pruned_at", "1e30"),
        ("pruned_at", "inf"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadFilter):
        FILTERS.read({name: [value]}, PAGING)


@pytest.mark.parametrize(
    "name",
    [
        "height[$gt]",
        "$where",
        "$or",
        "height[]",
        "height[",
        "height[gte",
        "height[gte]x",
        "height[gte]]",
        "height[[gte]]",
        "height[GT]",
        "height[regex]",
        "height[exists]",
        "height.$gt",
        "owner",
        "_id",
        "labels",
        "limit[gt]",
        "q[ne]",
        "",
        "[gt]",
        "__proto__",
    ],
)
def test_i1_a_name_or_an_operator_that_the_list_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(BadFilter):
        FILTERS.read({name: ["3"]}, PAGING | {"q"})


names = some.one_of(
    some.text(max_size=12),
    some.builds(
        "{}{}{}{}".format,
        some.sampled_from([*FILTERS.fields, "owner", "$where", "limit"]),
        some.sampled_from(["", "[", "[["]),
        some.sampled_from([*COMPARISONS, "eq", "$gt", "regex", ""]),
        some.sampled_from(["", "]", "]]"]),
    ),
)
values = some.one_of(
    some.text(max_size=20),
    some.integers().map(str),
    some.floats().map(str),
    some.datetimes().map(datetime.isoformat),
    some.sampled_from(["null", "$gt", '{"$gt":1}', "true", "apple,mango", "\0", "1e999", "253402300799.9"]),
)


@settings(max_examples=500, deadline=None)
@given(some.dictionaries(names, some.lists(values, min_size=1, max_size=3), max_size=4))
def test_i1_whatever_is_asked_is_a_filter_of_known_fields_or_refused(query: dict[str, list[str]]) -> None:
    try:
        where = FILTERS.read(query, PAGING)
    except BadFilter:
        return
    assert where.keys() <= {"$and"}
    for clause in where.get("$and", []):
        ((field, test),) = clause.items()
        assert field in FIELDS
        if isinstance(test, dict):
            ((operator, test),) = test.items()
            assert operator in COMPARISONS.values()
        for value in test if isinstance(test, list) else [test]:
            assert value is None or type(value) in (str, int, float, bool, datetime)
    bson.encode(where)  # and MongoDB takes all of it


def test_a_filter_may_stand_for_a_field_of_another_name() -> None:
    assert Filters(label=("labels", str)).read({"label": ["old"]}, PAGING) == {"$and": [{"labels": "old"}]}
    assert Filters().fields == {}


# ---- filters, over the wire


async def _planted(*heights: int, **fields: Any) -> list[Tree]:
    return [await orchard.plant(Tree(owner="ann", height=height, **fields)) for height in heights]


async def test_a_list_holds_what_fits_the_filter(world: World, ann: Client) -> None:
    await _planted(1, 2, 3)
    await _planted(9, kind=Kind.mango)
    assert [each["height"] for each in (await ann.get("/trees?height[gte]=2&kind=apple"))["items"]] == [3, 2]
    assert [each["height"] for each in (await ann.get("/trees?kind[ne]=apple"))["items"]] == [9]
    assert [each["height"] for each in (await ann.get("/trees?kind[in]=mango,apple&sort=height"))["items"]] == [
        1,
        2,
        3,
        9,
    ]
    assert len((await ann.get("/trees?pruned_at=null"))["items"]) == 4


@pytest.mark.parametrize(
    "query", ["owner=bob", "$or=x", "height[$gt]=1", "height=x", "colour=red", "%00=1", "height[gt"]
)
async def test_i1_an_unknown_filter_is_422(ann: Client, query: str) -> None:
    assert (await ann.get(f"/trees?{query}", expect=422))["code"] == "bad_filter"


@pytest.mark.parametrize(
    "query", ["%ff=%fe", "height=%ff", "label=%00", "label=%ed%a0%80", "&&==&;", "label=" + "x" * 9000]
)
async def test_i1_broken_query_strings_are_no_fault_of_ours(ann: Client, query: str) -> None:
    await ann.get(f"/trees?{query}", expect=[200, 422])


# ---- pages


async def test_pages_hold_everything_once(world: World, ann: Client) -> None:
    await _planted(*range(5), kind=Kind.mango)
    await _planted(*range(5))
    for sort in ("", "-kind", "kind", "height", "-height", "pruned_at", "-pruned_at", "id", "-id"):
        seen, after = [], ""
        for _ in range(5):
            found = await ann.get(f"/trees?limit=3&sort={sort}&after={after}")
            seen += [each["id"] for each in found["items"]]
            after = found["next"]
            if after is None:
                break
        assert len(seen) == len(set(seen)) == 10, sort


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", "%00", "99999999999999999999"])
async def test_a_limit_that_is_none_is_422(ann: Client, limit: str) -> None:
    told = await ann.get(f"/trees?limit={limit}", expect=422)
    assert told["code"] == "invalid_fields"
    assert [(each["pointer"], each["in"]) for each in told["errors"]] == [("/limit", "query")]


@pytest.mark.parametrize("sort", ["owner", "--height", "$natural", "height,-kind", "-", "_ID", "%00"])
async def test_i1_a_list_is_sorted_by_what_it_names_only(ann: Client, sort: str) -> None:
    assert (await ann.get(f"/trees?sort={sort}", expect=422))["code"] == "bad_sort"


def cursor(*content: Any) -> str:
    return urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "after",
    [
        "x",
        "é",
        "%00",
        "=",
        cursor("-1_id", None, {"$gt": ""}),
        cursor("-1_id", None),
        cursor("1_id", None, "a"),
        cursor("-1owner", "ann", "a"),
        cursor("-1_id", None, "a", "b"),
        urlsafe_b64encode(b'["-1_id",' + b"[" * 3000 + b"]" * 3000 + b',"a"]').decode(),
        urlsafe_b64encode(b'["-1_id",' + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b',"a"]').decode(),
    ],
)
async def test_i1_a_cursor_of_anothers_make_is_422(ann: Client, after: str) -> None:
    assert (await ann.get(f"/trees?after={quote(after, safe='%')}", expect=422))["code"] == "bad_cursor"


@pytest.mark.parametrize("value", [{"$gt": 0}, {"$where": "1"}, ["x"], "x", 1.5, 2**70, True, -(2**64)])
async def test_i1_no_operator_rides_in_a_cursor(world: World, ann: Client, value: Any) -> None:
    await _planted(1)
    told = await ann.get(f"/trees?sort=height&after={cursor('1height', value, 'a')}", expect=422)
    assert told["code"] == "bad_cursor"


# ---- If-Match


async def test_a_change_is_made_to_the_version_it_was_decided_on(world: World, ann: Client) -> None:
    (tree,) = await _planted(1)
    for held, status in (('"1"', 200), ('"1"', 409), ('W/"2"', 200), ('"2"', 409), ("*", 200), ("", 200), ("5", 200)):
        told = await ann.patch(f"/trees/{tree.id}", height=7, headers={"if-match": held}, expect=status)
        assert status == 200 or told["code"] == "stale"
    assert (await trees.get(tree.id)).version == 6


@pytest.mark.parametrize("held", ["x", '""', '"1", "2"', '"-1"', '"1.0"', '"²"', '"' + "9" * 16 + '"', '"١"', "W/"])
async def test_an_if_match_that_is_no_version_is_422(world: World, ann: Client, held: str) -> None:
    (tree,) = await _planted(1)
    headers: Any = {"if-match": held.encode("utf-8")}
    told = await ann.patch(f"/trees/{tree.id}", height=7, headers=headers, expect=422)
    assert told["code"] == "bad_if_match"
    assert (await trees.get(tree.id)).height == 1


def test_a_bad_filter_is_the_callers_fault() -> None:
    assert issubclass(BadFilter, Invalid)
    assert str(BadFilter(given="{x}", reason="{reason}")) == "This list cannot be asked for `{x}`: {reason}."
