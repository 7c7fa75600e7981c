"""The description says what the routes take and answer, and each product's is whole by itself."""

import re
from typing import Any

import msgspec
import pytest

from msingi.kit import openapi
from msingi.kit.http import COMPARISONS
from msingi.kit.product import Product
from msingi.kit.testing import House, house_of
from msingi.kit.tests import orchard

Json = dict[str, Any]


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [orchard.product]


@pytest.fixture
def described(house: House) -> Json:
    return openapi.describe(house.app.app.app)


def operation(described: Json, method: str, path: str) -> Json:
    found: Json = described["paths"]["/v1/orchard" + path][method]
    return found


def parameters(described: Json, method: str, path: str) -> dict[str, Json]:
    return {each["name"]: each for each in operation(described, method, path).get("parameters", [])}


def test_it_is_openapi_3_1_with_stable_ids(described: Json) -> None:
    assert described["openapi"].startswith("3.1")
    ids = [each["operationId"] for methods in described["paths"].values() for each in methods.values()]
    assert len(ids) == len(set(ids))
    assert operation(described, "get", "/trees")["operationId"] == "orchard_list_trees"
    assert operation(described, "get", "/trees")["summary"] == "List trees"


def test_a_list_tells_its_pages_and_filters(described: Json) -> None:
    told = parameters(described, "get", "/trees")
    assert {"limit", "after", "sort", "kind", "height", "pruned_at", "label", "dead", "weight", "q"} == told.keys()
    assert told["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    assert all(f"`height[{comparison}]=`" in told["height"]["description"] for comparison in COMPARISONS)
    assert told["height"]["schema"] == {"type": "integer"}
    assert told["pruned_at"]["schema"] == {"type": "string", "format": "date-time"}


def test_a_filter_of_a_named_type_needs_nothing_from_elsewhere(described: Json) -> None:
    assert parameters(described, "get", "/trees")["kind"]["schema"]["enum"] == ["apple", "mango"]


def test_a_change_tells_if_match_and_a_post_its_key(described: Json) -> None:
    assert "If-Match" in parameters(described, "patch", "/trees/{tree_id}")
    assert "If-Match" not in parameters(described, "get", "/trees/{tree_id}")
    assert parameters(described, "post", "/trees")["Idempotency-Key"]["required"] is True
    assert parameters(described, "post", "/moves")["Idempotency-Key"]["required"] is False
    assert "Idempotency-Key" not in parameters(described, "post", "/pictures")


def test_it_tells_who_may_come(described: Json) -> None:
    signed: list[Json] = [{"bearer": []}, {"session": []}]
    assert operation(described, "get", "/trees")["security"] == signed
    assert operation(described, "get", "/mine")["security"] == signed
    assert operation(described, "get", "/open")["security"] == []
    assert "401" not in operation(described, "get", "/open")["responses"]
    assert {"401", "403", "404"} <= operation(described, "delete", "/trees/{tree_id}")["responses"].keys()


def test_every_refusal_is_a_problem(described: Json) -> None:
    for methods in described["paths"].values():
        for each in methods.values():
            for status, reply in each["responses"].items():
                whole = described["components"]["responses"][status] if "$ref" in reply else reply
                if int(status) >= 400:
                    assert list(whole["content"]) == ["application/problem+json"]


def test_a_products_own_problems_are_named(described: Json) -> None:
    told = operation(described, "post", "/trees")["responses"]["409"]["description"]
    assert "`tree_is_hollow`: A hollow tree bears nothing." in told
    assert "`already_exists`" in told


def test_z2_forms_take_no_unknown_fields_and_neither_do_forms_within(described: Json) -> None:
    schemas = described["components"]["schemas"]
    for name in ("NewTree", "TreePatch", "Graft"):
        assert schemas[name]["additionalProperties"] is False, name
    assert "additionalProperties" not in schemas["TreeView"]


def references(value: Any) -> set[str]:
    return set(re.findall(r'"#/([^"]+)"', msgspec.json.encode(value).decode()))


def resolves(described: Json, reference: str) -> bool:
    place: Any = described
    for part in reference.split("/"):
        if part not in place:
            return False
        place = place[part]
    return True


async def test_each_products_description_is_whole_and_holds_no_others() -> None:
    nut = Product(name="nuts", title="Nuts", summary="Nuts.", routes=[orchard.show_who_comes, orchard.move_ladder])
    async with house_of([orchard.product, nut]) as both:
        inner = both.app.app.app
        whole = openapi.describe(inner)
        assert {"/v1/nuts/open", "/v1/orchard/open", "/health"} <= whole["paths"].keys()
        for name in ("orchard", "nuts"):
            part = openapi.describe(inner, name)
            assert {path.split("/")[2] for path in part["paths"]} == {name}
            assert part["info"]["title"] == f"Msingi {name}"
            assert all(resolves(part, each) for each in references(part))
        assert "NewTree" not in openapi.describe(inner, "nuts")["components"]["schemas"]
        assert "NewTree" in openapi.describe(inner, "orchard")["components"]["schemas"]
    assert all(resolves(whole, each) for each in references(whole))


def test_it_is_made_once(house: House) -> None:
    """Making it takes tens of milliseconds, during which nobody else is served."""
    inner = house.app.app.app
    assert openapi.describe(inner) is openapi.describe(inner)
    assert openapi.describe(inner, "orchard") is openapi.describe(inner, "orchard")


def test_the_postman_collection_asks_every_operation(described: Json) -> None:
    made = openapi.postman(described, "http://msingi.test")
    assert made["info"]["schema"].endswith("/v2.1.0/collection.json")
    (folder,) = [each for each in made["item"] if each["name"] == "orchard"]
    asked = {(each["request"]["method"], each["request"]["url"]["raw"]): each["request"] for each in folder["item"]}
    assert len(asked) == sum(len(each) for path, each in described["paths"].items() if "/orchard/" in path)
    prune = asked["PATCH", "{{base_url}}/v1/orchard/trees/:tree_id"]
    assert prune["url"]["path"] == ["v1", "orchard", "trees", ":tree_id"]
    assert "auth" not in prune
    assert asked["GET", "{{base_url}}/v1/orchard/open"]["auth"] == {"type": "noauth"}
    sample = asked["POST", "{{base_url}}/v1/orchard/trees"]["body"]["raw"]
    msgspec.json.decode(sample, type=orchard.NewTree)  # it can be sent as it stands
    assert [each["value"] for each in made["variable"]] == ["http://msingi.test", ""]


@pytest.mark.parametrize(
    ("schema", "sample"),
    [
        ({"type": "string", "examples": ["a"]}, "a"),
        ({"enum": ["b", "c"]}, "b"),
        ({"type": "integer", "default": 0}, 0),
        ({"type": ["null", "string"]}, None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"type": "string", "format": "date-time"}, "2026-01-31T08:00:00Z"),
        ({"type": "array", "items": {"type": "string"}}, []),
        ({"type": "object", "properties": {"a": {"type": "number"}, "b": {}}, "required": ["a"]}, {"a": 1.5}),
        ({}, None),
    ],
)
def test_a_sample_fits_its_schema(schema: Json, sample: Any) -> None:
    assert openapi.sample_of(schema, {}) == sample


def test_a_schema_that_holds_itself_comes_to_an_end() -> None:
    loop = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Loop"}}, "required": ["next"]}
    assert "next" in openapi.sample_of(loop, {"Loop": loop})
