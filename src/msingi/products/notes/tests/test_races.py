"""What happens when several write at once."""

import asyncio

from msingi.kit.actors import Actor
from msingi.kit.errors import Problem
from msingi.kit.testing import Client
from msingi.products.notes import actions, queries
from msingi.products.notes.models import Note
from msingi.products.notes.rules import NoteChanged
from msingi.products.notes.schemas import NewNote, NotePatch


async def test_of_many_patches_on_one_version_one_wins(ann: Client) -> None:
    note = await queries.note("hens", _ann(ann))
    results = await asyncio.gather(
        *(actions.edit(note, NotePatch(body=str(number)), 1) for number in range(20)), return_exceptions=True
    )
    won = [result for result in results if isinstance(result, Note)]
    assert len(won) == 1
    assert {type(result) for result in results if isinstance(result, Problem)} == {NoteChanged}
    after = await ann.get("/hens")
    assert (after["version"], after["body"]) == (2, won[0].body)
    assert len((await ann.get("/hens/revisions"))["items"]) == 2


async def test_no_save_is_lost_without_a_version(ann: Client) -> None:
    note = await queries.note("hens", _ann(ann))
    await asyncio.gather(*(actions.edit(note, NotePatch(body=f"save {number}"), None) for number in range(8)))
    kept = await ann.get("/hens/revisions")
    bodies = {(await ann.get(f"/hens/revisions/{each['version']}"))["body"] for each in kept["items"]}
    assert bodies >= {f"save {number}" for number in range(8)}
    assert [each["version"] for each in kept["items"]] == list(range(9, 0, -1))


async def test_the_first_notes_of_a_person_may_be_written_at_once(eve: Client) -> None:
    made = await asyncio.gather(*(actions.write(NewNote(title=f"n{n}"), _ann(eve)) for n in range(10)))
    assert sorted(note.sequence for note in made) == list(range(1, 11))


async def test_a_reader_of_changes_misses_nothing_while_others_write(ann: Client) -> None:
    done = asyncio.Event()
    seen: dict[str, int] = {}

    async def read() -> None:
        cursor = ""
        while True:
            last_round = done.is_set()
            page = await ann.get(f"/changes?limit=3&cursor={cursor}")
            seen.update({each["id"]: each["version"] for each in page["items"]})
            cursor = page["cursor"]
            if last_round and not page["more"]:
                return

    async def write() -> None:
        for number in range(6):
            note = await actions.write(NewNote(title=f"n{number}"), _ann(ann))
            await actions.edit(note, NotePatch(body="more"), None)

    reader = asyncio.create_task(read())
    await asyncio.gather(write(), write())
    done.set()
    await reader
    everything = await ann.get("/?limit=100")
    assert seen == {note["id"]: note["version"] for note in everything["items"]}
    assert len(seen) == 15


def _ann(client: Client) -> Actor:
    assert client.actor
    return client.actor
