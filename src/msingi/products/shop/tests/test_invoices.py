"""Invoices and credit notes over HTTP, what letters link to, and receipts to phones."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pypdfium2 as pdfium
import pytest
import pytest_asyncio
import zxingcpp
from aiohttp import web

from msingi.kit import clock, mail, sms, state
from msingi.kit.actors import Actor
from msingi.kit.mail import rendered
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.products.accounts.contract import UserErased
from msingi.products.shop import paper
from msingi.products.shop.actions import invoices as writing
from msingi.products.shop.actions import money
from msingi.products.shop.actions import orders as order_actions
from msingi.products.shop.models.credit_notes import credit_notes
from msingi.products.shop.models.orders import invoices, orders
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries import invoices as queries
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.tests.ordering import (
    ADDRESS,
    Killed,
    bank,
    die_once,
    key,
    lines_of,
    paid,
    pay,
    place,
    products,
    settled,
)

__all__ = ["bank", "products"]
SUPPORT = Actor(id="support", roles=frozenset({"user", "shop_support"}), methods=frozenset({"pwd"}))


@pytest.fixture
def told(world: World) -> Iterator[Any]:
    """Tells the shop other settings, until the test is over."""
    here = state.current().parts
    usual = here[ShopSettings]

    def tell(**changes: Any) -> None:
        here[ShopSettings] = msgspec.structs.replace(usual, **changes)

    yield tell
    here[ShopSettings] = usual


def text_of(pdf: bytes) -> str:
    return "\n".join(each.get_textpage().get_text_range() for each in pdfium.PdfDocument(pdf))


def code_on(pdf: bytes) -> str:
    """What the code on a paper's last page holds."""
    (found,) = zxingcpp.read_barcodes(list(pdfium.PdfDocument(pdf))[-1].render(scale=3).to_pil())
    return str(found.text)


def path_of(address: str) -> str:
    """An address of the house as the tests' client takes it."""
    base = state.settings().base_url
    assert address.startswith(f"{base}/"), address
    return f"/{address.removeprefix(base)}"


async def letter(template: str) -> str:
    """The newest letter of a kind, in words."""
    return rendered([each for each in await mail.written() if each.template == template][-1]).text


async def link_in(template: str) -> str:
    found = re.search(r"http\S+/shop/papers/\S+", await letter(template))
    assert found, template
    return path_of(found[0])


async def returned(ann: Client, admin: Client, bank: Bank, world: World, *, count: int = 1) -> str:
    """The id of an order of two packets of tea, some of which came back."""
    id = await paid(ann, bank, world)
    await admin.post(f"/orders/{id}/shipments", location_id="nairobi", lines=lines_of(**{"1": 2}), headers=key())
    (shipment,) = (await ann.get(f"/orders/{id}"))["shipments"]
    await admin.put(f"/orders/{id}/shipments/{shipment['id']}/delivery", code=shipment["code"])
    await ann.post(f"/orders/{id}/returns", lines=lines_of(**{"1": count}), reason="It is torn.", headers=key())
    (found,) = (await ann.get(f"/orders/{id}"))["returns"]
    async with (support := world.client(SUPPORT)).http:
        await support.put(f"/orders/{id}/returns/{found['id']}", state="approved")
    await admin.put(f"/orders/{id}/returns/{found['id']}", state="received")
    await settled(world)
    return id


# ---- the invoice


async def test_an_invoice_is_a_pdf_for_who_sees_the_order(
    ann: Client, bob: Client, admin: Client, nobody: Client, bank: Bank, world: World
) -> None:
    placed = await place(ann, {"tea-250": 2}, shipping_id="nairobi-rider")
    path = f"/orders/{placed['id']}/invoice.pdf"
    await ann.get(path, expect=404)
    await pay(bank, placed["id"])
    await world.work()
    pdf = await ann.get(path)
    assert ann.last.headers["content-type"] == "application/pdf"
    shown = await ann.get(f"/orders/{placed['id']}/invoice")
    for said in (shown["number"], placed["number"], "Ann Wanjiru", "KES 440.00", "Duka", "Bank"):
        assert said in text_of(pdf), said
    assert code_on(pdf) == shown["check"]
    assert shown["payments"] == [{"provider": "bank", "amount": 44_000, "receipt": shown["payments"][0]["receipt"]}]
    assert await admin.get(path) == pdf
    for client in (bob, nobody):
        await client.get(path, expect=404)


