"""A shop that sells, a bank that pays, and buyers: what the tests of orders share."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import clock, events, peers, state
from msingi.kit.payments import ledger
from msingi.kit.payments.models import Payment
from msingi.kit.payments.testing import Bank
from msingi.kit.product import Product
from msingi.kit.testing import PEOPLE, Client, World
from msingi.kit.unit import alone
from msingi.products.accounts.contract import PEOPLE as PEOPLE_ASKED
from msingi.products.accounts.contract import PeopleAsked, Person
from msingi.products.shop.jobs import orders as jobs
from msingi.products.shop.jobs import stock as stock_jobs
from msingi.products.shop.models.orders import Order, orders
from msingi.products.shop.models.stock import locations, stocks
from msingi.products.shop.product import product
from msingi.products.shop.queries.orders import payments_of
from msingi.products.shop.queries.stock import verify
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.seeds_of_stock import plant_stock
from msingi.products.shop.tests.small_shop import plant_what_is_missing
from msingi.products.shop.till import Providers, till

ADDRESS = {
    "name": "Ann Wanjiru",
    "phone": "+254712345678",
    "country": "KE",
    "town": "Nairobi",
    "street": "Moi Avenue 3",
}
KEYS = count()


def manifest() -> Product:
    """The shop, with the work that orders and stock ask for."""
    more = [each for each in (jobs, stock_jobs) if each not in product.work]
    return replace(product, work=[*product.work, *more]) if more else product


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [manifest()]


async def answer(asked: PeopleAsked) -> list[Person]:
    known = {name: Person(name, name.capitalize(), f"{name}@msingi.test") for name in PEOPLE}
    return [known[each] for each in asked.ids if each in known]


@pytest_asyncio.fixture(loop_scope="session")
async def bank(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bank]:
    """A stocked shop whose buyers pay with this bank; or with `mobile`, which is another."""
    monkeypatch.setitem(peers._answerers, PEOPLE_ASKED.name, answer)
    if not await locations.exists({}):
        await plant_stock()
    await plant_what_is_missing()
    await events.forget(["shop"])
    known = Bank()
    state.current().parts[Providers] = Providers({"bank": known, "mobile": Bank("mobile")})
    yield known
    del state.current().parts[Providers]


def key() -> dict[str, str]:
    """A header that no request had before."""
    return {"idempotency-key": f"key {next(KEYS)}"}


def form(total: int, **more: Any) -> dict[str, Any]:
    """What a buyer sends to check out."""
    return {
        "address": ADDRESS,
        "shipping_id": "pick-up",
        "expected_total": total,
        "pay": {"provider": "bank"},
        **more,
    }


async def fill(client: Client, things: Mapping[str, int], headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """Put things into a cart; returns what opens it, if it is a guest's."""
    opened = dict(headers or {})
    for variant, quantity in things.items():
        await client.put(f"/cart/lines/{variant}", quantity=quantity, headers=opened)
        if "x-cart-token" in client.last.headers:
            opened["x-cart-token"] = client.last.headers["x-cart-token"]
    return opened


async def total_of(client: Client, headers: Mapping[str, str] | None = None, **more: Any) -> int:
    """What the cart costs, as the refusal of a wrong guess says."""
    refused = await client.post("/checkout", json=form(1, **more), headers={**key(), **(headers or {})}, expect=409)
    assert refused["code"] == "total_changed", refused
    total: int = refused["total"]
    return total


async def place(client: Client, things: Mapping[str, int] | None = None, **more: Any) -> dict[str, Any]:
    """Order things; returns the order as the reply shows it. A guest needs `email`."""
    headers = await fill(client, things or {"tea-250": 2})
    total = await total_of(client, headers, **more)
    placed: dict[str, Any] = await client.post(
        "/checkout", json=form(total, **more), headers={**key(), **headers}, expect=201
    )
    return placed


async def pay(bank: Bank, order_id: str, amount: int | None = None) -> None:
    """The buyer pays the last payment of an order, and the bank tells so."""
    (*_, last) = [each for each in await payments_of(order_id) if each.provider == bank.name]
    await tell(bank, bank.pay(last.id, amount))


