"""Invoices and credit notes: for who sees the order, for who was sent a link, and for whoever doubts a paper.

What a link or a code carries follows from the house's own key, each for its purpose: the code on a paper opens no more
than that the paper is genuine; the link in a letter opens that one paper, for so long.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from hmac import compare_digest
from typing import Any

from msgspec import Struct

from msingi.kit import sealing, state
from msingi.kit.clock import now
from msingi.kit.db import Collection
from msingi.kit.drift import Drift
from msingi.kit.errors import NotFound
from msingi.products.shop.models.credit_notes import CreditNote, credit_notes
from msingi.products.shop.models.orders import Invoice, Order, Seller, invoices, orders
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries.orders import Seen, lines_shown, payments_of
from msingi.products.shop.rules import invoices as rules
from msingi.products.shop.rules import papers
from msingi.products.shop.rules.invoices import CREDIT
from msingi.products.shop.schemas.invoices import (
    CheckedView,
    CreditLineView,
    CreditNotes,
    CreditNoteView,
    CreditTaxView,
    InvoiceView,
    PaidWithView,
    SellerView,
    TaxLine,
)
from msingi.products.shop.schemas.orders import AddressView

LINK_LASTS = timedelta(days=30)  # of a paper, in a letter


# ---- what is kept


async def invoice_of(order_id: str) -> Invoice | None:
    return await invoices.find({"order_id": order_id})


async def last_place(kept: Collection[Invoice] | Collection[CreditNote], year: int) -> int:
    """How many papers of a series that year has."""
    last = await kept.find({"year": year}, sort=[("place", -1)])
    return last.place if last else 0


async def notes_of(order_id: str) -> list[CreditNote]:
    """The credit notes of an order, in the order in which they were written."""
    return await credit_notes.many({"order_id": order_id}, sort=[("nth", 1)], limit=0)


def seller_now() -> Seller:
    settings = state.part(ShopSettings)
    return Seller(name=settings.name, address=settings.address, tax_pin=settings.tax_pin, zone=settings.zone)


# ---- as JSON


async def invoice(seen: Seen) -> InvoiceView:
    """The invoice of an order. Raises NotFound until it is paid."""
    found = seen.order
    kept = await _invoice(found)
    return InvoiceView(
        number=kept.id,
        issued_at=kept.created_at,
        order_id=found.id,
        order_number=found.number,
        currency=found.currency,
        language=found.language,
        seller=SellerView.of(kept.seller or seller_now()),
        buyer=None if found.address is None else AddressView.of(found.address),
        email=found.email,
        lines=lines_shown(found, False),
        totals=found.totals,
        taxes=[
            TaxLine(name=name, rate=rate, base=base, amount=amount)
            for (name, rate), (base, amount) in papers.taxes(found).items()
        ],
        shipping_name=found.shipping_name,
        payments=[PaidWithView.of(each) for each in kept.payments],
        paid=found.paid,
        refunded=found.refunded,
        credit_notes=found.credit_notes,
        check=check_address(kept.address, kept.id),
    )


async def notes(seen: Seen) -> CreditNotes:
    """The credit notes of an order, oldest first."""
    return CreditNotes([_note(each) for each in await notes_of(seen.order.id)])


def _note(note: CreditNote) -> CreditNoteView:
    view: CreditNoteView = CreditNoteView.of(
        note,
        number=note.id,
        issued_at=note.created_at,
        lines=[CreditLineView.of(each) for each in note.lines],
        taxes=[CreditTaxView.of(each) for each in note.taxes],
        check=check_address(note.address, note.id),
    )
    return view


async def _invoice(order: Order) -> Invoice:
    kept = await invoice_of(order.id) if order.invoice else None
    if kept is None:
        raise NotFound
    return kept


# ---- as papers


async def invoice_paper(order: Order, language: str) -> papers.Paper:
    """What stands on the invoice of an order. Raises NotFound until it is paid."""
    kept = await _invoice(order)
    check = check_address(kept.address, kept.id)
    return papers.invoice_paper(order, kept, kept.seller or seller_now(), language, check)


async def credit_paper(order: Order, number: str, language: str) -> papers.Paper:
    """What stands on a credit note of an order. Raises NotFound."""
    note = await credit_notes.get(number, {"order_id": order.id})
    return papers.credit_paper(order, note, language, check_address(note.address, note.id))


def name_in(file: str) -> str:
    """What a file is named after, as `C2026-000017.pdf`. Raises NotFound for another name."""
    name, _, ending = file.rpartition(".")
    if ending != "pdf":
        raise NotFound
    return name


# ---- for whoever doubts it


def check_address(house: str, number: str) -> str:
    """The address that the code on a paper holds: anybody may ask there whether the paper is genuine."""
    return f"{house or state.settings().base_url}/shop/invoices/{number}?check={_mark_of(number)}"


def _mark_of(number: str) -> str:
    return sealing.blind("shop.papers.check", number)


async def checked(number: str, check: str) -> CheckedView:
    """What anybody may know who holds the paper. Raises NotFound, also for a number that is there, without its mark."""
    if not _is_same(_mark_of(number), check):
        raise NotFound
    return await (_checked_note if number.startswith(CREDIT) else _checked_invoice)(number)


async def _checked_invoice(number: str) -> CheckedView:
    kept = await invoices.get(number)
    order = await orders.get(kept.order_id)
    credited = sum(each.amount for each in await notes_of(order.id))
    total = order.totals.total
    return CheckedView(
        number=number,
        kind="invoice",
        issued_at=kept.created_at,
        currency=order.currency,
        amount=total,
        credited=credited,
        state="paid" if not credited else "credited" if credited == total else "partly_credited",
        seller=SellerView.of(kept.seller or seller_now()),
        invoice="",
    )


async def _checked_note(number: str) -> CheckedView:
    note = await credit_notes.get(number)
    return CheckedView(
        number=number,
        kind="credit_note",
        issued_at=note.created_at,
        currency=note.currency,
        amount=note.amount,
        credited=0,
        state="paid_back",
        seller=SellerView.of(note.seller),
        invoice=note.invoice,
    )


# ---- for who was sent a link


def links(names: Sequence[str]) -> list[dict[str, str]]:
    """Addresses for letters that open these papers from now on, for LINK_LASTS: each that one, and nothing else.

    A paper is named by its number; an invoice, which may not have one yet, by that of its order.
    """
    until = int((now() + LINK_LASTS).timestamp())
    house = state.settings().base_url
    return [
        {"name": each, "address": f"{house}/shop/papers/{each}.pdf?until={until}&key={_key_of(each, until)}"}
        for each in names
    ]


def _key_of(name: str, until: int) -> str:
    return sealing.blind("shop.papers.link", f"{name} {until}")


async def linked(name: str, until: int, key: str) -> papers.Paper:
    """What a letter's link opens. Raises NotFound for another key, and when its time is over or its buyer forgotten."""
    if not _is_same(_key_of(name, until), key) or now().timestamp() > until:
        raise NotFound
    note = await credit_notes.find({"_id": name})
    order = await orders.find({"_id": note.order_id} if note else {"number": name})
    if order is None or order.address is None:
        raise NotFound
    return await (credit_paper(order, name, order.language) if note else invoice_paper(order, order.language))


