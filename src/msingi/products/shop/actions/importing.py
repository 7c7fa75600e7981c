"""Goods from a table: looked at whole before anything is written."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from msingi.kit.errors import AlreadyExists, Problem, Stale
from msingi.kit.reading import field_errors
from msingi.kit.unit import atomic
from msingi.products.shop import sheets
from msingi.products.shop.actions import catalogue as goods
from msingi.products.shop.models.catalogue import Product, products
from msingi.products.shop.queries import catalogue as queries
from msingi.products.shop.rules import catalogue as rules
from msingi.products.shop.rules import catalogue_rows as rows
from msingi.products.shop.rules.catalogue_rows import Fault, Given, GivenVariant
from msingi.products.shop.schemas.catalogue import ImportView, NewProduct, RowFault

TOGETHER = 50  # products that are read, and written, at once
MOST_IN_BACKGROUND = 50_000  # rows of a table that a job reads
MOST_FAULTS = 200  # that are told
Progress = Callable[[int, int], Awaitable[None]]
AVAILABILITIES: tuple[str, ...] = ("draft", "published", "archived")


class Plan(Struct):
    """What becomes of a product: `before` is None for a new one."""

    given: Given
    before: Product | None
    after: Product

    @property
    def changes(self) -> bool:
        return self.before is None or self.after != self.before


async def import_goods(kind: str, body: bytes, *, dry_run: bool) -> ImportView:
    """Bring products and variants up to date with a table; what it does not speak of stays as it is.

    Products are known by their slug, variants by their SKU. If a row is wrong, nothing is written. What somebody else
    changes between the look and the writing is named too; the rest is written then. Raises BadSheet, UnsupportedMedia.
    """
    given, faults, told = await _read(kind, body, sheets.MOST_ROWS, dry_run)
    plans, more = await _planned(given, await _places())
    faults += more
    for plan in plans if dry_run and not faults else ():
        _count(told, plan)
    if not dry_run and not faults:
        faults = await _written(plans, told)
    return _with_faults(told, faults)


async def import_many(kind: str, body: bytes, *, dry_run: bool, progress: Progress) -> ImportView:
    """The same for a large table, in the background: `progress` hears how many products are done, of how many.

    All products are looked at first, and then again as they are written, some at a time, so that they need not all be
    held. Begun anew after a crash, it finds what was written before unchanged. Raises BadSheet, UnsupportedMedia.
    """
    given, faults, told = await _read(kind, body, MOST_IN_BACKGROUND, dry_run)
    places, done, all_of = await _places(), 0, len(given) * (1 if dry_run else 2)
    for some in _batches(given):
        plans, more = await _planned(some, places)
        faults += more
        for plan in plans if dry_run else ():
            _count(told, plan)
        done += len(some)
        await progress(done, all_of)
    for some in _batches(given) if not (dry_run or faults) else ():
        plans, more = await _planned(some, places)
        faults_now = [*more, *await _written(plans, told)]
        told.errors += _row_faults(faults_now)[: MOST_FAULTS - len(told.errors)]
        done += len(some)
        await progress(done, all_of)
    if faults:
        told.created = told.updated = told.unchanged = 0
        return _with_faults(told, faults)
    return told


async def _read(kind: str, body: bytes, most: int, dry_run: bool) -> tuple[list[Given], list[Fault], ImportView]:
    """What a table says, and what is wrong with that already."""
    lines = await asyncio.to_thread(sheets.read, kind, body, most)
    unknown = rows.unknown_columns(lines[0].cells if lines else ())
    if unknown or (lines and "slug" not in lines[0].cells):
        raise sheets.BadSheet(reason=f"no goods have a column {unknown[0]}" if unknown else "it has no column slug")
    given, faults = rows.grouped((line.row, line.cells) for line in lines)
    faults += [Fault(line.row, name, "A formula is no value") for line in lines for name in line.formulas]
    return (
        given,
        faults,
        ImportView(dry_run=dry_run, rows=len(lines), created=0, updated=0, unchanged=0, errors=[]),
    )


def _with_faults(told: ImportView, faults: Iterable[Fault]) -> ImportView:
    told.errors = _row_faults(faults)[:MOST_FAULTS]
    return told


def _row_faults(faults: Iterable[Fault]) -> list[RowFault]:
    ordered = sorted(set(faults), key=lambda each: (each.row, each.column))
    return [RowFault(row=each.row, column=each.column, message=each.message) for each in ordered]


def _count(told: ImportView, plan: Plan) -> None:
    if plan.before is None:
        told.created += 1
    elif plan.changes:
        told.updated += 1
    else:
        told.unchanged += 1


# ---- what it would become


async def _places() -> dict[str, str]:
    """The categories, by their ids and by their slugs."""
    return {name: each.id for each in (await queries.tree()).items for name in (each.id, each.slug)}


async def _planned(given: Sequence[Given], places: dict[str, str]) -> tuple[list[Plan], list[Fault]]:
    """What becomes of each product, and what is wrong with it."""
    plans: list[Plan] = []
    faults: list[Fault] = []
    for some in _batches(given):
        there = {each.slug: each for each in await products.many({"slug": {"$in": [each.slug for each in some]}})}
        faults += await _foreign_skus(some)
        for each in some:
            plan, more = _plan(each, there.get(each.slug), places)
            faults += more
            if plan is not None:
                plans.append(plan)
    return plans, faults


def _batches(given: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (given[at : at + TOGETHER] for at in range(0, len(given), TOGETHER))


async def _foreign_skus(given: Sequence[Given]) -> list[Fault]:
    """SKUs that another product has."""
    wanted = {variant.sku: (each.slug, variant.row) for each in given for variant in each.variants}
    found = await products.many({"variants.sku": {"$in": list(wanted)}}, limit=len(wanted) or 1)
    return [
        Fault(wanted[variant.sku][1], "sku", f"The product {product.slug} has it")
        for product in found
        for variant in product.variants
        if variant.sku in wanted and wanted[variant.sku][0] != product.slug
    ]


def _plan(given: Given, before: Product | None, places: dict[str, str]) -> tuple[Plan | None, list[Fault]]:
    values = dict(given.values)
    availability = values.pop("availability", before.availability if before else "draft")
    category = values.pop("category", None)
    faults = []
    if availability not in AVAILABILITIES:
        faults.append(Fault(given.row, "availability", f"Say {', '.join(AVAILABILITIES)}"))
    if category and category not in places:
        faults.append(Fault(given.row, "category", "There is no such category"))
    raw = _raw(given, before, values)
    faults += _faults_of(given, raw)
    if faults:
        return None, faults
    form = convert(raw, NewProduct)
    after = _product(form, before)
    after = replace(after, availability=availability)
    if category is not None:
        after = replace(after, category_id=places.get(category))
    try:
        derived = rules.derived(after)
        if availability == "published":
            rules.check_ready(derived)
    except Problem as problem:
        return None, [Fault(given.row, "", str(problem))]
    return Plan(given, before, after if before is None else derived), []


def _product(form: NewProduct, before: Product | None) -> Product:
    values = goods.as_stored(form.given())
    if before is None:
        return Product(**values)
    values.pop("category_id")
    return replace(before, **values)


def _raw(given: Given, before: Product | None, values: dict[str, Any]) -> dict[str, Any]:
    """The product as a form would say it: what is there, and over it what the rows say."""
    raw: dict[str, Any] = {"slug": given.slug}
    if before is not None:
        kept = ("title", "description", "brand", "tags", "attributes", "tax_class")
        raw |= {name: to_builtins(getattr(before, name)) for name in kept}
    for name, value in values.items():
        whole, _, language = name.rpartition("_")
        if language in ("en", "sw"):
            raw[whole] = {**raw.get(whole, {}), language: value}
        else:
            raw[name] = value
    raw.setdefault("title", {})
    raw["variants"] = _variants(given.variants, before)
    raw["options"] = _options(raw["variants"])
    return raw


def _variants(given: Sequence[GivenVariant], before: Product | None) -> list[dict[str, Any]]:
    """The variants there are with what the rows say of them, and the new ones."""
    there: dict[str, dict[str, Any]] = {each.sku: to_builtins(each) for each in (before.variants if before else ())}
    for each in given:
        raw = there.setdefault(each.sku, {"sku": each.sku})
        raw |= each.values
        for kind, name in (("price", "prices"), ("compare_at", "compare_at")):
            amounts = {**raw.get(name, {}), **each.prices[kind]}
            raw[name] = {currency: amount for currency, amount in amounts.items() if amount is not None}
    return list(there.values())


def _options(variants: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What variants differ in, as far as they say it."""
    found: dict[str, dict[str, None]] = {}
    for each in variants:
        for name, value in each.get("options", {}).items():
            found.setdefault(name, {})[value] = None
    return [{"name": name, "values": list(values)} for name, values in found.items()]


