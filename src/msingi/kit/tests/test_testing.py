"""The tools of the tests can fail: an access table that lacks a line, has one too many, or says what is not so."""

from typing import Any

import pytest

from msingi.kit.errors import NotFound
from msingi.kit.http import Path, get, post
from msingi.kit.product import Product
from msingi.kit.testing import PEOPLE, Client, World, access_table
from msingi.kit.tests import orchard


@get("/", public=True)
async def list_doors() -> list[str]:
    return ["front"]


@get("/search")
async def search_doors() -> list[str]:
    return []


@get("/{door_id:str}")
async def show_door(door_id: Path[str]) -> dict[str, str]:
    if door_id != "front":
        raise NotFound
    return {"id": door_id}


@post("/{door_id:str}/lock", permission="doors:lock")
async def lock_door(door_id: Path[str]) -> dict[str, str]:
    return {"id": door_id}


doors = Product(
    name="doors",
    title="Doors",
    summary="Doors.",
    routes=[list_doors, search_doors, show_door, lock_door],
    grants={"admin": ["doors:lock"]},
)
TABLE = """
                     nobody  ann  admin
GET  /               200     200  200
GET  /search         401     200  200
GET  /front          401     200  200
GET  /back           401     404  404
POST /front/lock     401     403  201
"""


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [doors]


test_the_doors_open_to_whom_they_should = access_table(doors, TABLE)


def _without(line: str) -> str:
    kept = [each for each in TABLE.splitlines() if line not in each]
    assert len(kept) == len(TABLE.splitlines()) - 1
    return "\n".join(kept)


@pytest.mark.parametrize("line", ["GET  / ", "/search", "/front/lock"])
def test_a_route_without_a_line_fails_at_collection(line: str) -> None:
    with pytest.raises(AssertionError, match="lacks"):
        access_table(doors, _without(line))


def test_one_line_more_for_the_same_route_is_fine() -> None:
    access_table(doors, _without("/back"))


@pytest.mark.parametrize("line", ["GET /cellar/steps 401 200 200", "PUT / 401 200 200", "GET /v1/other 401 200 200"])
def test_a_line_without_a_route_fails_at_collection(line: str) -> None:
    with pytest.raises(AssertionError, match="has no route"):
        access_table(doors, TABLE + line)


@pytest.mark.parametrize("line", ["GET /front 401 200", "GET /front 401 200 200 200", "GET /front 401 200 yes"])
def test_a_line_that_does_not_fit_the_people_fails_at_collection(line: str) -> None:
    with pytest.raises(ValueError, match=r"argument|literal"):
        access_table(doors, TABLE + line)


def test_a_person_whom_nobody_knows_fails_at_collection() -> None:
    with pytest.raises(AssertionError, match="nobody here is called"):
        access_table(doors, TABLE.replace("ann  ", "anne "))


def _cells(table: str) -> list[tuple[Any, str]]:
    marks: Any = access_table(doors, table)
    (mark,) = [each for each in marks.pytestmark if each.name == "parametrize"]
    cells: list[tuple[Any, str]] = mark.args[1]
    return cells


async def test_a_cell_that_says_what_is_not_so_fails(world: World) -> None:
    wrong = TABLE.replace("POST /front/lock     401     403", "POST /front/lock     401     201")
    test = access_table(doors, wrong)
    failed = []
    for row, who in _cells(wrong):
        try:
            await test(world, row, who)
        except AssertionError:
            failed.append((row.method, row.path, who))
    assert failed == [("POST", "/front/lock", "ann")]


async def test_a_client_fails_on_any_other_status_than_the_one_expected(ann: Client) -> None:
    assert await ann.get("/front") == {"id": "front"}
    with pytest.raises(AssertionError, match="404, not 2xx"):
        await ann.get("/back")
    with pytest.raises(AssertionError, match="200, not 404"):
        await ann.get("/front", expect=404)
    with pytest.raises(AssertionError, match="200, not"):
        await ann.get("/front", expect=[401, 404])


def test_the_people_are_who_they_are() -> None:
    assert {name for name, person in PEOPLE.items() if "admin" in person.roles} == {"admin"}
    assert all(name == person.id for name, person in PEOPLE.items())


def test_an_orchard_without_its_table_is_seen() -> None:
    with pytest.raises(AssertionError, match="lacks"):
        access_table(orchard.product, "nobody\nGET /open 200")