def _is_same(known: str, shown: str) -> bool:
    return compare_digest(known.encode(), shown.encode("utf-8", "replace"))


# ---- whether they add up


class Years(Struct):
    """How many papers of a kind a year has, and the greatest number among them."""

    year: int
    count: int
    last: int


class Astray(Struct):
    """An order and its invoice that do not know each other."""

    order_id: str
    invoice: str | None
    noted: str | None


async def verify() -> list[Drift]:
    """Numbers with a gap, invoices and orders that do not name each other, and refunds without their credit note."""
    gaps = [
        Drift(f"{what}_numbers", str(each.year), each.last, each.count)
        for what, kept in (("invoice", invoices), ("credit_note", credit_notes))
        for each in await _years(kept)
        if each.last != each.count
    ]
    return [*gaps, *await _astray(), *[drift async for drift in _uncredited()]]


async def _years(kept: Collection[Any]) -> list[Years]:
    grouped: list[dict[str, Any]] = [
        {"$group": {"_id": "$year", "count": {"$sum": 1}, "last": {"$max": "$place"}}},
        {"$project": {"_id": 0, "year": "$_id", "count": 1, "last": 1}},
        {"$sort": {"year": 1}},
    ]
    return await kept.aggregate(grouped, Years)


async def _astray() -> list[Drift]:
    invoiced = await invoices.aggregate(
        _pairs("order_id", orders.name, "_id", "order_id", "_id", "there.invoice"), Astray
    )
    ordered = [{"$match": {"invoice": {"$type": "string"}}}]
    noted = await orders.aggregate(
        [*ordered, *_pairs("_id", invoices.name, "order_id", "_id", "there._id", "invoice")], Astray
    )
    return [Drift("order_invoice", each.order_id, each.invoice, each.noted) for each in [*invoiced, *noted]]


def _pairs(mine: str, other: str, its: str, order_id: str, invoice: str, noted: str) -> list[dict[str, Any]]:
    """Stages that leave only those whose other half says something else, or is not there."""
    return [
        {"$lookup": {"from": other, "localField": mine, "foreignField": its, "as": "there"}},
        {"$set": {"there": {"$ifNull": [{"$first": "$there"}, {}]}}},
        {"$project": {"_id": 0, "order_id": f"${order_id}", "invoice": f"${invoice}", "noted": f"${noted}"}},
        {"$set": {name: {"$ifNull": [f"${name}", None]} for name in ("invoice", "noted")}},
        {"$match": {"$expr": {"$ne": ["$invoice", "$noted"]}}},
    ]


async def _uncredited() -> AsyncIterator[Drift]:
    """Orders whose credit notes are not what was given back of their invoice."""
    given = {"invoice": {"$type": "string"}, "$or": [{"refunded": {"$gt": 0}}, {"credit_notes.0": {"$exists": True}}]}
    async for order in orders.each(given):
        kept, noted = await invoice_of(order.id), await notes_of(order.id)
        if kept is None:
            continue  # said already
        wanted, there = rules.to_credit(order, kept, await payments_of(order.id)), sum(each.amount for each in noted)
        if wanted != there:
            yield Drift("order_credited", order.id, wanted, there)
        if [each.id for each in noted] != sorted(order.credit_notes):
            yield Drift("order_credit_notes", order.id, len(noted), len(order.credit_notes))