def _faults_of(given: Given, raw: dict[str, Any]) -> list[Fault]:
    """What the form says of it, under the row and the column that it comes from."""
    by_sku = {each.sku: each.row for each in given.variants}
    faults = []
    for fault in field_errors(NewProduct, raw):
        parts = fault["pointer"].strip("/").split("/")
        row, column = given.row, parts[0]
        if column in ("title", "description"):
            column = "_".join(parts[:2])
        elif column == "variants" and len(parts) > 2:
            row = by_sku.get(raw["variants"][int(parts[1])]["sku"], row)
            column = f"price {parts[3]}" if parts[2] == "prices" and len(parts) > 3 else parts[2]
        faults.append(Fault(row, column, fault["message"]))
    return faults


# ---- writing


async def _written(plans: Sequence[Plan], told: ImportView) -> list[Fault]:
    """Write what changes, some products in each transaction; what is refused then is tried, and named, by itself."""
    faults: list[Fault] = []
    for some in _batches(plans):
        outcome = await _try(some)
        if outcome is not None and len(some) > 1:
            for each in some:
                outcome = await _try([each])
                if outcome is not None:
                    faults.append(Fault(each.given.row, "", outcome))
                else:
                    _count(told, each)
            continue
        if outcome is not None:
            faults.append(Fault(some[0].given.row, "", outcome))
            continue
        for each in some:
            _count(told, each)
    return faults


async def _try(plans: Sequence[Plan]) -> str | None:
    """Write some products, or none of them; returns why not."""
    try:
        await _write(plans)
    except (AlreadyExists, Stale, rules.NoSuchCategory) as problem:
        return str(problem)
    return None


@atomic
async def _write(plans: Sequence[Plan]) -> Literal[True]:
    for plan in plans:
        if plan.before is None:
            await goods.insert(plan.after)
        elif plan.changes:
            await goods.save(plan.before, plan.after)
    return True