async def test_a_guest_opens_it_with_the_orders_token(nobody: Client, bank: Bank, world: World) -> None:
    placed = await place(nobody, email="guest@msingi.test", language="sw")
    await pay(bank, placed["id"])
    await world.work()
    path, token = f"/orders/{placed['id']}/invoice.pdf", {"x-order-token": placed["order_token"]}
    pdf = await nobody.get(path, headers=token)
    assert "Ankara" in text_of(pdf)
    assert "Invoice" in text_of(await nobody.get(f"{path}?language=en", headers=token))
    await nobody.get(path, headers={"x-order-token": "another"}, expect=404)
    assert placed["order_token"] not in await letter("order_paid")


async def test_it_stays_as_it_was_and_who_has_it_is_not_sent_it_again(
    ann: Client, admin: Client, bank: Bank, world: World, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(name="Duka la Kwanza", address="Moi Avenue 3, Nairobi", tax_pin="P051234567X")
    id = await returned(ann, admin, bank, world)
    path = f"/orders/{id}/invoice.pdf"
    pdf = await ann.get(path)
    mark = ann.last.headers["etag"]
    state.part(paper.Desk).drawn.clear()
    told(name="Another shop", address="", tax_pin="", zone="Pacific/Kiritimati")
    with clock.shifted(timedelta(days=3)):
        async with (later := world.client(ann.actor)).http:
            assert await later.get(path) == pdf
    assert "Duka la Kwanza" in text_of(pdf)
    monkeypatch.setattr(paper, "drawn", None)  # whoever has it costs no drawing
    state.part(paper.Desk).drawn.clear()
    await ann.get(path, headers={"if-none-match": mark}, expect=304)


async def test_papers_are_drawn_one_at_a_time_and_each_once(
    ann: Client, bank: Bank, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await paid(ann, bank, world)
    at_once, most, real = [0], [0], paper.drawn

    def counted(wanted: Any) -> bytes:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        done = real(wanted)
        at_once[0] -= 1
        return done

    monkeypatch.setattr(paper, "drawn", counted)
    desk = state.part(paper.Desk)
    desk.drawn.clear()
    paths = [f"/orders/{id}/invoice.pdf?language={each}" for each in ("en", "sw")] * 3
    await asyncio.gather(*(ann.get(path) for path in paths))
    assert (most[0], len(desk.drawn), desk.waiting) == (1, 2, 0)
    monkeypatch.setattr(paper, "MOST_WAITING", 0)
    desk.drawn.clear()
    await ann.get(paths[0], expect=503)
    assert "retry-after" in ann.last.headers


# ---- credit notes


async def test_a_refund_that_is_done_has_a_credit_note(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    id = await returned(ann, admin, bank, world)
    shown = await ann.get(f"/orders/{id}")
    (note,) = (await ann.get(f"/orders/{id}/credit-notes"))["items"]
    assert shown["credit_notes"] == [note["number"]] == (await ann.get(f"/orders/{id}/invoice"))["credit_notes"]
    assert re.fullmatch(r"C\d{4}-000001", note["number"])
    assert (note["amount"], note["why"], note["reason"]) == (12_000, "return", "It is torn.")
    assert [(each["sku"], each["quantity"]) for each in note["lines"]] == [("TEA-250", 1)]
    (tax,) = note["taxes"]
    (whole,) = (await ann.get(f"/orders/{id}/invoice"))["taxes"]
    assert abs(tax["amount"] * 2 - whole["amount"]) <= 1
    path = f"/orders/{id}/credit-notes/{note['number']}.pdf"
    pdf = await ann.get(path)
    for said in (note["number"], shown["invoice"], "Credit note", "KES 120.00", "It is torn."):
        assert said in text_of(pdf), said
    assert code_on(pdf) == note["check"]
    await ann.get(f"/orders/{id}/credit-notes/{note['number']}", expect=404)
    await ann.get(f"/orders/{id}/credit-notes/C2000-000001.pdf", expect=404)


async def test_numbers_have_no_gaps_whoever_hurries_or_dies(
    ann: Client, bank: Bank, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await paid(ann, bank, world) for _ in range(3)]
    for id in ids:
        await ann.put(f"/orders/{id}/cancellation", reason="Changed my mind")
    die_once(monkeypatch, writing, "_put_credit_notes", after=False)
    with pytest.raises((Killed, BaseExceptionGroup)):
        await settled(world)
    await asyncio.gather(*(money.settle(id) for id in ids for _ in range(3)))
    await settled(world)
    await asyncio.gather(*(money.settle(id) for id in ids))
    notes = await credit_notes.many({}, sort=[("_id", 1)])
    assert [each.place for each in notes] == [1, 2, 3]
    assert sorted(each.order_id for each in notes) == sorted(ids)
    assert [(await orders.get(each.order_id)).credit_notes for each in notes] == [[each.id] for each in notes]
    assert {(each.amount, each.why, each.reason) for each in notes} == {(24_000, "cancelled", "Changed my mind")}
    assert await queries.verify() == []


async def test_what_was_paid_beyond_the_total_has_none(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann)
    await pay(bank, placed["id"], 30_000)
    await settled(world)
    assert (await ann.get(f"/orders/{placed['id']}"))["refunded"] == 6_000
    assert (await ann.get(f"/orders/{placed['id']}/credit-notes"))["items"] == []
    assert await queries.verify() == []


async def test_verify_names_gaps_and_refunds_without_a_note(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    first, second = await paid(ann, bank, world), await returned(ann, admin, bank, world)
    assert await queries.verify() == []
    year = (await invoices.find({"order_id": first})).year  # type: ignore[union-attr]
    await invoices.raw.delete_one({"order_id": first})
    await credit_notes.raw.update_one({"order_id": second}, {"$set": {"amount": 11_999}})
    assert {(each.what, each.id, each.expected, each.found) for each in await queries.verify()} == {
        ("invoice_numbers", str(year), 2, 1),
        ("order_invoice", first, None, f"{year}-000001"),
        ("order_credited", second, 12_000, 11_999),
    }


# ---- whoever doubts it


async def test_the_code_says_that_a_paper_is_genuine_and_nothing_of_who_bought(
    ann: Client, admin: Client, nobody: Client, bank: Bank, world: World
) -> None:
    id = await returned(ann, admin, bank, world)
    shown, (note,) = await ann.get(f"/orders/{id}/invoice"), (await ann.get(f"/orders/{id}/credit-notes"))["items"]
    page = path_of(shown["check"])
    text = (await nobody.get(page, headers={"accept": "text/html"})).decode()
    for said in (shown["number"], "Duka", "It is genuine", "240.00", "120.00", "a part of it was given back"):
        assert said in text, said
    assert not [each for each in ("Wanjiru", "ann@", "Moi Avenue", "Tea", shown["order_number"]) if each in text]
    assert "Ni halali" in (await nobody.get(f"{page}&lang=sw")).decode()
    checked = await nobody.get(page.replace("//shop/", "/"))
    assert checked == {
        **{"number": shown["number"], "kind": "invoice", "currency": "KES", "amount": 24_000, "credited": 12_000},
        **{"state": "partly_credited", "invoice": "", "issued_at": shown["issued_at"], "seller": shown["seller"]},
    }
    of_note = await nobody.get(path_of(note["check"]).replace("//shop/", "/"))
    assert (of_note["kind"], of_note["amount"], of_note["invoice"]) == ("credit_note", 12_000, shown["number"])
    for wrong in ("", "?check=", f"?check={note['check'][-22:]}", "?check=%ff%00"):
        for place_ in (f"//shop/invoices/{shown['number']}{wrong}", f"/invoices/{shown['number']}{wrong}"):
            await nobody.get(place_, expect=404)


# ---- letters


async def test_the_letter_links_to_the_invoice_and_to_nothing_else(
    ann: Client, nobody: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world)
    other = await paid(ann, bank, world)
    numbers = [(await orders.get(each)).number for each in (id, other)]
    link = await link_in("order_paid")
    assert numbers[1] in link
    pdf = await nobody.get(link)
    assert pdf == await ann.get(f"/orders/{other}/invoice.pdf")
    assert nobody.last.headers["cache-control"] == "private, no-store"
    assert nobody.last.headers["referrer-policy"] == "no-referrer"
    invoice = (await ann.get(f"/orders/{other}/invoice"))["number"]
    for wrong in (
        link.replace(numbers[1], numbers[0]),
        link.replace(numbers[1], invoice),
        re.sub(r"until=(\d)", r"until=9\1", link),
        link[:-1] + ("A" if link[-1] != "A" else "B"),
        link.replace(".pdf", ".txt"),
        link.partition("?")[0],
    ):
        await nobody.get(wrong, expect=404)
    with clock.shifted(queries.LINK_LASTS + timedelta(minutes=1)):
        await nobody.get(link, expect=404)


async def test_who_is_forgotten_is_on_no_paper(
    ann: Client, admin: Client, nobody: Client, bank: Bank, world: World
) -> None:
    id = await returned(ann, admin, bank, world)
    links = [await link_in("order_refunded"), await link_in("order_delivered")]
    for link in links:
        assert "Ann Wanjiru" in text_of(await nobody.get(link))
    await world.tell(UserErased(user_id="ann"))
    await settled(world)
    for link in links:
        await nobody.get(link, expect=404)
    left = text_of(await admin.get(f"/orders/{id}/invoice.pdf"))
    assert "Wanjiru" not in left
    assert "ann@" not in left
    assert "KES 240.00" in left


# ---- phones


class Phones:
    """Takes messages as Africa's Talking does."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    async def take(self, request: web.Request) -> web.Response:
        asked = await request.json()
        (to,) = asked["phoneNumbers"]
        self.taken.append((to, asked["message"]))
        return web.json_response(
            {"SMSMessageData": {"Recipients": [{"statusCode": 101, "number": to, "status": "So"}]}}
        )


@pytest_asyncio.fixture(loop_scope="session")
async def phones(world: World) -> AsyncIterator[Phones]:
    """A provider of text messages, which the house knows."""
    it, app = Phones(), web.Application()
    app.router.add_post("/bulk", it.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    here, usual = state.current(), state.current().settings
    here.settings = msgspec.structs.replace(
        usual, sms_url=f"http://127.0.0.1:{runner.addresses[0][1]}/bulk", sms_key="key"
    )
    yield it
    here.settings = usual
    await runner.cleanup()


async def test_a_receipt_and_the_code_go_to_the_phone_once_in_one_message_each(
    ann: Client, admin: Client, bank: Bank, world: World, phones: Phones, told: Any
) -> None:
    told(texts=True, name="Duka la Ng’ombe")
    ids = [await paid(ann, bank, world, language=each) for each in ("en", "sw")]
    for id in ids:
        await pay(bank, id)
        await world.work()
        await admin.post(f"/orders/{id}/shipments", location_id="nairobi", lines=lines_of(**{"1": 2}), headers=key())
        await settled(world)
    said = [message for _, message in phones.taken]
    assert {to for to, _ in phones.taken} == {ADDRESS["phone"]}
    assert [sms.messages(each) for each in said] == [1, 1, 1, 1]
    (one, two) = [await orders.get(id) for id in ids]
    assert said == [
        f"Duka la Ng'ombe: we received Ksh240.00 for order {one.number}. Thank you. We write again when it leaves.",
        f"Duka la Ng'ombe: tumepokea Ksh 240.00 kwa oda {two.number}. Asante. Tutakuandikia itakapotumwa.",
        f"Duka la Ng'ombe: order {one.number} is on its way. When it is handed to you, and not before, tell this code: "
        f"{one.shipments[0].code}",
        f"Duka la Ng'ombe: oda {two.number} iko njiani. Utakapokabidhiwa, na si kabla, taja namba hii: "
        f"{two.shipments[0].code}",
    ]


@pytest.mark.parametrize(("texts", "phone"), [(False, ADDRESS["phone"]), (True, ""), (True, "+254202222222")])
async def test_nothing_goes_to_who_has_no_mobile_or_where_it_is_not_wanted(
    ann: Client, bank: Bank, world: World, phones: Phones, told: Any, texts: bool, phone: str
) -> None:
    told(texts=texts)
    await paid(ann, bank, world, address={**ADDRESS, "phone": phone})
    assert phones.taken == []
    assert "order_paid" in [each.template for each in await mail.written()]


# ---- words


def test_ways_to_pay_are_called_what_people_call_them() -> None:
    entry = order_actions.entry("payment_asked", amount=24_000, provider="mpesa")
    assert [rules.way_of("stripe", each) for each in ("en", "sw")] == ["card", "kadi"]
    assert rules.text_of(entry, "KES", "en").endswith("by M-Pesa.")
    assert rules.text_of(entry, "KES", "sw").endswith("kwa M-Pesa.")
