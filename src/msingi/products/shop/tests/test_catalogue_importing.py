"""Goods from tables and into them: a dry run that writes nothing, faults by row, and no cell that runs."""

import csv
import io
import json
import zipfile
from typing import Any

import openpyxl
import pytest
import xlsxwriter

from msingi.kit.product import Product
from msingi.kit.testing import Client
from msingi.products.shop import sheets
from msingi.products.shop.models.catalogue import products as goods
from msingi.products.shop.tests.catalogue_world import catalogue_alone

HEAD = (
    "slug,title_en,title_sw,category,brand,tags,attributes,availability,sku,options,price KES,price USD,weight,tracked"
)
CRISPS = """
crisps,Cassava crisps,Krisps za muhogo,home,Kilifi Mills,snack;coast,gluten=free,published,C-1,size=100 g,120,,100,yes
crisps,,,,,,,,C-2,size=250 g,"1,270.50",2.5,250,
"""


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [catalogue_alone]


async def send(client: Client, table: str | bytes, kind: str = "text/csv", query: str = "", **more: Any) -> Any:
    body = table.encode() if isinstance(table, str) else table
    path = f"/catalogue/imports{query}"
    return await client.post(path, content=body, headers={"content-type": kind}, **more)


def as_xlsx(table: str, *formulas: tuple[int, int, str]) -> bytes:
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    sheet = book.add_worksheet()
    for row, cells in enumerate(csv.reader(io.StringIO(table))):
        for column, text in enumerate(cells):
            if text.replace(".", "").isdigit():
                sheet.write_number(row, column, float(text))
            else:
                sheet.write_string(row, column, text)
    for row, column, formula in formulas:
        sheet.write_formula(row, column, formula)
    book.close()
    return out.getvalue()


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
async def test_a_table_makes_products_and_a_dry_run_makes_none(admin: Client, nobody: Client, kind: str) -> None:
    table: Any = HEAD + CRISPS
    body, media = (table, sheets.CSV) if kind == "csv" else (as_xlsx(table), sheets.XLSX)
    told = await send(admin, body, media, "?dry_run=true")
    assert told == {
        "dry_run": True, "rows": 2, "created": 1, "updated": 0, "unchanged": 0, "errors": [],
    }  # fmt: skip
    assert not await goods.exists({"slug": "crisps"})
    assert (await send(admin, body, media))["created"] == 1
    made = await nobody.get("/products/by-slug/crisps")
    assert (made["title"]["sw"], made["category_id"], made["attributes"]) == (
        "Krisps za muhogo",
        "home",
        {"gluten": "free"},
    )
    assert made["options"] == [{"name": "size", "values": ["100 g", "250 g"]}]
    assert [each["price"]["amount"] for each in made["variants"]] == [12000, 127050]
    assert (await nobody.get("/products/by-slug/crisps?currency=USD"))["price"]["amount"] == 250
    again = await send(admin, body, media)
    assert (again["created"], again["updated"], again["unchanged"], again["errors"]) == (0, 0, 1, [])
    assert (await nobody.get("/products/by-slug/crisps"))["version"] == 1


async def test_what_a_table_does_not_speak_of_stays(admin: Client) -> None:
    before = await admin.get("/catalogue/products/tea")
    told = await send(admin, "slug,sku,price KES\ntea,TEA-250,125\n")
    assert (told["updated"], told["errors"]) == (1, [])
    after = await admin.get("/catalogue/products/tea")
    assert after["variants"][0]["prices"] == {"KES": 12500, "USD": 120}
    assert {name for name in after if after[name] != before[name]} == {"variants", "version", "updated_at"}


