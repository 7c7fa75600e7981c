"""The pages of orders and refunds, read and filled in as a browser does it: by those who send, help and approve."""

import asyncio
import inspect
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import httpx
import msgspec
import pytest

from msingi.kit import clock, csrf, state
from msingi.kit.actors import Actor
from msingi.kit.errors import Problem, Stale
from msingi.kit.payments.models import payments
from msingi.kit.payments.problems import AnotherPersonDecides, NotWaiting
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.kit.unit import alone
from msingi.products.shop import pages as all_pages
from msingi.products.shop.models.orders import Order, orders
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.models.stock import stocks
from msingi.products.shop.pages import board, shell, wording
from msingi.products.shop.pages import order as order_page
from msingi.products.shop.queries.orders import payments_of
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.rules.stock import NotAllocated
from msingi.products.shop.tests.ordering import (
    bank,
    check_books,
    figures,
    paid,
    pay,
    place,
    products,
    sell_out,
    settled,
    state_of,
)

__all__ = ["bank", "products"]
FOLDER = Path(all_pages.__file__).parents[1]
ORDERS, REFUNDS = "/shop/admin/orders", "/shop/admin/refunds"
TEMPLATES = ("board", "order", "cancel_order", "refunds", "refund")


def somebody(role: str, **more: object) -> Actor:
    found: dict[str, object] = {"id": role, "roles": frozenset({"user", f"shop_{role}"}), "methods": frozenset({"pwd"})}
    return Actor(**{**found, **more})  # type: ignore[arg-type]


WAREHOUSE, SUPPORT, OWNER = (somebody(role) for role in ("warehouse", "support", "owner"))


class Desk:
    """Somebody who reads pages and sends the forms that stand on them; no redirect is followed by itself."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.text = ""

    async def open(self, path: str, expect: int = 200, *, as_script: bool = False) -> str:
        """The text of a page; or where it leads."""
        headers = {"hx-request": "true"} if as_script else {}
        return self._read(await self.http.get(path, headers=headers), expect)

    async def send(self, action: str, expect: int = 303, having: str = "", **fields: str | list[str]) -> str:
        """Send the form with this action (that has this in it), with what it holds where `fields` say nothing else."""
        found = re.findall(rf'<form[^>]* action="{re.escape(action)}".*?</form>', self.text, re.DOTALL)
        form = next((each for each in found if having in each), None)
        assert form, f"no form for {action} on this page: {self.text}"
        return await self.post(action, {**_held_in(form), **fields}, expect)

    async def post(self, path: str, fields: Mapping[str, str | list[str]], expect: int = 303) -> str:
        own = {"origin": "http://msingi.test", "sec-fetch-site": "same-origin"}
        return self._read(await self.http.post(path, data=fields, headers=own), expect)

    def _read(self, reply: httpx.Response, expect: int) -> str:
        assert reply.status_code == expect, (reply.status_code, reply.headers.get("location"), reply.text)
        if reply.is_redirect:
            return reply.headers["location"]
        self.text = unescape(reply.text)
        return self.text


def _held_in(form: str) -> dict[str, str | list[str]]:
    """What a form sends as it stands there; boxes are not ticked."""
    found: dict[str, list[str]] = {}
    for each in re.findall(r"<input[^>]*>", form):
        name, value = (re.search(rf'\b{attribute}="([^"]*)"', each) for attribute in ("name", "value"))
        if name and 'type="checkbox"' not in each:
            found.setdefault(name[1], []).append(unescape(value[1]) if value else "")
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


@asynccontextmanager
async def at_desk(world: World, actor: Actor) -> AsyncIterator[Desk]:
    client = world.client(actor)
    async with client.http as http:
        http.headers.update({"accept": "text/html", **client.headers})
        yield Desk(http)


def main_of(page: str) -> str:
    """What stands in the middle of a page, without marks."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2].partition("</nav>")[2]).split())


# ---- words


