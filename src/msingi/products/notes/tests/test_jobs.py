"""Work without a request."""

from datetime import timedelta

from msingi.kit import clock
from msingi.kit.testing import Client, World
from msingi.products.accounts.contract import UserErased
from msingi.products.notes import jobs


async def test_the_trash_empties_itself_after_thirty_days(ann: Client) -> None:
    await ann.put("/hens/trash")
    await ann.put("/prices/trash")
    await ann.delete("/prices/trash")
    with clock.shifted(timedelta(days=29)):
        await jobs.empty_trash()
    await ann.get("/hens")
    with clock.shifted(timedelta(days=31)):
        await jobs.empty_trash()
    await ann.get("/hens", expect=404)
    await ann.get("/prices")
    assert (await ann.get("/changes"))["items"][-1]["change"] == "deleted"


async def test_a_cursor_from_before_the_oldest_tombstone_asks_for_a_new_start(ann: Client) -> None:
    cursor = (await ann.get("/changes"))["cursor"]
    await ann.delete("/hens")
    with clock.shifted(timedelta(days=200)):
        await jobs.forget_tombstones()
    assert (await ann.get(f"/changes?cursor={cursor}", expect=410))["code"] == "resync_required"
    assert [each["id"] for each in (await ann.get("/changes"))["items"]] == ["prices", "chama"]


async def test_an_erased_person_leaves_no_note(world: World, ann: Client, bob: Client) -> None:
    await world.tell(UserErased(user_id="ann"))
    assert (await ann.get("/?state=all"))["items"] == []
    await ann.get("/hens/revisions", expect=404)
    assert len((await bob.get("/"))["items"]) == 1
