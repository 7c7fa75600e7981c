"""What stands on an invoice and on a credit note, in a person's language: figures in minor units, nothing drawn yet.

It is made of what never changes, so the same paper is made of it for ever: the order's snapshot, and what was kept when
the paper got its number. Only a buyer who is forgotten is no longer on it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from msgspec import Struct

from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.credit_notes import CreditNote
from msingi.products.shop.models.orders import Invoice, Order, OrderLine, Seller, Tax
from msingi.products.shop.rules.orders import way_of
from msingi.products.shop.rules.pricing import WHOLE


class Row(Struct, frozen=True):
    """A line of goods. What a credit note does not say is None."""

    title: str
    detail: str
    quantity: int
    amount: int
    price: int | None = None
    discount: int | None = None
    tax: int | None = None
    rate: str = ""


class Sum(Struct, frozen=True):
    label: str
    amount: int
    strong: bool = False


class TaxSum(Struct, frozen=True):
    """All of one kind of tax; `base` is what it is of, without it."""

    label: str
    base: int | None
    amount: int


class Paper(Struct, frozen=True):
    """All that stands on it, from the top to the bottom."""

    language: str
    title: str
    number: str
    issued_at: datetime
    facts: list[tuple[str, str]]
    seller: Seller
    buyer: list[str]
    currency: str
    rows: list[Row]
    sums: list[Sum]
    tax_note: str
    taxes: list[TaxSum]
    paid_title: str
    paid: list[Sum]
    remarks: list[str]
    check: str  # the address that says whether it is genuine


WORDS: Mapping[str, Words] = {
    "invoice": Words(en="Invoice", sw="Ankara"),
    "credit_note": Words(en="Credit note", sw="Hati ya marejesho"),
    "number": Words(en="Number", sw="Namba"),
    "date": Words(en="Date", sw="Tarehe"),
    "ordered": Words(en="Ordered", sw="Iliagizwa"),
    "order": Words(en="Order", sw="Oda"),
    "of_invoice": Words(en="For invoice", sw="Ya ankara"),
    "bill_to": Words(en="Billed to", sw="Mteja"),
    "pin": Words(en="Tax PIN", sw="PIN ya kodi"),
    "description": Words(en="Description", sw="Maelezo"),
    "quantity": Words(en="Qty", sw="Idadi"),
    "price": Words(en="Unit price", sw="Bei ya moja"),
    "discount": Words(en="Discount", sw="Punguzo"),
    "tax": Words(en="Tax", sw="Kodi"),
    "amount": Words(en="Amount", sw="Kiasi"),
    "in_currency": Words(en="All amounts in {currency}.", sw="Kiasi chote ni kwa {currency}."),
    "goods": Words(en="Goods", sw="Bidhaa"),
    "shipping": Words(en="Shipping", sw="Usafirishaji"),
    "tax_added": Words(en="Tax added", sw="Kodi iliyoongezwa"),
    "rounding": Words(en="Rounding", sw="Kukadiria"),
    "total": Words(en="Total", sw="Jumla"),
    "credited": Words(en="Credited", sw="Kiasi kinachorejeshwa"),
    "elsewhere": Words(en="Shipping, other credit notes, rounding", sw="Usafirishaji, hati nyingine, na kukadiria"),
    "taxes": Words(en="Tax summary", sw="Muhtasari wa kodi"),
    "without_tax": Words(en="Without tax", sw="Bila kodi"),
    "included": Words(en="Prices include the tax.", sw="Bei zinajumuisha kodi."),
    "added": Words(en="The tax is added to the prices.", sw="Kodi imeongezwa juu ya bei."),
    "mixed": Words(
        en="Rates marked + are added to the price; the prices include all others.",
        sw="Viwango vyenye + vimeongezwa juu ya bei; vingine vimo ndani ya bei.",
    ),
    "tax_back": Words(en="It gives back the tax below.", sw="Inarudisha kodi iliyo hapa chini."),
    "no_tax_back": Words(
        en="It changes nothing of the tax on the invoice.", sw="Haibadilishi kodi iliyo kwenye ankara."
    ),
    "untaxed": Words(en="No tax", sw="Hakuna kodi"),
    "paid": Words(en="Paid", sw="Malipo"),
    "paid_back": Words(en="Paid back", sw="Marejesho"),
    "free": Words(en="There was nothing to pay.", sw="Hakukuwa na cha kulipa."),
    "thanks": Words(en="Paid in full. Thank you for your custom.", sw="Imelipwa yote. Asante kwa kununua kwetu."),
    "reason": Words(en="Reason: {reason}", sw="Sababu: {reason}"),
    "return": Words(en="For goods that came back.", sw="Kwa bidhaa zilizorudishwa."),
    "rest": Words(en="For goods that were not sent.", sw="Kwa bidhaa ambazo hazikutumwa."),
    "cancelled": Words(en="For an order that was cancelled.", sw="Kwa oda iliyoghairiwa."),
    "reduction": Words(en="Reduction of the price", sw="Punguzo la bei"),
    "check": Words(en="Genuine? Scan, and see.", sw="Ni halali? Changanua uone."),
    "page": Words(en="Page {page} of {pages}", sw="Ukurasa {page} kati ya {pages}"),
}


def word(name: str, language: str) -> str:
    return WORDS[name].said_in(language)


def invoice_paper(order: Order, invoice: Invoice, seller: Seller, language: str, check: str) -> Paper:
    """The invoice of an order, as it was when it got its number."""
    paid = [Sum(_way(each.provider, each.receipt, language), each.amount) for each in invoice.payments if each.amount]
    return Paper(
        language=language,
        title=word("invoice", language),
        number=invoice.id,
        issued_at=invoice.created_at,
        facts=[(word("order", language), order.number)],
        seller=seller,
        buyer=buyer_of(order),
        currency=order.currency,
        rows=[_row(line, _is_mixed(order), language) for line in order.lines],
        sums=list(_sums(order, language)),
        tax_note=_tax_note(order, language),
        taxes=[
            TaxSum(label=_kind(name, rate, language), base=base, amount=amount)
            for (name, rate), (base, amount) in taxes(order).items()
        ],
        paid_title=word("paid", language),
        paid=paid,
        remarks=[word("thanks" if order.totals.total else "free", language)],
        check=check,
    )


def credit_paper(order: Order, note: CreditNote, language: str, check: str) -> Paper:
    """A credit note, as it was when it got its number."""
    rows = [
        Row(
            title=each.title.said_in(language),
            detail=_detail(each.sku, each.options),
            quantity=each.quantity,
            amount=each.amount,
        )
        for each in note.lines
    ] or [Row(title=word("reduction", language), detail="", quantity=1, amount=note.amount - note.other)]
    label = "rounding" if abs(note.other) < WHOLE.get(note.currency, 1) else "elsewhere"
    other = [Sum(word(label, language), note.other)] if note.other else []
    remarks = [] if note.why == "reduction" else [word(note.why, language)]
    if note.reason:
        remarks.append(word("reason", language).format(reason=note.reason))
    return Paper(
        language=language,
        title=word("credit_note", language),
        number=note.id,
        issued_at=note.created_at,
        facts=[(word("of_invoice", language), note.invoice), (word("order", language), order.number)],
        seller=note.seller,
        buyer=buyer_of(order),
        currency=note.currency,
        rows=rows,
        sums=[*other, Sum(word("credited", language), note.amount, strong=True)],
        tax_note=word("tax_back" if note.taxes else "no_tax_back", language),
        taxes=[
            TaxSum(label=_kind(each.name, each.rate, language), base=None, amount=each.amount) for each in note.taxes
        ],
        paid_title=word("paid_back", language),
        paid=[Sum(_way(note.provider, note.receipt, language), note.amount)],
        remarks=remarks,
        check=check,
    )


def buyer_of(order: Order) -> list[str]:
    """Who it is billed to, a line each; nobody if they are forgotten."""
    if order.address is None:
        return []
    to = order.address
    town = ", ".join(each for each in (to.town, to.country) if each)
    return [each for each in (to.name, to.street, town, order.email) if each]


def taxes(order: Order) -> dict[tuple[str, int], tuple[int, int]]:
    """The taxes of an order by kind: what they are of, without them; and how much they are."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    worth: list[tuple[Tax, int]] = [(line.tax, line.total) for line in order.lines]
    if order.shipping_tax.name:
        added = 0 if order.shipping_tax.included else order.shipping_tax.amount
        worth.append((order.shipping_tax, order.totals.shipping + added))
    for tax, gross in worth:
        base, amount = found.get((tax.name, tax.rate), (0, 0))
        found[tax.name, tax.rate] = base + gross - tax.amount, amount + tax.amount
    return found


