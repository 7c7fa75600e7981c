"""Sheets that jobs write and read: how far they are, who fetches them, and what a crash leaves."""

import csv
import io
import json
from datetime import timedelta
from typing import Any

import openpyxl
import pytest
import pytest_asyncio

from msingi.kit import clock, files, jobs, live, runner
from msingi.kit.actors import Actor
from msingi.kit.errors import NotFound
from msingi.kit.live.topics import check_may_follow
from msingi.kit.product import Product
from msingi.kit.testing import PEOPLE, Client, World
from msingi.kit.unit import alone
from msingi.products.shop import sheets as tables
from msingi.products.shop.actions import importing
from msingi.products.shop.actions import reports as acting
from msingi.products.shop.jobs.reports import sweep_sheets
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.catalogue import products as goods
from msingi.products.shop.models.orders import Address, Order, OrderLine, Tax, Totals, orders
from msingi.products.shop.models.reports import sheets
from msingi.products.shop.models.stock import MovementRow, movements
from msingi.products.shop.product import product
from msingi.products.shop.queries import reports as queries
from msingi.products.shop.tests.ordering import Killed


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [product]


async def asked(client: Client, world: World, kind: str, **more: Any) -> Any:
    """A sheet that is asked for, and done."""
    sheet = await client.post("/sheets", kind=kind, **more, expect=202)
    assert (sheet["state"], sheet["done"], sheet["of"], sheet["file"]) == ("queued", 0, None, None)
    assert client.last.headers["location"] == f"/v1/shop/sheets/{sheet['id']}"
    await world.work()
    done = await client.get(f"/sheets/{sheet['id']}")
    assert (done["state"], done["file"]) == ("done", f"/v1/shop/sheets/{sheet['id']}/file")
    return done


def rows_of(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode())))


async def fetched(client: Client, sheet: Any) -> Any:
    return await client.get(sheet["file"])


async def add_order(number: str, **more: Any) -> Order:
    none = Tax(name="", rate=0, included=True, amount=0)
    line = OrderLine(
        id="1", product_id="tea", variant_id="tea-250", sku="TEA-250", title=Words(en="Tea"), quantity=2, price=12_000,
        tax=none, total=24_000,
    )  # fmt: skip
    order = Order(
        number=number, email="ann@msingi.test", address=Address(name="Ann Wanjiru"), currency="KES", lines=[line],
        totals=Totals(goods=24_000, discount=0, shipping=0, tax=0, tax_added=0, rounding=0, total=24_000),
        held_until=clock.now(), **more,
    )  # fmt: skip
    async with alone():
        return await orders.add(order)


async def test_every_kind_is_written_and_fetched(admin: Client, world: World) -> None:
    body = await fetched(admin, sheet := await asked(admin, world, "products"))
    assert admin.last.headers["content-type"] == "text/csv; charset=utf-8"
    today = queries.today().isoformat()
    assert admin.last.headers["content-disposition"] == f'attachment; filename="products-{today}.csv"'
    assert len(body) == sheet["size"]
    assert body == await admin.get("/catalogue/export?format=csv")
    count = await goods.count({})
    assert (sheet["done"], sheet["of"]) == (count, count)
    as_json = json.loads(json.dumps(await fetched(admin, await asked(admin, world, "products", format="json"))))
    assert len(as_json["products"]) == count
    book = openpyxl.load_workbook(
        io.BytesIO(await fetched(admin, await asked(admin, world, "products", format="xlsx")))
    )
    assert [[cell or "" for cell in row] for row in book.active.values] == rows_of(body)

    await add_order("MS-1", paid=24_000, shipping_name=Words(en="=HYPERLINK(1)"))
    await add_order("MS-0", created_at=clock.now() - timedelta(days=40))
    told = rows_of(await fetched(admin, await asked(admin, world, "orders")))
    (row,) = [dict(zip(told[0], each, strict=True)) for each in told[1:]]
    assert (row["number"], row["items"], row["total"], row["paid"]) == ("MS-1", "2", "240.00", "240.00")
    assert row["placed_at"].startswith(today)
    assert row["shipping_method"] == "'=HYPERLINK(1)"
    assert "ann" not in str(told).lower()

    told = rows_of(await fetched(admin, await asked(admin, world, "sales", since="2026-01-01", until="2026-01-31")))
    assert (len(told), told[1][:3]) == (32, ["2026-01-01", "KES", "0"])
    stock = rows_of(await fetched(admin, await asked(admin, world, "stock")))
    assert ["tea-250", "nairobi", "100", "0", "100", "0"] in [each[2:] for each in stock]

    moved = MovementRow(stock_id="tea-250.nairobi", variant_id="tea-250", location_id="nairobi", kind="shipped",
                        on_hand=-3, allocated=-3, reason="-2+3+cmd|' /C calc'!A0")  # fmt: skip
    async with alone():
        await movements.add(moved)
    told = rows_of(await fetched(admin, await asked(admin, world, "movements")))
    assert told[1][1:] == ["tea-250", "nairobi", "shipped", "-3", "-3", "'-2+3+cmd|' /C calc'!A0", ""]
    listed = (await admin.get("/sheets"))["items"]
    assert [each["kind"] for each in listed] == ["movements", "stock", "sales", "orders", *["products"] * 3]