async def tell(bank: Bank, facts: Any) -> None:
    headers, body, secret = bank.callback(facts)
    await till().hear(bank.name, headers, body, secret)


async def paid(client: Client, bank: Bank, world: World, things: Mapping[str, int] | None = None, **more: Any) -> str:
    """The id of an order that is placed and paid."""
    placed = await place(client, things, **more)
    await pay(bank, placed["id"])
    await world.work()
    return str(placed["id"])


def lines_of(**quantities: int) -> list[dict[str, Any]]:
    """The lines of a form, by line id."""
    return [{"line_id": id, "quantity": quantity} for id, quantity in quantities.items()]


async def settled(world: World) -> None:
    """All that is to be asked of banks is asked, and what follows is done."""
    await world.work()
    with clock.shifted(timedelta(minutes=2)):
        await till().reconcile()
    await world.work()


async def state_of(order_id: str) -> str:
    return (await orders.get(order_id)).state


async def end_hold(order_id: str = "") -> None:
    """Let the time to pay be over, by the database's clock: of all orders, or of one."""
    past = {"$subtract": ["$$NOW", 1000]}
    await orders.raw.update_many({"_id": order_id} if order_id else {}, [{"$set": {"held_until": past}}])
    is_meant = {"$eq": ["$$this.order_id", order_id]} if order_id else True
    ended = {"$cond": [is_meant, past, "$$this.until"]}
    mapped = {"$map": {"input": "$holds", "in": {"$mergeObjects": ["$$this", {"until": ended}]}}}
    await stocks.raw.update_many({}, [{"$set": {"holds": mapped}}])


async def sell_out(variant: str, location: str = "nairobi") -> None:
    """Everything that is not promised is gone; as a counting would say."""
    row = await stocks.get(f"{variant}.{location}")
    async with alone():
        await stocks.change(row.id, {"$set": {"on_hand": row.allocated, "holds": []}})


async def figures(variant: str, location: str = "nairobi") -> tuple[int, int, int]:
    """On hand, allocated, and how many hold some."""
    row = await stocks.get(f"{variant}.{location}")
    return row.on_hand, row.allocated, len(row.holds)


async def check_books(banks: list[Bank]) -> None:
    """Nobody's money is lost: what banks took and gave is what payments, orders and ledger say, and nobody is owed."""
    kept: list[Payment] = []
    for order in await orders.many({}):
        paid = await payments_of(order.id)
        kept += paid
        assert order.paid == sum(each.captured for each in paid), order
        assert order.refunded == sum(each.refunded for each in paid), order
        assert order.refunded <= order.paid, order
        check_snapshot(order)
        if order.state in (*rules.CONFIRMED, "cancelled"):
            owed = await ledger.balance("shop", ledger.receivable(rules.purpose_of(order.id)), order.currency)
            assert owed == 0, (order.state, owed)
    assert await ledger.verify("shop") == []
    assert sum(bank.charged for bank in banks) == sum(each.captured for each in kept)
    assert sum(bank.returned for bank in banks) == sum(each.refunded for each in kept)


def check_snapshot(order: Order) -> None:
    """An order's total is that of its lines, for ever."""
    sums = order.totals
    assert sums.goods == sum(line.quantity * line.price for line in order.lines)
    assert sums.discount >= sum(line.discount for line in order.lines)
    assert sums.total == sums.goods - sums.discount + sums.shipping + sums.tax_added + sums.rounding


async def drifts() -> list[Any]:
    """Where stock is not what its movements say; the test world is planted without any."""
    return [each for each in await verify() if each.what != "stock_on_hand"]


class Killed(BaseException):
    """The process is gone at this line."""


def die_once(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, *, after: bool) -> None:
    """Have the process die once, before or after it does this."""
    real = getattr(where, name)
    died: list[int] = []

    async def once(*args: Any, **more: Any) -> Any:
        if died:
            return await real(*args, **more)
        died.append(1)
        if after:
            await real(*args, **more)
        raise Killed

    monkeypatch.setattr(where, name, once)