def _row(line: OrderLine, mixed: bool, language: str) -> Row:
    return Row(
        title=line.title.said_in(language),
        detail=_detail(line.sku, line.options),
        quantity=line.quantity,
        amount=line.total,
        price=line.price,
        discount=line.discount,
        tax=line.tax.amount,
        rate=f"{'+' if mixed and not line.tax.included else ''}{percent(line.tax.rate)}" if line.tax.name else "",
    )


def _detail(sku: str, options: Mapping[str, str]) -> str:
    return " · ".join([*(f"{name}: {value}" for name, value in options.items()), sku])


def percent(rate: int) -> str:
    """Basis points as people write them: 1650 is `16.5%`."""
    return f"{rate / 100:g}%"


def _sums(order: Order, language: str) -> Iterator[Sum]:
    totals = order.totals
    yield Sum(word("goods", language), totals.goods)
    if totals.discount:
        yield Sum(word("discount", language), -totals.discount)
    way = order.shipping_name.said_in(language)
    if way or totals.shipping:
        yield Sum(f"{word('shipping', language)}{f' ({way})' if way else ''}", totals.shipping)
    if totals.tax_added:
        yield Sum(word("tax_added", language), totals.tax_added)
    if totals.rounding:
        yield Sum(word("rounding", language), totals.rounding)
    yield Sum(word("total", language), totals.total, strong=True)


def _taxed(order: Order) -> list[Tax]:
    return [each for each in (*(line.tax for line in order.lines), order.shipping_tax) if each.name]


def _is_mixed(order: Order) -> bool:
    return len({each.included for each in _taxed(order)}) > 1


def _tax_note(order: Order, language: str) -> str:
    if not _taxed(order):
        return ""
    if _is_mixed(order):
        return word("mixed", language)
    return word("included" if _taxed(order)[0].included else "added", language)


def _kind(name: str, rate: int, language: str) -> str:
    return f"{name} {percent(rate)}" if name else word("untaxed", language)


def _way(provider: str, receipt: str, language: str) -> str:
    name = way_of(provider, language)
    named = name[:1].upper() + name[1:]
    return f"{named} · {receipt}" if receipt and len(receipt) <= 40 else named
