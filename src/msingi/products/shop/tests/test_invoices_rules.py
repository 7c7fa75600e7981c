"""What papers say and how they are drawn: looked at as a reader does, by text and by the picture of each page."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pypdfium2 as pdfium
import pytest
import zxingcpp
from msgspec.structs import replace

from msingi.kit.payments.models import Payment, Refund
from msingi.products.shop import drawing
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.credit_notes import CreditNote
from msingi.products.shop.models.orders import (
    Address,
    Invoice,
    Order,
    OrderLine,
    PaidWith,
    Return,
    Seller,
    Tax,
    Totals,
)
from msingi.products.shop.rules import invoices as rules
from msingi.products.shop.rules import papers
from msingi.products.shop.rules.orders import HOUSE, NO_ORDER, SURPLUS

AT = datetime(2026, 12, 31, 21, 30, tzinfo=UTC)  # New Year in Nairobi
SELLER = Seller("Duka la Shamba Ltd", "Moi Avenue 3, P.O. Box 1234-00100, Nairobi", "P051234567X")
CHECK = "https://duka.example/shop/invoices/2027-000017?check=Hn3vJd0aQ2mKx8ZpLw4s_A"


def line(id: str = "1", *, title: str = "Tea", quantity: int = 3, price: int = 1160, discount: int = 0) -> OrderLine:
    total = quantity * price - discount
    return OrderLine(
        id=id,
        product_id="tea",
        variant_id=f"tea-{id}",
        sku=f"TEA-{id}",
        title=Words(en=title, sw="Chai"),
        options={"Size": "250 g"},
        quantity=quantity,
        price=price,
        discount=discount,
        tax=Tax(name="VAT", rate=1600, included=True, amount=total * 16 // 116),
        total=total,
    )


def order_of(*lines: OrderLine, name: str = "Ann Wanjiru", **more: object) -> Order:
    goods = sum(each.quantity * each.price for each in lines)
    discount = sum(each.discount for each in lines)
    tax = sum(each.tax.amount for each in lines)
    fresh = Order(
        id="o1",
        number="MS-9ABCDEFG",
        email="ann@example.org",
        address=Address(name=name, town="Nairobi", street="Moi Avenue 3", phone="+254712345678"),
        currency="KES",
        lines=list(lines),
        totals=Totals(goods, discount, 20_000, tax, 0, -50, goods - discount + 20_000 - 50),
        shipping_name=Words(en="Rider", sw="Bodaboda"),
        held_until=AT,
        state="confirmed",
    )
    return replace(fresh, **more)


def invoice_of(order: Order) -> Invoice:
    paid = [PaidWith("mpesa", order.totals.total, "QGH7X81KLP")]
    return Invoice(
        id="2027-000017", order_id=order.id, year=2027, place=17, created_at=AT, seller=SELLER, payments=paid
    )


def paper_of(order: Order, language: str = "en") -> papers.Paper:
    return papers.invoice_paper(order, invoice_of(order), SELLER, language, CHECK)


def pages_of(pdf: bytes) -> list[str]:
    return [each.get_textpage().get_text_range().replace("\r\n", "\n") for each in pdfium.PdfDocument(pdf)]


# ---- drawing


def test_a_paper_is_dated_by_the_clock_of_who_issued_it() -> None:
    order = order_of(line())
    for zone, date in (("Africa/Nairobi", "1 January 2027"), ("Africa/Lagos", "31 December 2026")):
        paper = papers.invoice_paper(order, invoice_of(order), replace(SELLER, zone=zone), "en", CHECK)
        (text,) = pages_of(drawing.drawn(paper))
        assert date in text


def test_the_same_paper_is_drawn_in_the_same_bytes_and_found_by_its_words() -> None:
    order = order_of(line(), line("2", title="Stove", quantity=1, price=250_000, discount=5_000))
    pdf = drawing.drawn(paper_of(order))
    assert pdf == drawing.drawn(paper_of(order))
    (text,) = pages_of(pdf)
    for said in (
        *("Duka la Shamba Ltd", "Moi Avenue 3", "Nairobi", "Tax PIN: P051234567X", "Invoice", "2027-000017"),
        *("1 January 2027", "MS-9ABCDEFG", "Ann Wanjiru", "ann@example.org", "Size: 250 g · TEA-1", "16%"),
        *("2,500.00", "-50.00", "Goods 2,534.80", "Shipping (Rider) 200.00", "Rounding -0.50", "KES 2,684.30"),
        *(
            "VAT 16% 2,142.07 342.73",
            "Prices include the tax.",
            "M-Pesa · QGH7X81KLP 2,684.30",
            "Page 1 of 1",
            CHECK[:40],
        ),
    ):
        assert said in text, (said, text)
    assert "+254712345678" not in text
    document = pdfium.PdfDocument(pdf)
    assert document.get_metadata_value("Title") == "Invoice 2027-000017"
    assert document.get_metadata_value("CreationDate").startswith("D:20261231213000")
    (code,) = zxingcpp.read_barcodes(document[0].render(scale=3).to_pil())
    assert code.text == CHECK


def test_it_is_written_in_swahili_too() -> None:
    (text,) = pages_of(drawing.drawn(paper_of(order_of(line()), "sw")))
    for said in ("Ankara", "Namba", "1 Januari 2027", "Chai", "Bodaboda", "Jumla", "Ukurasa 1 kati ya 1"):
        assert said in text, said
    english = {name for name, words in papers.WORDS.items() if not words.sw}
    assert english == set()


def test_text_of_any_script_is_drawn_and_what_no_font_has_is_a_box() -> None:
    name = "Zoë Ŋaŋá محمد שלום አበበ ☺ 李\u202e\x07e\u0301"
    (text,) = pages_of(drawing.drawn(paper_of(order_of(line(title="Ñandú «№ 5» €"), name=name))))
    for said in ("Zoë Ŋaŋ", "محمد", "שלום", "አበበ", "☺", "□", "é", "Ñandú «№ 5» €"):
        assert said in text, (said, text)
    assert drawing.printable(name).endswith("☺ □é")


def test_long_lists_go_over_pages_and_long_words_wrap() -> None:
    lines = [line(str(at), title="x" * 90 if at % 7 == 0 else f"Thing {at}") for at in range(1, 61)]
    pages = pages_of(drawing.drawn(paper_of(order_of(*lines, name="W" * 100))))
    assert len(pages) > 3
    for at, text in enumerate(pages, start=1):
        assert f"Page {at} of {len(pages)}" in text
        assert at == 1 or text.startswith("Invoice 2027-000017")
    whole = "\n".join(pages)
    assert [at for at in range(1, 61) if f"TEA-{at}\n" not in whole] == []
    assert "KES" in pages[-1]


@pytest.mark.parametrize("language", ["en", "sw"])
def test_nothing_is_drawn_beyond_the_edge(language: str) -> None:
    big = order_of(line(title="Thing", quantity=1000, price=10**11, discount=10**9))
    page = pdfium.PdfDocument(drawing.drawn(paper_of(big, language)))[0]
    words = page.get_textpage()
    boxes = [words.get_rect(at) for at in range(words.count_rects())]
    assert min(left for left, *_ in boxes) > 40
    assert max(right for _, _, right, _ in boxes) < page.get_width() - 40


def test_a_currency_without_cents_has_none_on_paper() -> None:
    assert drawing.shown(1_250_000, "UGX", "en") == "1,250,000"
    assert drawing.shown(-1_250_005, "KES", "sw") == "-12,500.05"


# ---- credit notes


def refund(id: str = "r1", *, amount: int, reason: str = "x", by: str = "eve", state: str = "done") -> Refund:
    at = AT + timedelta(seconds=int(id[1:]))
    return Refund(id=id, amount=amount, reason=reason, asked_by=by, asked_at=at, state=state)  # type: ignore[arg-type]


def paid_by(order: Order, *refunds: Refund) -> list[Payment]:
    return [
        Payment(
            id="o1-1",
            purpose="shop.order:o1",
            provider="mpesa",
            amount=order.totals.total,
            currency="KES",
            captured=order.totals.total,
            refunds=list(refunds),
        )
    ]


def noted(order: Order, *refunds: Refund) -> list[CreditNote]:
    """The notes of these refunds, written one after the other."""
    notes: list[CreditNote] = []
    for _, each in rules.refunds_of(invoice_of(order), paid_by(order, *refunds)):
        credit = rules.credit(order, each, notes)
        if credit is not None:
            place = len(notes) + 1
            notes.append(
                CreditNote(
                    **credit._asdict(),
                    id=rules.credit_number(2027, place),
                    order_id=order.id,
                    nth=place,
                    invoice="2027-000017",
                    refund_id=each.id,
                    year=2027,
                    place=place,
                    currency="KES",
                    provider="mpesa",
                    seller=SELLER,
                    created_at=AT,
                )
            )
    return notes


def test_only_refunds_of_what_is_on_the_invoice_are_credited() -> None:
    order = order_of(line())
    beyond = refund("r2", amount=500, reason=SURPLUS, by=HOUSE)
    waiting = refund("r3", amount=500, state="waiting")
    notes = noted(order, refund(amount=700), beyond, waiting)
    assert [(each.amount, each.why, each.reason, each.taxes) for each in notes] == [(700, "reduction", "x", [])]
    assert rules.to_credit(order, invoice_of(order), paid_by(order, refund(amount=700), beyond)) == 700
    before = replace(invoice_of(order), refunds_before=["r1"])
    assert rules.refunds_of(before, paid_by(order, refund(amount=700))) == []


def test_a_return_is_credited_with_its_lines_and_its_part_of_the_tax() -> None:
    back = Return(id="b1", at=AT, lines={"1": 2}, reason="Too small", state="received", refund=2300)
    order = order_of(line(), line("2"), returns=[back])
    (note,) = noted(order, refund(amount=2300, reason="Return b1", by=HOUSE))
    assert [(each.sku, each.quantity, each.amount) for each in note.lines] == [("TEA-1", 2, 2320)]
    assert (note.amount, note.other, note.reason) == (2300, -20, "Too small")
    assert [(each.name, each.amount) for each in note.taxes] == [("VAT", 320)]
    (text,) = pages_of(drawing.drawn(papers.credit_paper(order, note, "en", CHECK)))
    for said in (
        "Credit note",
        "C2027-000001",
        "For invoice",
        "2027-000017",
        "TEA-1",
        "KES 23.00",
        "Reason: Too small",
    ):
        assert said in text, (said, text)


def test_parts_of_a_cancelled_order_add_up_to_it_with_all_of_its_tax() -> None:
    order = order_of(line(), line("2", price=999), state="cancelled")
    total, tax = order.totals.total, order.totals.tax
    first = refund("r1", amount=1000)
    second, third = (
        refund(id, amount=much, reason=NO_ORDER, by=HOUSE) for id, much in (("r2", 7_001), ("r3", total - 8_001))
    )
    notes = noted(order, first, second, third)
    assert [each.why for each in notes] == ["reduction", "cancelled", "cancelled"]
    assert sum(each.amount for each in notes) == total
    assert sum(part.amount for each in notes for part in each.taxes) == tax
    assert all(each.amount == sum(one.amount for one in each.lines) + each.other for each in notes[1:])


def test_credit_notes_never_add_up_to_more_than_the_invoice() -> None:
    order = order_of(line())
    notes = noted(order, *(refund(f"r{at}", amount=order.totals.total // 3 - 10) for at in range(1, 6)))
    assert sum(each.amount for each in notes) == order.totals.total
    assert len(notes) == 4
    assert Fraction(notes[-1].amount, order.totals.total) < Fraction(1, 3)
