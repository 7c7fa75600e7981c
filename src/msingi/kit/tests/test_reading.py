"""Hostile bodies are answered with 400 or 415 at once; what a Struct refuses is told field by field."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from msgspec import UNSET, Meta, Struct, UnsetType, field

from msingi.kit.reading import field_errors
from msingi.kit.tests.served import serving

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving() as server, server.client() as opened:
        yield opened


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "\xff"}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "\\ud800"}',
        b'{"weight": NaN}',
        b'{"weight": Infinity}',
        b'{"weight": 1e400}',
        b'{"weight": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"\xef\xbb\xbf{}",
        '{"name": "x"}'.encode("utf-16"),
        b"{",
        b"   ",
        b"{} {}",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_i2_what_is_no_json_is_400_at_once(client: httpx.Client, body: bytes) -> None:
    took = []
    for _ in range(3):  # the machine may be at something else, but not each time
        began = time.perf_counter()
        reply = client.post("/anything", content=body, headers=JSON)
        took.append(time.perf_counter() - began)
        assert (reply.status_code, reply.json()["code"]) == (400, "malformed")
    assert min(took) < 0.1


def test_i2_as_deep_as_is_allowed_is_read(client: httpx.Client) -> None:
    body = b'{"a":' * 64 + b"1" + b"}" * 64
    assert client.post("/anything", content=body, headers=JSON).content == body


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "image/png"]
)
def test_i2_another_kind_of_content_is_415(client: httpx.Client, kind: str) -> None:
    reply = client.post("/crates", content=b'{"name": "x", "weight": 1}', headers={"Content-Type": kind})
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media")


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
)
def test_json_by_any_of_its_names_is_read(client: httpx.Client, kind: str) -> None:
    reply = client.post("/crates", content=b'{"name": "x", "weight": 1}', headers={"Content-Type": kind})
    assert reply.json() == {"name": "x", "weight": 1, "tags": []}


slowly = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@slowly
@given(body=some.binary(max_size=200))
def test_i2_no_bytes_whatever_are_our_fault(client: httpx.Client, body: bytes) -> None:
    for path in ("/crates", "/anything"):
        assert client.post(path, content=body, headers=JSON).status_code in (201, 400, 422)


anything = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=20,
)


@slowly
@given(
    value=some.fixed_dictionaries({}, optional={"name": anything, "weight": anything, "tags": anything, "x": anything})
)
def test_i2_no_json_whatever_is_our_fault(client: httpx.Client, value: Any) -> None:
    reply = client.post("/crates", json=value)
    assert reply.status_code in (201, 400, 422)
    if reply.status_code == 422:
        assert reply.json()["errors"]


class Line(Struct, forbid_unknown_fields=True):
    sku: Annotated[str, Meta(min_length=1, max_length=8)]
    amount: Annotated[int, Meta(ge=1)] = 1


class Address(Struct):
    town: str
    since: datetime | None = None


class Order(Struct, forbid_unknown_fields=True):
    lines: Annotated[list[Line], Meta(min_length=1)]
    to: Address | None = None
    note: str | UnsetType = UNSET
    from_: str = field(name="from/to", default="")

    def __post_init__(self) -> None:
        if self.note == "refuse me":
            raise ValueError("this note is refused")


def found(kind: Any, raw: Any) -> dict[str, str]:
    return {each["pointer"]: each["message"] for each in field_errors(kind, raw)}


def test_all_faults_are_told_at_once() -> None:
    raw = {
        "lines": [{"sku": "", "amount": 0}, {"amount": "many"}, {"sku": "ok", "colour": "red"}, 7],
        "to": {"since": "yesterday"},
        "note": 3,
        "from/to": 4,
        "extra~one": 1,
    }
    assert found(Order, raw) == {
        "/lines/0/sku": "Expected `str` of length >= 1",
        "/lines/0/amount": "Expected `int` >= 1",
        "/lines/1/sku": "This is required",
        "/lines/1/amount": "Expected `int`, got `str`",
        "/lines/2/colour": "There is no such field",
        "/lines/3": "Expected `object`, got `int`",
        "/to/town": "This is required",
        "/to/since": "Invalid RFC3339 encoded datetime",
        "/note": "Expected `str`, got `int`",
        "/from~1to": "Expected `str`, got `int`",
        "/extra~0one": "There is no such field",
    }
    assert {each["in"] for each in field_errors(Order, raw)} == {"body"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"lines": [{"sku": "a"}], "to": None}, {}),
        ({"lines": []}, {"/lines": "Expected `array` of length >= 1"}),
        ({"lines": [{"sku": "a"}], "note": "refuse me"}, {"": "this note is refused"}),
        ({"lines": {"0": 1}}, {"/lines": "Expected `array`, got `object`"}),
        ([], {"": "Expected `object`, got `array`"}),
        (None, {"": "Expected `object`, got `null`"}),
    ],
)
def test_what_is_wrong_with_the_whole_is_told_too(raw: Any, expected: dict[str, str]) -> None:
    assert found(Order, raw) == expected


def test_no_more_faults_are_listed_than_anybody_reads() -> None:
    assert len(field_errors(Order, {"lines": [{}] * 1000})) == 50


@settings(max_examples=200, deadline=None)
@given(value=anything)
def test_there_are_faults_exactly_when_the_value_will_not_do(value: Any) -> None:
    try:
        msgspec.convert(value, Order, strict=False)
    except msgspec.ValidationError:
        assert field_errors(Order, value)
    else:
        assert not field_errors(Order, value)