async def test_it_is_told_live_how_far_it_is(admin: Client, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "EACH", 0)
    monkeypatch.setattr("msingi.products.shop.exports.TOGETHER", 3)
    said: list[Any] = []

    async def hear(topic: str, kind: str, data: Any = None) -> None:
        said.append((topic, kind, data["state"], data["done"], data["of"]))

    monkeypatch.setattr(live, "tell", hear)
    sheet = await asked(admin, world, "products")
    count = await goods.count({})
    topic = f"shop/sheets/{sheet['id']}"
    assert {each[:2] for each in said} == {(topic, "sheet_changed")}
    steps = [each[2:] for each in said]
    assert (steps[0], steps[-1]) == (("running", 0, None), ("done", count, count))
    assert steps[1:3] == [("running", 0, count), ("running", 3, count)]
    for topic_of, actor in ((topic, PEOPLE["ann"]), ("shop/sheets/none", PEOPLE["admin"])):
        with pytest.raises(NotFound):
            await check_may_follow(topic_of, actor)
    await check_may_follow(topic, PEOPLE["admin"])


async def test_only_who_may_see_what_is_in_it_has_a_sheet_made_or_fetches_it(
    admin: Client, ann: Client, nobody: Client, world: World
) -> None:
    sheet = await asked(admin, world, "orders")
    await nobody.get(sheet["file"], expect=401)
    await ann.get(sheet["file"], expect=403)
    stored = (await sheets.get(sheet["id"])).file
    assert stored
    for place in (f"//files/{stored}", f"//files/{stored.rpartition('/')[2]}", f"//files/../private/{stored}"):
        await nobody.get(place, expect=404)
    for more in ({"kind": "orders", "format": "json"}, {"kind": "import"}, {"kind": "people"}, {"since": "2026-01-01"}):
        await admin.post("/sheets", json=more, expect=422)
    refused = await admin.post("/sheets", kind="orders", since="2026-02-01", until="2026-01-01", expect=422)
    assert refused["code"] == "bad_span"
    for _ in range(acting.MOST_AT_ONCE):
        await admin.post("/sheets", kind="stock")
    assert (await admin.post("/sheets", kind="stock", expect=409))["code"] == "too_many_sheets"