def words() -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in (FOLDER.parents[1] / "kit", FOLDER.parents[1] / "console", FOLDER):
        found |= json.loads((folder / "templates" / "words.sw.json").read_text("utf-8"))
    return found


def said_in_templates() -> Iterator[str]:
    for name in TEMPLATES:
        text = (FOLDER / "templates" / f"{name}.html").read_text("utf-8")
        for quoted in re.findall(r"""_\(\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", text):
            yield quoted[1:-1]


PROBLEMS: list[type[Problem]] = [
    *(rules.NotInThisState, rules.NoSuchLine, rules.NotThere, rules.WrongDeliveryCode, rules.TooManyWrongCodes),
    *(rules.CodeOrReason, rules.ReturnTooLate, rules.NotReturnable, rules.ReturnDecided, rules.NothingToRefund),
    *(rules.StillShort, rules.OrderFull, AnotherPersonDecides, NotWaiting, NotAllocated, Stale),
]


def test_all_that_the_pages_of_orders_say_is_said_in_swahili_too() -> None:
    said = {*said_in_templates(), *shell.DONE.values(), *shell.FIELDS.values()}
    for each in (wording.ORDERS, wording.PAYMENTS, wording.REFUNDS, wording.RETURNS, wording.HISTORY):
        said |= set(each.values())
    said |= {rules.SURPLUS, rules.NO_ORDER, rules.TOO_LATE, rules.REST}
    said |= {inspect.cleandoc(each.__doc__ or "") for each in PROBLEMS}
    assert len(said) > 180
    assert sorted(said - words().keys()) == []
    assert wording.HISTORY.keys() <= rules.TEXTS.keys()


# ---- who sees what


async def test_z1_each_sees_the_forms_of_what_they_may_do_and_no_other_works(
    ann: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world)
    here = f"{ORDERS}/{id}"
    helps = frozenset({SUPPORT, OWNER})
    forms = {
        "shipments": {WAREHOUSE, OWNER},
        **dict.fromkeys(("cancellation", "returns", "allocation", "refunds"), helps),
    }
    for actor in (WAREHOUSE, SUPPORT, OWNER):
        async with at_desk(world, actor) as desk:
            shown = await desk.open(here)
            assert ("Moi Avenue 3" in shown, "ann@msingi.test" in shown) == (True, True)
            for form, who in forms.items():
                if form in ("shipments", "cancellation", "refunds"):
                    assert (f"{here}/{form}" in shown) == (actor in who), (actor.id, form)
                refused = 409 if form == "allocation" else 422
                await desk.post(f"{here}/{form}", token(), refused if actor in who else 403)
            await desk.open(REFUNDS, 403 if actor is WAREHOUSE else 200)
            await desk.open(f"{REFUNDS}/{id}/none", 404 if actor is OWNER else 403)
    async with at_desk(world, ann.actor or OWNER) as desk:  # whose order it is, but it is not for their eyes here
        await desk.open(here, 403)
        await desk.open(ORDERS, 403)
    assert await state_of(id) == "confirmed"


async def test_a_form_from_elsewhere_changes_nothing(ann: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world)
    async with at_desk(world, OWNER) as desk:
        await desk.open(f"{ORDERS}/{id}")
        for path, fields in {
            "shipments": {"location_id": "nairobi", "line": "1", "quantity": "2", "version": "1"},
            "cancellation": {"sure": "yes", "reason": "No"},
            "refunds": {"amount": "1", "reason": "No", "version": "1"},
        }.items():
            await desk.post(f"{ORDERS}/{id}/{path}", fields, 403)
    assert await state_of(id) == "confirmed"


# ---- the board


async def test_the_board_shows_what_waits_for_what(ann: Client, bob: Client, bank: Bank, world: World) -> None:
    waiting = await place(ann)
    id = await paid(bob, bank, world)
    async with at_desk(world, WAREHOUSE) as desk:
        whole = await desk.open(ORDERS)
        assert whole.index(f'id="order-{id}"') < whole.index(f'id="order-{waiting["id"]}"')
        assert re.search(r'data-state="confirmed"[^>]*>To be sent <span class="count">1</span>', whole)
        assert waiting["number"] in await desk.open(f"{ORDERS}?state=awaiting_payment")
        assert waiting["number"] not in await desk.open(f"{ORDERS}?state=confirmed")
        assert waiting["number"] in await desk.open(f"{ORDERS}?number={waiting['number'][3:7].lower()}")
        for odd in ("MS-.*", "%00", "%ff", "(a+)+$", "$gt"):
            assert "No order fits." in await desk.open(f"{ORDERS}?number={odd}&state[$ne]=x")
        found = await desk.open(f"{ORDERS}?number={(await orders.get(id)).invoice}")
        assert (f"order-{id}" in found, waiting["number"] in found) == (True, False)
        first = await desk.open(f"{ORDERS}?limit=1")
        (more,) = re.findall(r'href="([^"]*after=[^"]+)"', first)
        assert waiting["number"] in await desk.open(more)


async def test_the_boards_script_is_sent_the_list_alone(ann: Client, world: World, bank: Bank) -> None:
    placed = await place(ann)
    async with at_desk(world, SUPPORT) as desk:
        part = await desk.open(ORDERS, as_script=True)
        assert f'data-version="{placed["version"]}" data-number="{placed["number"]}"' in part
        assert "<html" not in part
        standing = await desk.open(f"{ORDERS}/{placed['id']}", as_script=True)
        assert f'data-version="{placed["version"]}"' in standing
        assert "<h1" not in standing


# ---- sending


async def test_goods_are_sent_and_delivered_at_the_desk(ann: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world, {"tea-250": 2, "coffee-500": 1})
    here = f"{ORDERS}/{id}"
    async with at_desk(world, WAREHOUSE) as desk:
        await desk.open(here)
        again = await desk.send(f"{here}/shipments", 422, quantity=["0", "0"], carrier="Rider 7")
        assert "Say of what, and how many." in again
        assert 'value="Rider 7"' in again
        refused = await desk.send(f"{here}/shipments", 409, quantity=["3", "1"])
        assert "Of line TEA-250 2 can be sent from there, not 3." in refused
        led = await desk.send(f"{here}/shipments", quantity=["1", "1"], carrier="Rider 7", tracking="RD-1")
        assert led == f"{here}?done=order_sent"
        shown = await desk.open(led)
        assert {"It is on its way.", "Partly sent", "RD-1"} <= set(re.split(r"\s*<[^>]+>\s*", shown))
        await desk.send(f"{here}/shipments")
        assert await state_of(id) == "shipped"
        first, second = (await orders.get(id)).shipments
        await desk.open(here)
        wrong = f"{(int(first.code) + 1) % 10**6:06d}"
        assert "This is not the code" in await desk.send(f"{here}/shipments/{first.id}", 409, code=wrong)
        await desk.send(f"{here}/shipments/{first.id}", code=first.code)
        await desk.open(here)
        assert "There is no code" not in desk.text
        await desk.post(f"{here}/shipments/{second.id}", {**token(), "reason": "He signed."}, 403)
    async with at_desk(world, OWNER) as desk:
        await desk.open(here)
        await desk.send(f"{here}/shipments/{second.id}", having='name="reason"', reason="He signed.")
        assert "Counts as delivered without the code: He signed." in await desk.open(here)
    assert await state_of(id) == "delivered"
    assert await figures("tea-250") == (98, 0, 0)


def token() -> dict[str, str | list[str]]:
    """What a form of our pages carries, for who comes without a session."""
    return {"_csrf": csrf.token_for("")}


async def test_p1_a_form_that_is_sent_twice_at_once_sends_the_goods_once(ann: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world, {"tea-250": 4})
    async with at_desk(world, WAREHOUSE) as desk:
        await desk.open(f"{ORDERS}/{id}")
        version = str((await orders.get(id)).version)
        fields = {**token(), "version": version, "location_id": "nairobi", "line": "1", "quantity": "1"}
        own = {"origin": "http://msingi.test"}
        asks = (desk.http.post(f"{ORDERS}/{id}/shipments", data=fields, headers=own) for _ in range(4))
        statuses = sorted(each.status_code for each in await asyncio.gather(*asks))
    assert statuses == [303, 409, 409, 409]
    assert (await orders.get(id)).lines[0].shipped == 1


async def test_a_short_order_is_filled_at_the_desk_once_there_is_stock(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann, {"kikoi-blue": 1})
    id, here = placed["id"], f"{ORDERS}/{placed['id']}"
    await sell_out("kikoi-blue")
    await pay(bank, id)
    await world.work()
    assert await state_of(id) == "short"
    async with at_desk(world, SUPPORT) as desk:
        shown = await desk.open(here)
        assert "The money came when the goods were gone." in shown
        assert f"{here}/allocation" not in shown  # its money waits to go back
        await desk.post(f"{here}/allocation", token(), 409)
    (waits,) = (await payments_of(id))[0].refunds
    async with at_desk(world, OWNER) as desk:
        await desk.open(f"{REFUNDS}/{id}/{waits.id}")
        await desk.send(f"{REFUNDS}/{id}/{waits.id}", decision="refuse")
        await desk.open(here)
        assert "There is still not enough of kikoi-blue." in await desk.send(f"{here}/allocation", 409)
        async with alone():
            await stocks.change("kikoi-blue.nairobi", {"$set": {"on_hand": 1}})
        assert await desk.send(f"{here}/allocation") == f"{here}?done=order_filled"
    assert await state_of(id) == "confirmed"


# ---- giving up


async def test_an_order_is_cancelled_by_who_is_sure_and_says_why(ann: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world)
    path = f"{ORDERS}/{id}/cancellation"
    async with at_desk(world, SUPPORT) as desk:
        assert "and Ksh240.00 goes back to who paid." in await desk.open(path)
        await desk.send(path, 422, reason="She asked for it.")
        assert "She asked for it.</textarea>" in desk.text
        await desk.send(path, 422, reason="  ", sure="yes")
        assert await state_of(id) == "confirmed"
        await desk.send(path, reason="She asked for it.", sure="yes")
        assert "Cancelled: She asked for it." in await desk.open(f"{ORDERS}/{id}")
        assert path not in desk.text
        assert "This order cannot be cancelled any more. Its state: Cancelled." in await desk.open(path)
    await settled(world)
    assert bank.returned == 24_000
    await check_books([bank])


# ---- coming back


async def delivered(ann: Client, admin: Client, bank: Bank, world: World) -> Order:
    """Two packets of tea that have arrived."""
    id = await paid(ann, bank, world)
    async with at_desk(world, OWNER) as desk:
        await desk.open(f"{ORDERS}/{id}")
        await desk.send(f"{ORDERS}/{id}/shipments")
        (shipment,) = (await orders.get(id)).shipments
        await desk.open(f"{ORDERS}/{id}")
        await desk.send(f"{ORDERS}/{id}/shipments/{shipment.id}", code=shipment.code)
    return await orders.get(id)


async def test_goods_come_back_at_the_desk(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    here = f"{ORDERS}/{(await delivered(ann, admin, bank, world)).id}"
    id = here.rpartition("/")[2]
    async with at_desk(world, SUPPORT) as desk:
        await desk.open(here)
        await desk.send(f"{here}/returns", 422, quantity="1", reason=" ")
        await desk.send(f"{here}/returns", 409, quantity="3", reason="It is torn.")
        assert "Of line TEA-250 2 can be sent back, not 3." in desk.text
        await desk.send(f"{here}/returns", quantity="1", reason="It is torn.")
        (asked,) = (await orders.get(id)).returns
        await desk.open(here)
        await desk.send(f"{here}/returns/{asked.id}", state="approved", note="By Monday, please.")
        await desk.open(here)
        await desk.send(f"{here}/returns/{asked.id}/arrival", 422)
        assert (await orders.get(id)).returns[0].state == "approved"
        before = token()
    async with at_desk(world, OWNER) as desk:
        await desk.open(here)
        await desk.send(f"{here}/returns/{asked.id}/arrival", sure="yes", damaged="true")
        assert {"Back here", "damaged"} <= set(re.split(r"\s*<[^>]+>\s*", await desk.open(here)))
        twice = await desk.post(f"{here}/returns/{asked.id}/arrival", {**before, "sure": "yes"}, 409)
        assert "A return that is Back here cannot become Back here." in twice
    await settled(world)
    assert bank.returned == 12_000
    assert await figures("tea-250") == (98, 0, 0)  # it is damaged


async def test_a_return_is_refused_with_a_reason(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    here = f"{ORDERS}/{(await delivered(ann, admin, bank, world)).id}"
    async with at_desk(world, SUPPORT) as desk:
        await desk.open(here)
        await desk.send(f"{here}/returns", quantity="2", reason="It is torn.")
        (asked,) = (await orders.get(here.rpartition("/")[2])).returns
        await desk.open(here)
        await desk.send(f"{here}/returns/{asked.id}", state="refused", note="It was used.")
        assert "The return is refused: It was used." in await desk.open(here)
    assert bank.returned == 0


# ---- money


async def test_a19_a_refund_is_asked_by_one_and_approved_by_another_who_proved_it_lately(
    ann: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world)
    here = f"{ORDERS}/{id}"
    async with at_desk(world, OWNER) as desk:
        await desk.open(here)
        for bad in ("", "much", "1.999", "0", "-5", "NaN", "1e99"):
            await desk.send(f"{here}/refunds", 422, amount=bad, reason="Late.")
        assert "Ksh240.00 of what was paid for this order is left." in await desk.send(
            f"{here}/refunds", 409, amount="240.01", reason="Late."
        )
        await desk.send(f"{here}/refunds", amount="1,00.50", reason="Late.")
        (refund,) = (await payments_of(id))[0].refunds
        assert (refund.amount, refund.state) == (10_050, "waiting")
        assert "Take it back" in await desk.open(REFUNDS)
        own = await desk.open(f"{REFUNDS}/{id}/{refund.id}")
        assert "You asked for this one yourself: another person decides." in own
        refused = await desk.send(f"{REFUNDS}/{id}/{refund.id}", 403, decision="approve")
        assert "Who asked for a refund does not approve it: another person does." in refused
    stale = somebody("owner", id="boss", signed_in_at=int(clock.seconds()) - 400)
    async with at_desk(world, stale) as desk:
        assert (await desk.open(f"{REFUNDS}/{id}/{refund.id}", 303)).startswith("/step-up?back=")
        led = await desk.post(f"{REFUNDS}/{id}/{refund.id}", {"decision": "approve"})
        assert led.startswith("/step-up?back=")
    assert (await payments_of(id))[0].refunds[0].state == "waiting"
    async with at_desk(world, somebody("owner", id="boss")) as desk:
        await desk.open(f"{REFUNDS}/{id}/{refund.id}")
        await desk.send(f"{REFUNDS}/{id}/{refund.id}", 422, decision="perhaps")
        await desk.send(f"{REFUNDS}/{id}/{refund.id}", decision="approve")
        assert "None waits." in await desk.open(REFUNDS)
        await desk.open(f"{REFUNDS}/{id}/{refund.id}")
        assert "It does not wait for anybody." in desk.text
    await settled(world)
    assert bank.returned == 10_050


async def test_a_refund_that_is_sent_twice_is_asked_for_once(ann: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world)
    async with at_desk(world, SUPPORT) as desk:
        page = await desk.open(f"{ORDERS}/{id}")
        await desk.send(f"{ORDERS}/{id}/refunds", amount="10", reason="Late.")
        desk.text = page
        assert "It changed while you were at it" in await desk.send(
            f"{ORDERS}/{id}/refunds", 409, amount="10", reason="Late."
        )
    assert len((await payments_of(id))[0].refunds) == 1


async def test_a_provider_is_asked_again_about_a_payment_of_this_order(ann: Client, bank: Bank, world: World) -> None:
    placed, other = await place(ann), await place(ann)
    here, bank_s = f"{ORDERS}/{placed['id']}", f"{placed['id']}-1"
    bank.pay(bank_s)  # and nobody hears of it
    async with at_desk(world, SUPPORT) as desk:
        assert "The payer is asked" in await desk.open(here)
        await desk.post(f"{here}/payments/{other['id']}-1", token(), 404)
        await desk.open(here)
        await desk.send(f"{here}/payments/{bank_s}")
        assert "The provider was asked." in await desk.open(f"{here}?done=payment_asked")
        assert '<span class="tag good">Paid</span>' in desk.text
        assert f"{here}/payments/" not in desk.text


async def test_what_waits_and_what_is_sought_is_found_by_an_index(ann: Client, bank: Bank, world: World) -> None:
    await paid(ann, bank, world)
    kept, oldest = payments("shop").raw, [("created_at", 1), ("_id", 1)]
    plans = [
        await kept.find({"refunds.state": "waiting"}).sort(oldest).explain(),
        await orders.raw.find({"number": {"$regex": "^MS-AB"}}).explain(),
        await orders.raw.find({"state": "short"}).sort([("_id", -1)]).explain(),
    ]
    for plan in plans:
        chosen = str(plan["queryPlanner"]["winningPlan"])
        assert ("IXSCAN" in chosen, "COLLSCAN" in chosen, "'SORT'" in chosen) == (True, False, False), chosen


# ---- languages


@pytest.mark.parametrize("language", ["en", "sw"])
async def test_every_page_of_orders_speaks_the_readers_language(
    ann: Client, admin: Client, bank: Bank, world: World, language: str
) -> None:
    id = (await delivered(ann, admin, bank, world)).id
    waiting = await place(ann)
    async with at_desk(world, SUPPORT) as desk:
        await desk.open(f"{ORDERS}/{id}")
        await desk.send(f"{ORDERS}/{id}/refunds", amount="10", reason="Late.")
        await desk.open(f"{ORDERS}/{id}")
        await desk.send(f"{ORDERS}/{id}/returns", quantity="1", reason="It is torn.")
    refund = (await payments_of(id))[0].refunds[0].id
    known = words()
    english = {*said_in_templates(), *wording.HISTORY.values(), *wording.ORDERS.values()}
    wrong = {each for each in english if known[each] != each} if language == "sw" else set()
    async with at_desk(world, OWNER) as desk:
        for path in (
            ORDERS,
            f"{ORDERS}/{id}",
            f"{ORDERS}/{waiting['id']}/cancellation",
            REFUNDS,
            f"{REFUNDS}/{id}/{refund}",
        ):
            page = await desk.open(f"{path}?lang={language}")
            assert f'lang="{language}"' in page, path
            assert page.count("<h1") == 1, path
            visible = {each.strip() for each in re.split(r"<[^>]+>", page)}
            assert visible & wrong == set(), path
            assert not re.search(r" style=|<script>|onclick", page), path


def test_a_sum_is_read_as_people_write_it() -> None:
    assert order_page._minor("1,299.50", "KES") == 129_950
    assert order_page._minor("1 299", "UGX") == 1_299


async def test_the_board_tells_the_time_by_the_clock_of_the_shop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2025, 11, 20, 21, 5, tzinfo=UTC)
    assert board.brief(at) == "21 Nov, 00:05"
    here = state.current().parts
    monkeypatch.setitem(here, ShopSettings, msgspec.structs.replace(here[ShopSettings], zone="Africa/Lagos"))
    assert board.brief(at) == "20 Nov, 22:05"
