"""What the bench measures is right, or it says what is wrong: our own stack in small, and peers that cannot be had."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from bench.stacks import STACKS, WORKLOADS, CannotInstall, CannotStart, Place, Request, Stack, Workload, World, plant
from bench.stacks.check import answered, checked
from bench.stacks.driver import driver
from tests.serving import own_databases

BY_NAME = {each.name: each for each in STACKS}
ROWS = {each.name: each for each in WORKLOADS}
SIZE = 50


def place_in(folder: Path) -> Place:
    own = own_databases(32)
    return Place(folder, own["mongo_url"], own["redis_url"], own["MSINGI_DATABASE"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Our own stack with a few tasks in it."""
    with BY_NAME["msingi"].start(place_in(tmp_path_factory.mktemp("stack")), 1) as running:
        yield plant(running, SIZE)


def apart(work: Any) -> Any:
    """What a coroutine returns, in a thread with a loop of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def ask(world: World, workload: Workload) -> tuple[Request, int, dict[str, str], bytes]:
    request = workload.plan(world)[0]
    url = f"{world.running.url}{request.path}"
    headers = {"accept-encoding": "identity", **request.headers}
    reply = httpx.request(request.method, url, headers=headers, content=request.body, timeout=30, trust_env=False)
    return request, reply.status_code, dict(reply.headers), reply.content


def test_our_own_stack_answers_every_workload_rightly(world: World) -> None:
    found = apart(answered(world, WORKLOADS))
    assert found == dict.fromkeys(ROWS, "")


@pytest.mark.parametrize("name", sorted(ROWS.keys() - {"upload"}))
def test_an_answer_with_a_wrong_status_length_or_field_is_told(world: World, name: str) -> None:
    request, status, headers, body = ask(world, ROWS[name])
    right = ROWS[name].right
    assert right(request, status, headers, body) is None
    assert "status" in str(right(request, 500, headers, body))
    assert "bytes" in str(right(request, status, headers, body + b" "))
    assert "x-request-id" in str(right(request, status, {**headers, "x-request-id": ""}, body))
    assert "compressed" in str(right(request, status, {**headers, "content-encoding": "br"}, body))
    said = json.loads(body)
    if "items" in said:
        del said["items"][0]
    else:
        del said[next(iter(said))]
    less = json.dumps(said).encode()
    assert right(request, status, {**headers, "content-length": str(len(less))}, less) is not None


def test_an_update_on_another_version_than_the_plan_knows_is_told(world: World) -> None:
    request, status, headers, body = ask(world, ROWS["update"])
    assert ROWS["update"].right(request, status, headers, body) is None
    told = json.loads(body)
    later = json.dumps(told | {"version": told["version"] + 1}).encode()
    more = {**headers, "etag": f'"{told["version"] + 1}"', "content-length": str(len(later))}
    assert "version and priority" in str(ROWS["update"].right(request, status, more, later))


def test_a_plan_of_updates_goes_on_from_the_versions_that_are_there(world: World) -> None:
    plan = ROWS["update"].plan(world)
    versions = world.versions([id for id, _ in world.tasks])
    first = {each.path.rpartition("/")[2]: each for each in reversed(plan)}
    assert {id: request.headers["if-match"] for id, request in first.items()} == {
        id: f'"{version}"' for id, version in versions.items()
    }
    assert len(plan) == 40 * len(versions)


def test_requests_are_made_from_the_open_tasks_and_from_words_that_so_many_hold(world: World) -> None:
    open_ones = [number for number in range(SIZE) if number % 10 != 9]
    assert [id for id, _ in world.tasks] == [f"t{number:07d}" for number in open_ones]
    assert {word.text: word.found for word in world.words} == {"kakakaka": 40, "kakakama": 10}


def test_the_driver_alone_finds_what_the_stack_does(world: World) -> None:
    async def all_of_them() -> None:
        async with driver(world) as acts:
            for act in acts.values():
                await act()

    apart(all_of_them())


def test_the_bare_server_answers_what_it_serves(tmp_path: Path) -> None:
    assert checked(BY_NAME["bare"], place_in(tmp_path), tmp_path, SIZE, 1) == {"hello": ""}


def test_a_peer_that_cannot_be_installed_is_named_and_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotInstall, match="there is no npm here"):
        BY_NAME["express"].install(tmp_path)
    assert checked(BY_NAME["express"], place_in(tmp_path), tmp_path, SIZE, 1) == "there is no npm here"
    with pytest.raises(CannotStart, match="express was not installed"), BY_NAME["express"].start(place_in(tmp_path), 1):
        pass


def test_a_stack_that_does_not_come_up_is_named_and_not_measured(tmp_path: Path) -> None:
    def start(place: Place, processes: int) -> Any:
        raise CannotStart("its port is taken")

    broken = Stack("broken", "Broken", lambda folder: None, start)
    assert checked(broken, place_in(tmp_path), tmp_path, SIZE, 1) == "its port is taken"