async def test_an_empty_price_is_none(admin: Client) -> None:
    await send(admin, "slug,sku,price USD\ntea,TEA-250,\n")
    assert (await goods.get("tea")).variants[0].prices == {"KES": 12000}


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        (",Nameless,,,,,,,N-1,,1,,,", [(2, "slug")]),
        ("Bad Slug,Name,,,,,,,N-1,,1,,,", [(2, "slug")]),
        ("new,,,,,,,,N-1,,1,,,", [(2, "title_en")]),
        ("new,Name,,nowhere,,,,,N-1,,1,,,", [(2, "category")]),
        ("new,Name,,,,,red,,N-1,,1,,,", [(2, "attributes")]),
        ("new,Name,,,,,,on sale,N-1,,1,,,", [(2, "availability")]),
        ("new,Name,,,,,,published,N-1,,,,,", [(2, "")]),
        ("new,Name,,,,,,,TEA-250,,1,,,", [(2, "sku")]),
        ("new,Name,,,,,,,N-1,,1.999,,,", [(2, "price KES")]),
        ("new,Name,,,,,,,N-1,,-1,,,", [(2, "price KES")]),
        ("new,Name,,,,,,,N-1,,1e3,,,", [(2, "price KES")]),
        ("new,Name,,,,,,,N-1,,1,free,,", [(2, "price USD")]),
        ("new,Name,,,,,,,N-1,,1,,heavy,", [(2, "weight")]),
        ("new,Name,,,,,,,N-1,,1,,1,maybe", [(2, "tracked")]),
        ("new,Name,,,,,,,,,1,,1,", [(2, "sku")]),
        ("new,Name,,,,,,,no sku!,,1,,1,", [(2, "sku")]),
        ("new,Name,,,,,,,N-1,,1,,,\nnew,Other,,,,,,,N-2,,1,,,", [(3, "title_en")]),
        ("new,Name,,,,,,,N-1,,1,,,\nnew,,,,,,,,N-1,,1,,,", [(3, "sku")]),
        ("new,Name,,,,,,,N-1,size=S,1,,,\nnew,,,,,,,,N-2,size=S,1,,,", [(2, "")]),
        ("a,Name,,,,,,,N-1,,x,,,\nb,,,,,,,,N-2,,1,,y,", [(2, "price KES"), (3, "title_en"), (3, "weight")]),
    ],
)
async def test_each_fault_is_named_by_its_row_and_nothing_is_written(
    admin: Client, rows: str, faults: list[tuple[int, str]]
) -> None:
    good = "fine,A fine thing,,,,,,,F-1,,5,,,"
    told = await send(admin, f"{HEAD}\n{rows}\n{good}\n")
    assert [(each["row"], each["column"]) for each in told["errors"]] == faults
    assert (told["created"], told["updated"]) == (0, 0)
    assert not await goods.exists({"slug": "fine"})


@pytest.mark.parametrize(
    ("table", "kind", "status", "code"),
    [
        ("", "text/csv", 422, "bad_sheet"),
        ("slug,colour\na,b\n", "text/csv", 422, "bad_sheet"),
        ("title_en\nName\n", "text/csv", 422, "bad_sheet"),
        ("slug,slug\na,b\n", "text/csv", 422, "bad_sheet"),
        ("slug\na,b\n", "text/csv", 422, "bad_sheet"),
        ('slug\n"open\n', "text/csv", 422, "bad_sheet"),
        (b"slug\n\xff\xfe\n", "text/csv", 422, "bad_sheet"),
        ("slug\n" + "a\n" * 5001, "text/csv", 422, "bad_sheet"),
        ("slug\n" + "a" * 40_000 + "\n", "text/csv", 422, "bad_sheet"),
        ("slug\n", "application/json", 415, "unsupported_media"),
        ("slug\n", "", 415, "unsupported_media"),
        (b"no archive", sheets.XLSX, 422, "bad_sheet"),
        (b"PK\x03\x04" + b"\0" * 100, sheets.XLSX, 422, "bad_sheet"),
        (b"x" * 5_000_001, "text/csv", 413, "too_large"),
    ],
)
async def test_a_table_that_cannot_be_read_is_refused(
    admin: Client, table: str | bytes, kind: str, status: int, code: str
) -> None:
    assert (await send(admin, table, kind, expect=status))["code"] == code


