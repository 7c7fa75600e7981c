"""The staff's pages beside orders, read and filled in as a browser does it: each sees what they may, and no more."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from html import unescape
from pkgutil import iter_modules
from typing import cast

import pytest

from msingi.kit import actors
from msingi.kit.actors import Actor
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.products.shop import pages as all_pages
from msingi.products.shop import sheets as tables
from msingi.products.shop.jobs.reports import add_up_sales
from msingi.products.shop.models.catalogue import products as goods
from msingi.products.shop.models.orders import Order, orders
from msingi.products.shop.models.reports import sheets
from msingi.products.shop.models.stock import movements, stocks
from msingi.products.shop.pages import dashboard, shell, stock, webhooks
from msingi.products.shop.pages import sheets as sheet_pages
from msingi.products.shop.queries.reports import Funnel
from msingi.products.shop.rules import spans
from msingi.products.shop.tests.ordering import bank, end_hold, paid, pay, place, products, sell_out
from msingi.products.shop.tests.test_pages_orders import (
    FOLDER,
    OWNER,
    SUPPORT,
    WAREHOUSE,
    Desk,
    at_desk,
    somebody,
    words,
)

__all__ = ["bank", "products"]
HOME, STOCK, IMPORT, EXPORTS = (f"/shop/admin{each}" for each in ("", "/stock", "/import", "/exports"))
MANAGER = somebody("manager")
TILES, SIDE = r'<ul class="tiles".*?</ul>', r'<nav class="side".*?</nav>'
CSV = "slug,title_en,sku,price KES\n"


# ---- words


def said_in_templates() -> Iterator[str]:
    for path in (FOLDER / "templates").glob("*.html"):
        for quoted in re.findall(r"""_\(\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", path.read_text("utf-8")):
            yield quoted[1:-1]


SAID: list[Mapping[str, str]] = [
    *(shell.DONE, shell.FIELDS, spans.PRESETS, dashboard.STAGES, sheet_pages.STATES, sheet_pages.ERRORS),
    *(cast(Mapping[str, str], each) for each in (dashboard.STEPS, stock.MOVEMENTS, sheet_pages.KINDS)),
]


def said_by_code() -> Iterator[str]:
    yield from (text for texts in SAID for text in texts.values())
    yield from (title for _, title, _ in shell.PLACES)
    columns = re.findall(r"for title in \(([^()]+)\)", (FOLDER / "templates" / "sales.html").read_text("utf-8"))
    yield from columns[0].split('"')[1::2]
    yield from webhooks.said_here()
    for module in iter_modules(all_pages.__path__):
        source = (FOLDER / "pages" / f"{module.name}.py").read_text("utf-8")
        yield from re.findall(r"""(?:translate\(|said\(|Tile\()\s*["']([^"']+)["']""", source)


def test_all_that_the_pages_say_is_said_in_swahili_too() -> None:
    said = {*said_in_templates(), *said_by_code()}
    assert len(said) > 150
    assert sorted(said - words().keys()) == []


def test_the_words_are_kept_in_order_and_hold_the_same_places() -> None:
    known = json.loads((FOLDER / "templates" / "words.sw.json").read_text("utf-8"))
    assert list(known) == sorted(known)
    for english, swahili in known.items():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", swahili)), english


async def test_every_page_speaks_both_languages_and_has_one_heading(world: World, bank: Bank) -> None:
    async with at_desk(world, OWNER) as owner:
        for path in (HOME, STOCK, IMPORT, EXPORTS):
            english = await owner.open(path)
            swahili = await owner.open(f"{path}?lang=sw")
            assert ('lang="en"' in english, 'lang="sw"' in swahili) == (True, True)
            one, other = (re.findall(r"<h1>([^<]+)</h1>", each) for each in (english, swahili))
            assert len(one) == 1
            assert other == [words()[one[0]]]


# ---- who sees what


FIRST_PAGES = [
    (WAREHOUSE, {"Orders to send", "Low stock"}),
    (SUPPORT, {"Orders to send", "Paid, but the goods are gone", "To come back", "Refunds to approve"}),
    (MANAGER, {"Orders to send", "Paid, but the goods are gone", "To come back", "Refunds to approve", "Low stock"}),
]


async def test_z1_each_role_has_its_own_first_page_and_its_own_places(world: World, bank: Bank) -> None:
    for actor, sees in FIRST_PAGES:
        async with at_desk(world, actor) as desk:
            page = await desk.open(HOME)
            tiles, side = (re.search(each, page, re.DOTALL) for each in (TILES, SIDE))
            assert tiles
            assert set(re.findall(r"</strong>\s*([^<]+?)\s*</a>", tiles[0])) == sees
            assert ("Net sales" in page) is actor.may("shop:reports")
            assert side
            for path, _, needs in shell.PLACES:
                assert (f'href="{path}"' in side[0]) is any(map(actor.may, needs)), path
                await desk.open(path, 200 if any(map(actor.may, needs)) else 403)


async def test_the_shop_is_in_the_bar_of_those_who_work_there(world: World, bank: Bank) -> None:
    link = '<a href="/shop/admin"'
    async with at_desk(world, WAREHOUSE) as staff:
        assert link in (await staff.open(HOME)).partition("<main")[0]
    async with at_desk(world, Actor(id="ann", roles=frozenset({"user"}))) as ann:
        assert link not in await ann.open(HOME, 403)


# ---- what was sold


async def test_the_overview_tells_what_was_sold_and_draws_it(ann: Client, bank: Bank, world: World) -> None:
    await paid(ann, bank, world, {"tea-250": 2, "kikoi-red": 1})
    await place(ann, {"coffee-500": 1})
    await world.work()
    await add_up_sales()
    async with at_desk(world, OWNER) as owner:
        page = await owner.open(HOME)
    assert "Ksh1,740" in page
    assert page.count("<svg class=") >= 2
    for drawing in re.findall(r'<svg class="bars.*?</svg>', page, re.DOTALL):
        assert drawing.count('class="slot"') == 30
        assert "Net sales: Ksh1,740.00\nOrders: 1\nBefore: Ksh0.00" in drawing
        assert re.findall(r'text-anchor="end">([^<]+)<', drawing) == ["KES", "0", "500", "1K", "1.5K", "2K"]
    assert re.findall(r"(?:style=|<style|onclick|javascript:)", page) == []
    table = re.search(r"<tfoot>.*?</tfoot>", page, re.DOTALL)
    assert table
    assert "Ksh1,740.00" in table[0]
    rows = re.findall(r'<tr><td>([^<]+)<svg class="rail".*?<td class="number">([\d,]+)', page)
    assert ("Ordered", "2") in rows
    assert ("Paid", "1") in rows
    assert any(count == "2" for name, count in rows if name not in dashboard.STAGES.values())


CHOICES = [
    ("", "30 days", 30),
    ("?span=7-days", "7 days", 7),
    ("?span=13-weeks", "13 weeks", 13),
    ("?span=12-months", "12 months", 12),
    ("?span=nonsense&currency=XXX&step=hour", "30 days", 30),
    ("?since=2026-01-01&until=2026-01-10&step=day&currency=KES", "", 10),
    ("?since=2026-01-10&until=2026-01-01&step=week", "", 2),
    ("?since=<script>&until=2026-01-01", "30 days", 30),
]


async def test_one_chooses_the_days_and_nonsense_is_a_month(world: World, bank: Bank) -> None:
    async with at_desk(world, OWNER) as owner:
        for query, preset, bars in CHOICES:
            page = await owner.open(f"{HOME}{query}")
            assert re.findall(r'aria-current="true">([^<]+)<', page) == ([preset] if preset else []), query
            rows = re.search(r"<tbody>(.*?)</tbody>\s*<tfoot>", page, re.DOTALL)
            assert rows, query
            assert rows[1].count("<tr>") == bars, query
            assert "<script>" not in main_of_whole(page), query


def test_the_funnel_says_how_many_of_each_stage_came_to_the_next() -> None:
    found = dashboard.stages(Funnel(carts=200, ordered=100, paid=50, sent=40, delivered=0))
    assert [(each.count, each.share, each.of_last) for each in found] == [
        (200, 100.0, None),
        (100, 50.0, 50),
        (50, 25.0, 50),
        (40, 20.0, 80),
        (0, 0.0, 0),
    ]
    nothing = dashboard.stages(Funnel(carts=0, ordered=0, paid=0, sent=0, delivered=0))
    assert [(each.share, each.of_last) for each in nothing] == [(0.0, None)] * 5


# ---- what waits


async def test_what_waits_is_named_the_longest_waiting_first(
    ann: Client, bob: Client, bank: Bank, world: World
) -> None:
    first = await orders.get(await paid(ann, bank, world, {"tea-250": 1}))
    second = await orders.get(await paid(bob, bank, world, {"tea-250": 3}))
    late = await place(ann, {"kikoi-blue": 1})
    await end_hold(late["id"])
    await sell_out("kikoi-blue")
    await pay(bank, late["id"])
    await world.work()
    short: Order = await orders.get(late["id"])
    assert short.state == "short"
    async with at_desk(world, SUPPORT) as support:
        page = await support.open(HOME)
        sending = page.partition("<h2>Orders to send")[2]
        assert sending.index(first.number) < sending.index(second.number)
        assert short.number not in sending
        assert f'<a href="/shop/admin/orders/{short.id}">{short.number}</a>' in page
        assert 'class="urgent"><strong>1</strong> Paid, but the goods are gone' in page
    async with at_desk(world, WAREHOUSE) as warehouse:
        page = await warehouse.open(HOME)
        assert first.number in page
        assert short.number not in page


# ---- stock


async def test_stock_is_searched_counted_and_watched(world: World, bank: Bank) -> None:
    async with at_desk(world, WAREHOUSE) as staff:
        assert "STOVE-1" in await staff.open(f"{STOCK}?q=stove")
        assert "TEA-250" not in staff.text
        assert "KIKOI-RED" in await staff.open(f"{STOCK}?q=kikoi-red&place=nairobi")
        assert "There is no such stock." in await staff.open(f"{STOCK}?q=nonsense")
        assert "Nothing runs low." in await staff.open(f"{STOCK}?low=true")
        await staff.open(f"{STOCK}/stove-1")
        assert await staff.send(f"{STOCK}/stove-1/threshold", low_at="5") == f"{STOCK}/stove-1?done=saved"
        await staff.open(f"{STOCK}/stove-1")
        led = await staff.send(f"{STOCK}/stove-1/counts", counted="4", reason="by hand")
        assert "It is noted." in await staff.open(led)
        assert (await stocks.get("stove-1.nairobi")).on_hand == 4
        await world.work()
        assert "by hand" in await staff.open(f"{STOCK}/stove-1")
        row = await movements.find({"stock_id": "stove-1.nairobi", "kind": "counted"})
        assert row
        assert (row.on_hand, row.by) == (1, "warehouse")
        assert "STOVE-1" in await staff.open(f"{STOCK}?low=true")
        assert "STOVE-1" in (await staff.open(HOME)).partition("Low stock</h2>")[2]


async def test_what_cannot_be_counted_is_said_on_the_page(ann: Client, world: World, bank: Bank) -> None:
    order = await orders.get(await paid(ann, bank, world, {"stove-1": 2}))
    async with at_desk(world, WAREHOUSE) as staff:
        page = await staff.open(f"{STOCK}/stove-1")
        assert f'<a href="/shop/admin/orders/{order.id}">{order.number}</a>' in page
        page = await staff.send(f"{STOCK}/stove-1/counts", 409, counted="1")
        assert "2 of it belong to orders that are paid" in page
        page = await staff.send(f"{STOCK}/stove-1/counts", 422, counted="-1")
        assert "<strong>How many lie there</strong>: This will not do" in page
    assert (await stocks.get("stove-1.nairobi")).on_hand == 3


async def test_goods_arrive_and_are_moved_once_however_often_the_form_is_sent(world: World, bank: Bank) -> None:
    path = f"{STOCK}/stove-1"
    async with at_desk(world, WAREHOUSE) as staff:
        await staff.open(path)
        led = await staff.send(f"{path}/receipts", having='value="nairobi"', quantity="7", reason="note 1042")
        assert "It is there." in await staff.open(led)
        page = await staff.post(f"{path}/receipts", {**csrf_in(staff), **SEEN, "quantity": "7"}, 409)
        assert "It changed while you were at it" in page
        assert (await stocks.get("stove-1.nairobi")).on_hand == 10
        await staff.open(path)
        led = await staff.send(f"{path}/moves", having='value="nairobi"', to="mombasa", quantity="4")
        assert "It is moved." in await staff.open(led)
        again = {**csrf_in(staff), **SEEN, "seen": "10", "to": "mombasa", "quantity": "4"}
        page = await staff.post(f"{path}/moves", again, 409)
        assert "It changed while you were at it" in page
        held = [(await stocks.get(f"stove-1.{place}")).on_hand for place in ("nairobi", "mombasa")]
        assert held == [6, 4]
        await world.work()
        assert "note 1042" in await staff.open(path)
        kept = [(each.kind, each.on_hand, each.by) for each in await movements.many({"variant_id": "stove-1"})]
        moved = [("moved", -4, "warehouse"), ("moved", 4, "warehouse"), ("received", 7, "warehouse")]
        assert sorted(each for each in kept if each[2]) == moved


async def test_of_two_forms_that_are_sent_at_once_one_counts(world: World, bank: Bank) -> None:
    path = f"{STOCK}/radio-1"
    async with at_desk(world, WAREHOUSE) as staff:
        page = await staff.open(path)
        assert "It arrived at a place where it never was" in page
        form = {**csrf_in(staff), "location": "mombasa", "seen": "0", "quantity": "5"}
        own = {"origin": "http://msingi.test", "sec-fetch-site": "same-origin"}
        sent = [staff.http.post(f"{path}/receipts", data=form, headers=own) for _ in range(5)]
        assert sorted(each.status_code for each in await asyncio.gather(*sent)) == [303, 409, 409, 409, 409]
    assert (await stocks.get("radio-1.mombasa")).on_hand == 5


async def test_what_cannot_be_moved_is_said_on_the_page(ann: Client, world: World, bank: Bank) -> None:
    await paid(ann, bank, world, {"stove-1": 2})
    path = f"{STOCK}/stove-1"
    async with at_desk(world, WAREHOUSE) as staff:
        await staff.open(path)
        page = await staff.send(f"{path}/moves", 409, having='value="nairobi"', to="mombasa", quantity="2")
        assert "2 of it belong to orders that are paid" in page
        page = await staff.send(f"{path}/moves", 422, having='value="nairobi"', to="nairobi", quantity="1")
        assert "It lies there already" in page
        await staff.open(path)
        assert "<strong>Quantity</strong>" in await staff.send(
            f"{path}/receipts", 422, having='value="nairobi"', quantity="0"
        )
        await staff.open(path)
        await staff.send(f"{path}/moves", 404, having='value="nairobi"', to="nowhere", quantity="1")
    assert (await stocks.get("stove-1.nairobi")).on_hand == 3


SEEN = {"location": "nairobi", "seen": "3"}


def csrf_in(desk: Desk) -> dict[str, str]:
    found = re.search(r'name="_csrf" value="([^"]+)"', desk.text)
    assert found
    return {"_csrf": found[1]}


async def test_z1_who_only_reads_stock_is_offered_no_form_and_can_send_none(world: World, bank: Bank) -> None:
    async with at_desk(world, SUPPORT) as support:
        assert "<form" not in main_of_whole(await support.open(f"{STOCK}/tea-250"))
        await support.post(f"{STOCK}/tea-250/counts", {"location": "nairobi", "counted": "1"}, 403)
        for act in ("receipts", "moves"):
            sent = {"location": "nairobi", "seen": "100", "quantity": "1", "to": "mombasa"}
            await support.post(f"{STOCK}/tea-250/{act}", sent, 403)


def main_of_whole(page: str) -> str:
    return page.partition("<main")[2]


# ---- tables


async def upload(desk: Desk, body: bytes, expect: int = 303) -> str:
    """Bring a table as the form does it."""
    token = re.search(r'name="_csrf" value="([^"]+)"', desk.text.partition("multipart/form-data")[2])
    assert token
    own = {"origin": "http://msingi.test", "sec-fetch-site": "same-origin"}
    reply = await desk.http.post(
        IMPORT, data={"_csrf": token[1]}, files={"file": ("goods.csv", body, "text/csv")}, headers=own
    )
    assert reply.status_code == expect, reply.text
    desk.text = unescape(reply.text)
    return str(reply.headers.get("location", desk.text))


async def test_a_table_is_looked_at_first_and_done_when_somebody_says_so(world: World, bank: Bank) -> None:
    async with at_desk(world, MANAGER) as manager:
        await manager.open(IMPORT)
        look = await upload(manager, f"{CSV}mug,Mug,MUG-1,450.00\n".encode())
        assert 'hx-trigger="every 1s"' in await manager.open(look)
        await world.work()
        page = await manager.open(look)
        assert "Do it: 1 new, 0 changed" in page
        assert not await goods.exists({"slug": "mug"})
        done = await manager.send(look)
        await world.work()
        assert "It is done." in await manager.open(done)
        mug = await goods.find({"slug": "mug"})
        assert mug
        assert mug.variants[0].prices == {"KES": 45_000}
        await manager.open(look)
        again = await manager.send(look)
        await world.work()
        await manager.open(again)
        assert (await sheets.get(again.rpartition("/")[2])).result == {
            **{"dry_run": False, "rows": 1, "created": 0, "updated": 0, "unchanged": 1, "errors": []}
        }
        assert "a look only" in await manager.open(IMPORT)


async def test_what_is_wrong_is_named_by_row_and_nothing_can_be_done_with_it(world: World, bank: Bank) -> None:
    async with at_desk(world, MANAGER) as manager:
        await manager.open(IMPORT)
        look = await upload(manager, f"{CSV}a mug,,MUG-1,abc\npot,Pot,TEA-250,12\n".encode())
        await world.work()
        page = await manager.open(look)
        cells = re.findall(r'<tr><td class="number">(\d+)</td><td>([^<]*)</td><td>([^<]*)</td></tr>', page)
        assert ("2", "slug", "This will not do") in cells
        assert ("2", "price KES", "An amount such as 1299.50") in cells
        assert ("3", "sku", "The product tea has it") in cells
        assert f'action="{look}"' not in page
        swahili = await manager.open(f"{look}?lang=sw")
        assert "Bidhaa tea inayo" in swahili
        unreadable = await upload_anew(manager, b"PK not a table")
        await world.work()
        assert "This table cannot be read." in await manager.open(unreadable)
        await manager.open(IMPORT)
        assert "There is no file in the request" in await upload(manager, b"", 422)


async def upload_anew(desk: Desk, body: bytes) -> str:
    await desk.open(IMPORT)
    return await upload(desk, body)


async def test_z1_the_import_of_an_export_is_not_there(world: World, bank: Bank) -> None:
    async with at_desk(world, OWNER) as owner:
        await owner.open(EXPORTS)
        await owner.send(EXPORTS, kind="stock", format="csv")
        (asked,) = await sheets.many({})
        await owner.open(f"{IMPORT}/{asked.id}", 404)


async def test_a_table_is_asked_for_followed_and_fetched(ann: Client, world: World, bank: Bank) -> None:
    await paid(ann, bank, world, {"tea-250": 2})
    async with at_desk(world, OWNER) as owner:
        await owner.open(EXPORTS)
        led = await owner.send(EXPORTS, kind="orders", format="csv")
        page = await owner.open(led)
        assert "It is being written." in page
        assert 'hx-trigger="every 2s"' in page
        await world.work()
        page = await owner.open(EXPORTS)
        assert "hx-trigger" not in page
        link = re.search(r'href="(/v1/shop/sheets/\w+/file)"', page)
        assert link
        reply = await owner.http.get(link[1])
        assert reply.headers["content-type"].startswith(tables.CSV)
        assert len(reply.text.splitlines()) == 2
        page = await owner.send(EXPORTS, 422, kind="stock", format="json")
        assert '<option value="stock" selected>' in page


async def test_z1_a_table_that_one_may_not_see_is_neither_offered_nor_written(
    world: World, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(actors._grants, "reader", frozenset({"shop:read", "shop:reports"}))
    reader = Actor(id="reader", roles=frozenset({"user", "reader"}), methods=frozenset({"pwd"}))
    async with at_desk(world, reader) as desk:
        page = await desk.open(EXPORTS)
        assert re.findall(r'<option value="(\w+)"', page) == ["sales", "stock", "movements", "csv", "xlsx", "json"]
        await desk.send(EXPORTS, 403, kind="orders", format="csv")
        await desk.open(EXPORTS)
        await desk.send(EXPORTS, 403, kind="import", format="csv")
    assert not await sheets.exists({})
