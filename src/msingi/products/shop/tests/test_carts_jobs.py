"""Carts without a request: the letter about one that was left, and what an erased account leaves behind."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
import pytest_asyncio

from msingi.kit import clock, mail, peers
from msingi.kit.mail import rendered
from msingi.kit.testing import Client, World
from msingi.products.accounts.contract import PEOPLE as QUESTION
from msingi.products.accounts.contract import PeopleAsked, Person, UserErased
from msingi.products.shop.actions.coupons import hold_coupons
from msingi.products.shop.jobs import carts as jobs
from msingi.products.shop.models.carts import carts
from msingi.products.shop.models.pricing import coupons, personal_uses
from msingi.products.shop.queries import carts as queries
from msingi.products.shop.tests.small_shop import plant_what_is_missing

DAY = timedelta(hours=25)
TEA, KIKOI = "/cart/lines/tea-250", "/cart/lines/kikoi-red"
KNOWN = {name: Person(name, name.capitalize(), f"{name}@msingi.test") for name in ("ann", "bob")}


async def answer(asked: PeopleAsked) -> list[Person]:
    return [KNOWN[each] for each in asked.ids if each in KNOWN]


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as alone:
        alone.setitem(peers._answerers, QUESTION.name, answer)
        yield


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def shop(world: World) -> None:
    await plant_what_is_missing()


async def letters(world: World) -> list[tuple[str, str]]:
    return [(template, to) for template, to, _ in await world.letters()]


async def test_whoever_left_a_cart_is_written_to_once_after_a_day(ann: Client, world: World) -> None:
    cart = await ann.put(TEA, quantity=2)
    await jobs.remind_of_carts()
    with clock.shifted(timedelta(hours=23)):
        await jobs.remind_of_carts()
    assert await world.letters() == []
    for later in (DAY, DAY, 5 * DAY):
        with clock.shifted(later):
            await jobs.remind_of_carts()
    assert await letters(world) == [("cart_left", "ann@msingi.test")]
    assert (await carts.get("user.ann")).version == cart["version"]  # which a checkout may have been decided on


async def test_run_at_once_it_is_still_written_once(ann: Client, bob: Client, world: World) -> None:
    await ann.put(TEA, quantity=2)
    await bob.put(TEA, quantity=1)
    with clock.shifted(DAY):
        await asyncio.gather(*(jobs.remind_of_carts() for _ in range(6)))
    assert sorted(await letters(world)) == [("cart_left", "ann@msingi.test"), ("cart_left", "bob@msingi.test")]


async def test_nobody_is_written_to_about_what_they_changed_emptied_or_left_as_a_guest(
    ann: Client, bob: Client, nobody: Client, world: World
) -> None:
    await nobody.put(TEA, quantity=1)
    await bob.put(TEA, quantity=1)
    await bob.delete(TEA)
    await ann.put(TEA, quantity=1)
    await carts.raw.update_one({"_id": "user.ann"}, {"$set": {"updated_at": clock.now() + timedelta(hours=2)}})
    with clock.shifted(DAY):
        await jobs.remind_of_carts()
    assert await world.letters() == []


async def test_nobody_is_written_to_about_a_cart_of_long_ago(ann: Client, world: World) -> None:
    await ann.put(TEA, quantity=1)
    with clock.shifted(timedelta(days=15)):
        await jobs.remind_of_carts()
    assert await world.letters() == []


async def test_a_cart_that_was_emptied_is_another_one_afterwards(ann: Client, world: World) -> None:
    await ann.put(TEA, quantity=1)
    with clock.shifted(DAY):
        await jobs.remind_of_carts()
    await ann.delete("/cart")
    await ann.put(KIKOI, quantity=1)
    with clock.shifted(DAY):
        await jobs.remind_of_carts()
    assert len(await world.letters()) == 2


async def test_letters_wait_where_nobody_knows_an_address(
    ann: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ann.put(TEA, quantity=1)
    with monkeypatch.context() as alone, clock.shifted(DAY):
        alone.delitem(peers._answerers, QUESTION.name)
        await jobs.remind_of_carts()
        assert await world.letters() == []
    with clock.shifted(DAY):
        await jobs.remind_of_carts()
    assert len(await world.letters()) == 1


async def test_somebody_without_an_account_is_asked_for_once(eve: Client, world: World) -> None:
    await eve.put(TEA, quantity=1)
    with clock.shifted(DAY):
        await jobs.remind_of_carts()
    assert await world.letters() == []
    assert (await carts.get("user.eve")).reminded_at is not None


@pytest.mark.parametrize(
    ("language", "subject", "line"),
    [
        ("en", "Something is waiting in your cart", "2 × Tea"),
        ("sw", "Kuna bidhaa kwenye kikapu chako", "2 × Chai"),
    ],
)
async def test_the_letter_names_what_was_left_in_the_persons_language(
    ann: Client, world: World, monkeypatch: pytest.MonkeyPatch, language: str, subject: str, line: str
) -> None:
    monkeypatch.setitem(KNOWN, "ann", Person("ann", "Ann", "ann@msingi.test", language))
    await ann.put(TEA, quantity=2)
    titles = {"lines.0.title": {"en": "Tea", "sw": "Chai"}}
    await carts.raw.update_one({"_id": "user.ann"}, {"$set": titles})
    with clock.shifted(DAY):
        await jobs.remind_of_carts()
    (letter,) = await mail.written()
    said = rendered(letter)
    assert said.subject == subject
    assert f"    {line}\n" in said.text


async def test_an_erased_account_leaves_neither_cart_nor_uses_behind(ann: Client, bob: Client, world: World) -> None:
    await ann.put(TEA, quantity=1)
    await bob.put(TEA, quantity=1)
    await coupons.raw.update_one({"_id": "KARIBU"}, {"$set": {"limit_each": 1}})
    for person in ("ann", "bob"):
        await hold_coupons(f"o-{person}", ["KARIBU"], person, 3600)
    assert (await queries.person("ann"))["coupons"] == {"KARIBU": 0}
    assert (await queries.person("ann"))["cart"]["lines"][0]["quantity"] == 1
    await jobs.forget_erased_shopper.receive(UserErased(user_id="ann").envelope())
    await world.work()
    await jobs.forget_shopper("ann")
    assert await queries.person("ann") == {"cart": None, "coupons": {}}
    assert [each.id for each in await carts.many({})] == ["user.bob"]
    assert [each.id for each in await personal_uses.many({})] == ["KARIBU.bob"]