def repacked(change: dict[str, bytes]) -> bytes:
    """A proper XLSX in which some parts are others."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(as_xlsx("slug\ntea\n"))) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for part in old.namelist():
            new.writestr(part, change.get(part, old.read(part)))
        for name in change.keys() - set(old.namelist()):
            new.writestr(name, change[name])
    return out.getvalue()


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>&b;</t></si></sst>'
)


@pytest.mark.parametrize(
    "body",
    [
        repacked({"xl/media/zeros.bin": b"\0" * 60_000_000}),
        repacked({f"xl/{number}": b"" for number in range(300)}),
        repacked({"xl/sharedStrings.xml": BOMB}),
        repacked({"xl/sharedStrings.xml": BOMB.decode().replace("1.0", '1.0" encoding="utf-16').encode("utf-16")}),
        repacked({"xl/worksheets/sheet1.xml": b"<worksheet"}),
        repacked({"xl/workbook.xml": b"<x/>"}),
        repacked({"[Content_Types].xml": b"<Types/>"}),
        repacked({"slug": b""})[:-40],
    ],
    ids=["zeros", "parts", "entities", "entities in UTF-16", "cut", "no workbook", "no types", "half"],
)
async def test_a_hostile_archive_is_refused(admin: Client, body: bytes) -> None:
    assert len(body) < sheets.LARGEST
    assert (await send(admin, body, sheets.XLSX, expect=422))["code"] == "bad_sheet"


async def test_a_formula_is_no_value(admin: Client) -> None:
    body = as_xlsx("slug,sku,price KES\ntea,TEA-250,1\n", (1, 2, "=1+1"))
    told = await send(admin, body, sheets.XLSX)
    assert told["errors"] == [{"row": 2, "column": "price KES", "message": "A formula is no value"}]
    assert (await goods.get("tea")).variants[0].prices["KES"] == 12000


NASTY = '=HYPERLINK("http://evil.example","x")'


async def test_an_export_runs_in_no_spreadsheet_and_comes_back_as_it_was(admin: Client) -> None:
    await admin.patch("/products/tea", title={"en": NASTY, "sw": "+254"}, description={"en": '@x\nline, "two"'})
    before = await admin.get("/catalogue/products/tea")
    table = (await admin.get("/catalogue/export?format=csv")).decode()
    assert admin.last.headers["content-disposition"] == 'attachment; filename="goods.csv"'
    rows = list(csv.DictReader(io.StringIO(table)))
    assert all(not cell.startswith(sheets.RUNS) for row in rows for cell in row.values())
    assert len(rows) == 8
    book = await admin.get("/catalogue/export?format=xlsx")
    sheet = openpyxl.load_workbook(io.BytesIO(book)).active
    assert all(cell.data_type in ("s", "n") for row in sheet.iter_rows() for cell in row)
    for body, kind in ((table, sheets.CSV), (book, sheets.XLSX)):
        told = await send(admin, body, kind)
        assert (told["unchanged"], told["updated"], told["created"], told["errors"]) == (7, 0, 0, [])
    await admin.patch("/products/tea", title={"en": "Other"}, description={})
    assert (await send(admin, table))["updated"] == 1
    after = await admin.get("/catalogue/products/tea")
    assert (after["title"], after["description"]) == (before["title"], before["description"])


async def test_json_has_all_of_it(admin: Client) -> None:
    raw = await admin.get("/catalogue/export?format=json")
    found = raw if isinstance(raw, dict) else json.loads(raw)
    assert {each["id"] for each in found["products"]} == {
        *("tea", "coffee", "kikoi", "stove", "radio", "repair", "secret")
    }
    assert (await admin.get("/catalogue/export?format=pdf", expect=422))["code"] == "bad_sheet_format"


async def test_an_import_of_many_writes_them_all(admin: Client, nobody: Client) -> None:
    rows = "\n".join(f"g-{n},Thing {n},,home,,,,published,G-{n},,{n + 1},,," for n in range(120))
    told = await send(admin, f"{HEAD}\n{rows}\n")
    assert (told["created"], told["errors"]) == (120, [])
    assert (await nobody.get("/products/facets?category=home"))["counted"] == 123


async def test_what_changes_meanwhile_is_named_and_the_rest_is_written(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msingi.products.shop.actions import importing

    real = importing._written

    async def written(plans: Any, told: Any) -> Any:
        await admin.patch("/products/tea", brand="Somebody else's")
        return await real(plans, told)

    monkeypatch.setattr(importing, "_written", written)
    told = await send(admin, "slug,brand\ntea,Ours\ncoffee,Ours\n")
    assert (told["updated"], [each["row"] for each in told["errors"]]) == (1, [2])
    assert ((await goods.get("tea")).brand, (await goods.get("coffee")).brand) == ("Somebody else's", "Ours")
