"""What is done without a request: reminders, and what follows from things that happened."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from msingi.kit import clock, mail, peers
from msingi.kit.mail import rendered
from msingi.kit.testing import PEOPLE, Client, World
from msingi.products.accounts.contract import PEOPLE as QUESTION
from msingi.products.accounts.contract import Person, UserErased, known_people
from msingi.products.tasks import jobs
from msingi.products.tasks.jobs import TOGETHER
from msingi.products.tasks.models import members, projects, reminders, tasks

DAILY = {"rule": "FREQ=DAILY", "time_zone": "Africa/Nairobi"}
SOON = timedelta(days=3)  # by then the hay is due


async def letters(world: World) -> list[tuple[str, str, str]]:
    return [(template, to, said["title"]) for template, to, said in await world.letters()]


async def test_a_reminder_is_written_once_at_its_time(bob: Client, world: World) -> None:
    await jobs.remind()
    assert await world.letters() == []
    with clock.shifted(SOON):
        await jobs.remind()
        await jobs.remind()
        assert await letters(world) == [("reminder", "bob@msingi.test", "Buy hay")]
    (shown,) = (await bob.get("/hay/reminders"))["items"]
    assert shown["sent_at"] is not None


async def test_run_at_once_it_is_still_written_once(ann: Client, bob: Client, world: World) -> None:
    for client in (ann, bob):
        for minutes in range(4):
            await client.post("/hay/reminders", minutes_before_due=minutes, expect=201)
    with clock.shifted(SOON):
        await asyncio.gather(*(jobs.remind() for _ in range(6)))
        written = await letters(world)
    assert len(written) == 9
    assert await reminders.count({"state": "sent"}) == 9


async def test_of_many_at_once_each_goes_its_own_way(ann: Client, bob: Client, world: World) -> None:
    """More than one transaction holds: most are written, what is done is dropped, and nobody's else's is touched."""
    done = await ann.post("/projects/farm/tasks", title="Count the eggs", expect=201)
    await bob.post(f"/{done['id']}/reminders", at="2026-02-02T04:30:00Z", expect=201)
    await bob.put(f"/{done['id']}/completion")
    for number in range(TOGETHER // 19 + 1):
        made = await ann.post("/projects/farm/tasks", title=f"Row {number}", expect=201)
        for _ in range(19):
            await ann.post(f"/{made['id']}/reminders", at="2026-02-02T04:30:00Z", expect=201)
    await jobs.remind()
    written = await letters(world)
    assert len(written) == 19 * (TOGETHER // 19 + 1) > TOGETHER
    assert {to for _, to, _ in written} == {"ann@msingi.test"}
    states = [each["state"] async for each in reminders.raw.find({"at": {"$lte": clock.now()}})]
    assert (states.count("sent"), states.count("dropped"), states.count("waiting")) == (len(written), 1, 0)
    assert (await reminders.get("cash")).state == "waiting"


async def test_an_address_that_is_none_drops_one_reminder_and_no_other(
    ann: Client, bob: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for client in (ann, bob):
        await client.post("/hay/reminders", at="2026-02-02T04:30:00Z", expect=201)
    known = known_people

    async def misspelt(ids: list[str]) -> list[Person] | None:
        people = await known(ids) or []
        return [msgspec.structs.replace(each, email="bob" if each.id == "bob" else each.email) for each in people]

    monkeypatch.setattr(jobs, "known_people", misspelt)
    await jobs.remind()
    assert [to for _, to, _ in await letters(world)] == ["ann@msingi.test"]
    assert await reminders.count({"user_id": "bob", "state": "dropped"}) == 1


async def test_a_time_that_is_past_is_reminded_of_at_once(ann: Client, world: World) -> None:
    made = await ann.post("/vet/reminders", at="2026-02-02T04:30:00Z", expect=201)
    await world.work()
    assert await letters(world) == [("reminder", "ann@msingi.test", "Ask the vet about the brown hen")]
    (shown,) = (await ann.get("/vet/reminders"))["items"]
    assert (shown["id"], shown["sent_at"] is not None) == (made["id"], True)


async def test_nobody_is_reminded_of_what_is_done(bob: Client, world: World) -> None:
    await bob.put("/hay/completion")
    with clock.shifted(SOON):
        await jobs.remind()
    assert await world.letters() == []
    assert (await reminders.get("cash")).state == "dropped"


async def test_nobody_is_reminded_of_what_they_no_longer_see(ann: Client, world: World) -> None:
    await members.raw.delete_one({"_id": "farm:bob"})
    with clock.shifted(SOON):
        await jobs.remind()
    assert await world.letters() == []


async def test_a_new_due_is_reminded_of_anew(world: World) -> None:
    with clock.shifted(SOON):
        await jobs.remind()
        bob = world.client(PEOPLE["bob"])  # signed in again, since a token of three days ago is over
        async with bob.http:
            await bob.patch("/hay", due=(clock.now() + SOON).isoformat())
        await jobs.remind()
        assert len(await world.letters()) == 1
    with clock.shifted(2 * SOON):
        await jobs.remind()
        await jobs.remind()
        assert len(await world.letters()) == 2


async def test_reminders_wait_where_nobody_knows_an_address(
    bob: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as alone, clock.shifted(SOON):
        alone.delitem(peers._answerers, QUESTION.name)
        await jobs.remind()
        assert await world.letters() == []
    with clock.shifted(SOON):
        await jobs.remind()
        assert len(await world.letters()) == 1


async def test_somebody_without_an_account_is_not_written_to(world: World) -> None:
    await reminders.raw.update_one({"_id": "cash"}, {"$set": {"user_id": "zed"}})
    await members.raw.update_one({"_id": "farm:bob"}, {"$set": {"_id": "farm:bob"}})
    with clock.shifted(SOON):
        await jobs.remind()
    assert (await reminders.get("cash")).state == "dropped"


@pytest.mark.parametrize(("language", "word"), [("en", "Reminder"), ("sw", "Kikumbusho")])
async def test_the_letter_reads_well_and_holds_no_header_of_others(
    ann: Client, world: World, language: str, word: str
) -> None:
    made = await ann.post("/projects/farm/tasks", title="Eggs\r\nBcc: eve@msingi.test", expect=201)
    await ann.patch(f"/{made['id']}", due="2026-02-02T05:00:00Z", recurrence=DAILY)
    await ann.post(f"/{made['id']}/reminders", at="2026-02-02T04:30:00Z", expect=201)
    await world.work()
    (letter,) = await mail.written()
    letter.language = language
    said = rendered(letter)
    assert said.subject == f"{word}: Eggs Bcc: eve@msingi.test"
    assert "2026-02-02 08:00 (Africa/Nairobi)" in said.text
    assert f"/v1/tasks/{made['id']}" in said.text


async def test_an_erased_user_leaves_nothing_behind(ann: Client, bob: Client, world: World) -> None:
    await bob.post("/flour/reminders", at="2035-01-01T00:00:00Z", expect=201)
    await world.tell(UserErased(user_id="bob"))
    await world.work()
    assert (await ann.get("/hay"))["assignees"] == []
    assert await reminders.count({"user_id": "bob"}) == 0
    assert await members.count({"user_id": "bob"}) == 0
    assert (await projects.get("shop")).owner_id == "ann"
    assert (await ann.get("/projects/shop"))["role"] == "owner"
    assert (await ann.get("/flour"))["assignees"] == []


async def test_the_project_of_an_erased_user_who_was_alone_goes_with_them(eve: Client, world: World) -> None:
    made = await eve.post("/projects", name="Alone", expect=201)
    await eve.post(f"/projects/{made['id']}/tasks", title="Remember", expect=201)
    await world.tell(UserErased(user_id="eve"))
    await world.work()
    assert await projects.find({"_id": made["id"]}) is None
    assert await tasks.count({"project_id": made["id"]}) == 0


async def test_an_erasure_that_stopped_half_way_goes_on(ann: Client, world: World) -> None:
    for _ in range(2):
        await jobs.forget_person("bob")
    assert await members.count({"user_id": "bob"}) == 0
    assert (await projects.get("shop")).owner_id == "ann"


async def test_a_task_given_to_somebody_while_they_were_removed_is_taken_back(ann: Client, world: World) -> None:
    await ann.delete("/projects/farm/members/bob", expect=204)
    await tasks.raw.update_one({"_id": "vet"}, {"$set": {"assignees": ["bob", "ann"]}})
    await world.work()
    assert (await ann.get("/vet"))["assignees"] == ["ann"]


async def test_a_removed_member_who_came_back_keeps_their_new_tasks(ann: Client, world: World) -> None:
    await ann.delete("/projects/farm/members/bob", expect=204)
    await ann.put("/projects/farm/members/bob", role="editor")
    await ann.patch("/vet", assignees=["bob"])
    await world.work()
    assert (await ann.get("/vet"))["assignees"] == ["bob"]