async def test_who_sees_reports_but_not_orders_gets_no_orders(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = await asked(admin, world, "orders")
    monkeypatch.setattr(Actor, "may", lambda self, permission: permission == "shop:reports")
    for method, path, body in (
        ("POST", "/sheets", {"kind": "orders"}),
        ("GET", sheet["file"], None),
        ("DELETE", f"/sheets/{sheet['id']}", None),
    ):
        assert (await admin.ask(method, path, json=body, expect=403))["code"] == "forbidden"
    await admin.post("/sheets", kind="sales")


# ---- crashes


@pytest_asyncio.fixture(loop_scope="session")
async def dying(admin: Client, world: World) -> Any:
    """A sheet whose worker died while it was writing, in the middle of a file."""
    return await admin.post("/sheets", kind="products")


async def killed(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, *, after: bool) -> None:
    """Have the worker die at this line: its job stays claimed, until its lease runs out."""
    real = getattr(where, name)

    async def die(*args: Any, **more: Any) -> Any:
        if after:
            await real(*args, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(where, name, die)
        with pytest.raises(Killed):
            await runner.run_due("shop")
    await jobs.rows("shop").raw.update_many({"state": "running"}, {"$set": {"lease_until": clock.now() - timedelta(1)}})
    await runner.rescue("shop")


@pytest.mark.parametrize("after", [False, True])
async def test_c9_a_killed_worker_leaves_no_half_file_and_another_begins_anew(
    dying: Any, admin: Client, world: World, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    await killed(monkeypatch, files, "keep_private", after=after)
    half = await admin.get(f"/sheets/{dying['id']}")
    assert (half["state"], half["file"]) == ("running", None)
    assert (await admin.get(f"/sheets/{dying['id']}/file", expect=409))["code"] == "not_written"
    assert (await admin.delete(f"/sheets/{dying['id']}", expect=409))["code"] == "still_written"
    await world.work()
    done = await admin.get(f"/sheets/{dying['id']}")
    assert (done["state"], done["done"]) == ("done", await goods.count({}))
    assert await fetched(admin, done) == await admin.get("/catalogue/export?format=csv")


async def test_c9_what_fails_in_the_middle_of_a_file_leaves_nothing_of_it(
    dying: Any, admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = acting.Going.more

    async def die(self: acting.Going, things: int) -> None:
        await real(self, things)
        if things:
            raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(acting.Going, "more", die)
        (fault,) = await runner.run_due("shop")
    assert isinstance(fault, ConnectionError)
    with pytest.raises(NotFound):
        await anext(files.read_private(f"sheets/{dying['id']}-1.csv"))
    with clock.shifted(timedelta(minutes=20)):
        await world.work()
    assert (await admin.get(f"/sheets/{dying['id']}"))["state"] == "done"


async def test_c9_a_worker_that_was_given_up_for_dead_spoils_nothing_when_it_comes_back(
    dying: Any, admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.keep_private
    met: list[str] = []

    async def slow(name: str, pieces: Any) -> int:
        size = await real(name, pieces)
        if not met:
            met.append(name)
            await acting.make(dying["id"])  # another took over, and is done before us
        return size

    monkeypatch.setattr(files, "keep_private", slow)
    await world.work()
    done = await sheets.get(dying["id"])
    assert (done.state, done.tries, done.file) == ("done", 2, f"sheets/{done.id}-2.csv")
    with pytest.raises(NotFound):
        await anext(files.read_private(met[0]))
    assert await fetched(admin, await admin.get(f"/sheets/{done.id}"))


async def test_what_never_works_fails_and_says_so(admin: Client, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_WRITTEN", 3)
    sheet = await admin.post("/sheets", kind="products", format="xlsx")
    await world.work()
    told = await admin.get(f"/sheets/{sheet['id']}")
    assert (told["state"], told["error"], told["file"]) == ("failed", "too_many_rows", None)
    again = await admin.post("/sheets", kind="products")
    await sheets.raw.update_one({"_id": again["id"]}, {"$set": {"tries": acting.MOST_TRIES, "state": "running"}})
    await world.work()
    assert (await admin.get(f"/sheets/{again['id']}"))["error"] == "gave_up"
    lost = await admin.post("/sheets", kind="products")
    await jobs.rows("shop").raw.delete_many({})
    with clock.shifted(acting.GIVEN_UP + timedelta(minutes=1)):
        await sweep_sheets()
    assert (await admin.get(f"/sheets/{lost['id']}"))["error"] == "gave_up"


async def test_sheets_are_swept_with_their_files(admin: Client, world: World) -> None:
    first = await asked(admin, world, "stock")
    name = (await sheets.get(first["id"])).file or ""
    assert await anext(files.read_private(name))
    with clock.shifted(acting.KEPT - timedelta(minutes=5)):
        await sweep_sheets()
    assert await fetched(admin, first)
    with clock.shifted(acting.KEPT + timedelta(minutes=5)):
        await sweep_sheets()
    await admin.get(f"/sheets/{first['id']}", expect=404)
    with pytest.raises(NotFound):
        await anext(files.read_private(name))
    second = await asked(admin, world, "stock")
    await admin.delete(f"/sheets/{second['id']}", expect=204)
    await admin.get(second["file"], expect=404)


# ---- imports


async def send(client: Client, table: str, query: str = "", kind: str = "text/csv", expect: int = 202) -> Any:
    path = f"/sheets/imports{query}"
    return await client.post(path, content=table.encode(), headers={"content-type": kind}, expect=expect)


async def read_in(client: Client, world: World, table: str, query: str = "") -> Any:
    sheet = await send(client, table, query)
    await world.work()
    return await client.get(f"/sheets/{sheet['id']}")


HEAD = "slug,title_en,sku,price KES\n"


async def test_a_large_table_is_read_in_the_background(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 10)
    monkeypatch.setattr(importing, "TOGETHER", 5)
    table = HEAD + "".join(f"thing-{number},Thing {number},T-{number},10\n" for number in range(12))
    path = "/catalogue/imports"
    refused = await admin.post(path, content=table.encode(), headers={"content-type": "text/csv"}, expect=422)
    assert refused["code"] == "bad_sheet"
    told = await read_in(admin, world, table, "?dry_run=true")
    assert (told["kind"], told["state"], told["done"], told["of"], told["dry_run"]) == ("import", "done", 12, 12, True)
    assert told["result"] == {
        "dry_run": True, "rows": 12, "created": 12, "updated": 0, "unchanged": 0, "errors": [],
    }  # fmt: skip
    assert not await goods.exists({"slug": "thing-1"})
    told = await read_in(admin, world, table)
    assert (told["done"], told["result"]["created"], told["file"]) == (24, 12, None)
    assert await goods.count({"slug": {"$regex": "^thing-"}}) == 12
    assert (await read_in(admin, world, table))["result"]["unchanged"] == 12
    await admin.get(f"/sheets/{told['id']}/file", expect=409)


async def test_a_faulty_row_is_named_and_nothing_is_written(admin: Client, world: World) -> None:
    told = (await read_in(admin, world, HEAD + "fine,Fine,F-1,5\nbad,Bad,B-1,x\nworse,,W-1,1\n"))["result"]
    assert [(each["row"], each["column"]) for each in told["errors"]] == [(3, "price KES"), (4, "title_en")]
    assert (told["created"], await goods.exists({"slug": "fine"})) == (0, False)
    broken = await read_in(admin, world, "slug,colour\na,b\n")
    assert (broken["state"], broken["error"]) == ("failed", "bad_sheet")
    assert broken["reason"] == "This table cannot be read: no goods have a column colour."
    assert (await send(admin, "{}", kind="application/json", expect=415))["code"] == "unsupported_media"


async def test_c9_an_import_that_is_killed_in_the_middle_is_brought_to_its_end(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "TOGETHER", 2)
    table = HEAD + "".join(f"thing-{number},Thing {number},T-{number},10\n" for number in range(6))
    sheet = await send(admin, table)
    real = importing._write
    written: list[Any] = []

    async def write(plans: Any) -> Any:
        if len(written) == 1:
            raise Killed
        written.append(plans)
        return await real(plans)

    with monkeypatch.context() as patch:
        patch.setattr(importing, "_write", write)
        with pytest.raises(Killed):
            await runner.run_due("shop")
    assert await goods.count({"slug": {"$regex": "^thing-"}}) == 2
    await jobs.rows("shop").raw.update_many({"state": "running"}, {"$set": {"lease_until": clock.now() - timedelta(1)}})
    await runner.rescue("shop")
    await world.work()
    told = await admin.get(f"/sheets/{sheet['id']}")
    assert (told["state"], told["result"]["created"], told["result"]["unchanged"]) == ("done", 4, 2)
    assert await goods.count({"slug": {"$regex": "^thing-"}}) == 6
