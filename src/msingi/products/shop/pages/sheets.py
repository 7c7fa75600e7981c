"""Tables in and out: goods brought up to date, after a look at what a table would do; and tables to take away."""

import re
from datetime import date
from typing import Annotated, Any, get_args

from litestar import Response
from litestar.datastructures import UploadFile
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct, convert

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.errors import NotFound, Problem, allow
from msingi.kit.files import FileMissing
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.products.shop.actions import reports as acting
from msingi.products.shop.models.reports import Format, Sheet, SheetKind
from msingi.products.shop.pages.shell import HOME, AnyRequest, Nothing, plain, show
from msingi.products.shop.queries import board
from msingi.products.shop.queries import reports as queries
from msingi.products.shop.rules.reports import NEEDS
from msingi.products.shop.schemas.catalogue import ImportView

IMPORT, EXPORTS = f"{HOME}/import", f"{HOME}/exports"
BRING, TAKE = "shop:catalogue", "shop:reports"
KINDS: dict[SheetKind, str] = {
    "products": "Goods",
    "orders": "Orders",
    "sales": "Sales, day by day",
    "stock": "Stock",
    "movements": "Movements of stock",
    "import": "Goods that were brought",
}
STATES = {"queued": "waits for its turn", "running": "under way", "done": "done", "failed": "failed"}
ERRORS = {
    "bad_sheet": "This table cannot be read.",
    "gave_up": "It was tried several times, and given up.",
    "too_many_rows": "There are more rows than a spreadsheet holds. Take CSV, or fewer days.",
}
ANOTHERS = re.compile(r"The product (\S+) has it")
Day = Annotated[str, Meta(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]


class Wanted(Struct):
    """The form that asks for a table."""

    kind: SheetKind
    format: Format
    since: Day = ""
    until: Day = ""


# ---- in


@page_at(IMPORT, permission=BRING)
async def show_imports(request: AnyRequest) -> Response[str]:
    """Where one brings a table."""
    return await _imports(request)


@form_at(IMPORT, permission=BRING, max_body=acting.LARGEST)
async def look_at_table(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Have a look at what a table would do. Nothing of it is done."""
    try:
        await pages.form_of(request, Nothing)
        body = await _uploaded(request)
        format: Format = "xlsx" if body.startswith(b"PK") else "csv"
        sheet = await acting.ask_import(format, body, actor.id, dry_run=True)
    except Problem as problem:
        return await _imports(request, pages.to_show(problem))
    return Redirect(f"{IMPORT}/{sheet.id}", status_code=303)


@page_at(IMPORT + "/{sheet_id:str}", permission=BRING)
async def show_import(request: AnyRequest, sheet_id: Path[str]) -> Response[str]:
    """What a table would do, or did, row by row where something is wrong."""
    return await _import(request, sheet_id)


@form_at(IMPORT + "/{sheet_id:str}", permission=BRING)
async def import_for_good(request: AnyRequest, sheet_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """Do it. The same table once more changes nothing."""
    try:
        await pages.form_of(request, Nothing)
        sheet = await acting.import_for_good(sheet_id, actor.id)
    except Problem as problem:
        return await _import(request, sheet_id, pages.to_show(problem))
    return Redirect(f"{IMPORT}/{sheet.id}", status_code=303)


async def _uploaded(request: AnyRequest) -> bytes:
    """The file of the form. Raises FileMissing."""
    file = (await request.form()).get("file")
    body = await file.read() if isinstance(file, UploadFile) else b""
    if not body:
        raise FileMissing
    return body


async def _imports(request: AnyRequest, problem: Problem | None = None) -> Response[str]:
    past = [each for each in (await queries.sheets(Paging(limit=50))).items if each.kind == "import"]
    return show("imports", request, problem, past=past, states=STATES, who=await _who(past))


async def _import(request: AnyRequest, sheet_id: str, problem: Problem | None = None) -> Response[str]:
    sheet = await queries.sheet(sheet_id)
    if sheet.kind != "import":
        raise NotFound
    told = convert(sheet.result, ImportView) if sheet.result else None
    language = pages.language_of(request)
    return show(
        "import",
        request,
        problem,
        sheet=sheet,
        told=told,
        states=STATES,
        errors=ERRORS,
        fault_of=lambda message: fault_of(message, language),
    )


def fault_of(message: str, language: str) -> str:
    """What is wrong with a cell, as a person says it."""
    found = ANOTHERS.fullmatch(message)
    if found is None:
        return plain(message, language)
    return pages.translate("The product {slug} has it", language, "shop").format(slug=found[1])


# ---- out


@page_at(EXPORTS, permission=TAKE)
async def show_exports(request: AnyRequest, actor: Given[Actor], page: Given[Paging]) -> Response[str]:
    """The tables that were asked for, and how far they are."""
    return await _exports(request, actor, page)


@form_at(EXPORTS, permission=TAKE)
async def ask_for_table(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Have one written."""
    try:
        form = await pages.form_of(request, Wanted)
        allow(actor.may(NEEDS[form.kind]))
        await acting.ask_export(form.kind, form.format, actor.id, since=_day(form.since), until=_day(form.until))
    except Problem as problem:
        return await _exports(request, actor, Paging(), pages.to_show(problem))
    return pages.gone_well(EXPORTS, "export_asked")


async def _exports(request: AnyRequest, actor: Actor, page: Paging, problem: Problem | None = None) -> Response[str]:
    found = await queries.sheets(page)
    return show(
        "exports",
        request,
        problem,
        found=found,
        is_waiting=any(each.state in ("queued", "running") for each in found.items),
        kinds={kind: title for kind, title in KINDS.items() if kind != "import" and actor.may(NEEDS[kind])},
        titles=KINDS,
        formats=get_args(Format),
        typed=dict(await request.form()) if problem else {},
        states=STATES,
        errors=ERRORS,
        may_fetch=lambda sheet: sheet.file is not None and actor.may(NEEDS[sheet.kind]),
        who=await _who(found.items),
    )


def _day(text: str) -> date | None:
    """A day of the form; one that no calendar has is as none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


async def _who(found: list[Sheet]) -> dict[str, str]:
    return await board.names_of(each.by for each in found)


routes: list[ControllerRouterHandler] = [
    show_imports,
    look_at_table,
    show_import,
    import_for_good,
    show_exports,
    ask_for_table,
]
