"""The shop checks: our own server passes them all, and each of the drills fails where its promise is broken.

Between the checks and the house stands a server that passes everything on, but for the one promise that it breaks.
"""

import itertools
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.serving import Served, own_databases, sandbox, serving
from tests.test_account_drills import Asked, Breaks, PassOn, Reply, asked_otherwise, changed, in_front_of, turned

from msingi import preflight
from msingi.checks import running
from msingi.checks.command import check as command
from msingi.checks.harness import Result, World
from msingi.checks.shop import market


@dataclass
class House:
    """A shop, and the stand-in of the payment providers that it asks for money."""

    served: Served
    sandbox: str
    kept: dict[str, Any]  # what all checks use: made once

    def world(self, url: str = "", **more: Any) -> World:
        url = url or self.served.url
        admin = {"admin_email": "admin@msingi.test", "admin_password": self.served.password}
        return World(url, url, **{**admin, "sandbox": self.sandbox, "kept": dict(self.kept), **more})

    def found(self, title: str, breaks: Breaks | None = None, **more: Any) -> list[Result]:
        """What comes of the checks with this in their title, at a server that breaks this."""
        with in_front_of(self.served, breaks or whole) as url, self.world(url, **more) as world:
            return list(running.results("shop", world, title))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Accounts and the shop with a worker, two web processes, and the limits that a house has by itself."""
    limits = {"MSINGI_ANONYMOUS_LIMIT": "300/minute", "MSINGI_MEMBER_LIMIT": "3000/minute"}
    with shop_house(tmp_path_factory.mktemp("shop"), **limits) as house, house.world() as world:
        for make in (market.common, market.going, market.place, market.tax_class, market.pay_later):
            make(world)
        house.kept.update(world.kept)
        yield house


@contextmanager
def shop_house(folder: Path, **more: str) -> Iterator[House]:
    """Accounts and the shop as processes, and the payment sandbox, which tells them of cards."""
    port = str(preflight.free_port("127.0.0.1"))
    url = f"http://127.0.0.1:{port}"
    told = {
        "MSINGI_PORT": port,
        "MSINGI_PUBLIC_URL": url,
        "MSINGI_STRIPE_WEBHOOK_SECRET": secrets.token_hex(16),
        "MSINGI_SHOP_PROMPTS_TO_PHONE": "10000/minute",  # the tests are many buyers, whose phones are few
        **more,
    }
    with sandbox(folder, told, "--stripe-hook", f"{url}/v1/shop/callbacks/cards") as there:
        known: dict[str, Any] = {**own_databases(56), **told, "MSINGI_SHOP_SANDBOX_URL": there}
        with serving(folder, **known, products=("accounts", "shop")) as served:
            yield House(served, there, {})


# ---- what is proven


@pytest.mark.timeout(300)
def test_our_own_shop_passes_every_check_and_leaves_nothing_out(house: House) -> None:
    with house.world(required=frozenset({"all"}), kept={}) as world:
        running.prepare("shop", world)
        found = list(running.results("shop", world))
    assert [each.members for each in found if each.outcome != "passed"] == []
    assert len(found) >= 90


def test_without_an_admin_what_needs_one_is_skipped_and_says_so(house: House) -> None:
    with house.world(admin_email="", kept={}) as world:
        found = list(running.results("shop", world, "P3"))
    outcomes = {each.outcome for each in found}
    assert outcomes == {"passed", "skipped"}
    assert all("--admin-email" in each.hint for each in found if each.outcome == "skipped")


def test_without_the_sandbox_what_needs_money_to_move_is_skipped_and_says_so(house: House) -> None:
    with house.world(sandbox="") as world:
        found = list(running.results("shop", world, "is paid by"))
    assert [each.outcome for each in found] == ["skipped"] * 2
    assert all("--sandbox" in each.hint for each in found)


def test_a_part_that_a_shop_leaves_out_is_not_offered_and_has_not_failed_unless_it_is_required(house: House) -> None:
    breaks = turned("GET", "/facets$", 404, 200)
    assert [each.outcome for each in house.found("facets", breaks)] == ["not offered"]
    assert [each.outcome for each in house.found("facets", breaks, required=frozenset({"facets"}))] == ["failed"]


def test_a_part_that_nobody_knows_is_exit_code_2_and_names_those_that_there_are(house: House) -> None:
    done = CliRunner().invoke(command, ["shop", "--url", house.served.url, "--require", "bargains"])
    assert done.exit_code == 2
    assert "mobile-money" in done.output


def test_tokens_of_carts_and_orders_stand_in_no_report(house: House) -> None:
    found = house.found("A guest reads their order", turned("GET", "/orders/[^/]+$", 500, 200))
    found += house.found("A guest's first write", turned("GET", "/cart$", 500, 200))
    assert [each.outcome for each in found] == ["failed"] * 2
    assert not any("X-" in each.asked for each in found)


# ---- a server that breaks one promise


def whole(asked: Asked, pass_on: PassOn) -> Reply:
    return pass_on(asked)


def with_another_key(method: str, path: str) -> Breaks:
    """A key is as good as any: nobody looks at it."""
    numbers = itertools.count()

    def change(asked: Asked) -> Asked:
        if "idempotency-key" not in asked.headers:
            return asked
        return replace(asked, headers={**asked.headers, "idempotency-key": f"{secrets.token_hex(8)}{next(numbers)}"})

    return asked_otherwise(method, path, change)


def without(path: str, header: str, method: str = "GET") -> Breaks:
    """Nobody looks at a header."""

    def change(asked: Asked) -> Asked:
        return replace(asked, headers={name: value for name, value in asked.headers.items() if name != header})

    return asked_otherwise(method, path, change)


def in_address(path: str, old: str, new: str) -> Breaks:
    """The server reads one thing in an address as another."""
    return asked_otherwise("GET", path, lambda asked: replace(asked, path=asked.path.replace(old, new)))


def in_lines(path: str, change: Callable[[dict[str, Any]], dict[str, Any]], method: str = "GET") -> Breaks:
    """Each line of a cart or an order says something else."""
    return changed(method, path, lambda told: {**told, "lines": [change(line) for line in told["lines"]]})


def both(*some: Breaks) -> Breaks:
    """One thing that is broken in several places."""

    def act(asked: Asked, pass_on: PassOn) -> Reply:
        whole_way = pass_on
        for each in some:
            whole_way = _around(each, whole_way)
        return whole_way(asked)

    return act


def _around(breaks: Breaks, pass_on: PassOn) -> PassOn:
    return lambda asked: breaks(asked, pass_on)


def less_tax(line: dict[str, Any]) -> dict[str, Any]:
    """Rounded down, as whole numbers are divided by themselves: here simply one less."""
    return {**line, "tax": {**line["tax"], "amount": line["tax"]["amount"] - 1}} if line["tax"] else line


def as_fractions(told: Any) -> Any:
    """Shillings instead of cents."""
    priced = [{**each, "price": {"amount": each["price"]["amount"] / 100, "currency": "KES"}} for each in told["items"]]
    return {**told, "items": priced}


def with_formulas(asked: Asked, pass_on: PassOn) -> Reply:
    """A table whose cells are as they were typed."""
    reply = pass_on(asked)
    return replace(reply, body=reply.body.replace(b"'=", b"=")) if "export" in asked.path else reply


def in_silence(asked: Asked, pass_on: PassOn) -> Reply:
    """A stream that begins, and never says anything."""
    if not asked.is_to("GET", "/live$"):
        return pass_on(asked)
    return Reply(200, [("content-type", "text/event-stream")], b": here\n\n")


def searching_nothing(asked: Asked) -> Asked:
    """A search that looks at no words."""
    return replace(asked, path=asked.path.partition("?")[0]) if "q=" in asked.path else asked


def confirmed_at_once(told: Any) -> Any:
    """Whatever came in is enough."""
    return {**told, "state": "confirmed"} if told["paid"] else told


ORDER, CART, LINES = "/orders/[^/]+$", "/cart$", "/cart/lines/"
STOCK = "/stock/[^/]+/[^/]+$"
NEW_ORDER = {"id": "x", "totals": {"total": 0}, "lines": [{"price": 0}]}


def sold_always(code: str) -> Breaks:
    return turned("POST", "/checkout$", 201, 409, code=code, data=NEW_ORDER)


# What breaks, and the checks that are to tell it.
MUTANTS: dict[str, tuple[Callable[[], Breaks], tuple[str, ...]]] = {
    "money_is_a_fraction": (lambda: changed("GET", "/products$", as_fractions), ("money is whole minor units",)),
    "newest_versions_are_sent_again": (lambda: without("/products/", "if-none-match"), ("of a product already hears",)),
    "pages_repeat": (
        lambda: changed("GET", "/products$", lambda told: {**told, "items": told["items"] + told["items"][:1]}),
        ("Pages of goods follow",),
    ),
    "searches_find_everything": (
        lambda: asked_otherwise("GET", "/products$", searching_nothing),
        ("Patterns and operators", "found by whole words"),
    ),
    "filters_do_nothing": (lambda: in_address("/products$", "facet=", "currency=KES&sort=price#"), ("Filters narrow",)),
    "drafts_are_shown": (
        lambda: turned("GET", "/products/[^/]+$", 200, 404, data={}),
        ("A draft is seen by nobody",),
    ),
    "formulas_run": (lambda: with_formulas, ("An exported table",)),
    "writers_race": (lambda: without("/", "if-match", "PATCH"), ("Of ten who change",)),
    "windows_overwrite_each_other": (
        lambda: both(without(LINES, "if-match", "PUT"), without(CART, "if-match", "DELETE")),
        ("keeps two windows apart", "Of twenty who change"),
    ),
    "carts_are_merged_twice": (
        lambda: in_lines(CART, lambda line: {**line, "quantity": line["quantity"] + 3}),
        ("goes into the cart of who signs in",),
    ),
    "prices_come_from_clients": (
        lambda: turned("PUT", LINES, 200, 422, data={"lines": []}),
        ("no price is taken", "Quantities that are none are refused"),
    ),
    "prices_change_in_silence": (
        lambda: in_lines(CART, lambda line: {**line, "changed": False, "price_agreed": line["price"]}),
        ("A change of price is shown",),
    ),
    "tax_is_cut_off": (
        lambda: both(in_lines(CART, less_tax), in_lines(LINES, less_tax, "PUT")),
        ("the tax of each line", "the contract's example"),
    ),
    "totals_do_not_add_up": (
        lambda: changed(
            "GET", CART, lambda told: {**told, "totals": {**told["totals"], "total": told["totals"]["total"] + 100}}
        ),
        ("totals add up",),
    ),
    "coupons_never_run_out": (lambda: sold_always(""), ("a coupon with a limit of 1",)),
    "cancelled_orders_keep_coupons": (
        lambda: changed("GET", "/coupons/", lambda told: {**told, "waiting": 1}),
        ("gives its coupon back",),
    ),
    "stock_is_oversold": (
        lambda: sold_always("out_of_stock"),
        ("of 200 buyers", "what is promised", "What cannot all be had"),
    ),
    "goods_arrive_twice": (lambda: with_another_key("POST", "/receipts$"), ("goods that arrive are counted once",)),
    "stock_is_told": (
        lambda: changed("GET", "/availability$", lambda told: {**told, "left": 20}),
        ("Anybody hears whether",),
    ),
    "totals_of_clients_are_believed": (
        lambda: sold_always("total_changed"),
        ("a total that is not the server's", "whatever happens to a price"),
    ),
    "keys_are_not_needed": (
        lambda: turned("POST", "/checkout$", 201, 400, code="idempotency_key_missing", data=NEW_ORDER),
        ("Checkout needs",),
    ),
    "keys_are_not_looked_at": (
        lambda: with_another_key("POST", "/checkout$"),
        ("with the same bytes", "sent 50 times at once"),
    ),
    "keys_are_good_for_anything": (
        lambda: turned("POST", "/checkout$", 201, 422, code="idempotency_key_reused", data=NEW_ORDER),
        ("with the same bytes",),
    ),
    "a_cart_makes_many_orders": (lambda: sold_always(""), ("one cart makes one order",)),
    "bad_json_crashes": (lambda: turned("POST", "/checkout$", 500, 400), ("What is no JSON is 400 at checkout",)),
    "orders_change_with_the_goods": (
        lambda: in_lines(ORDER, lambda line: {**line, "title": {"en": "Something else", "sw": ""}}),
        ("An order is a snapshot",),
    ),
    "tokens_open_any_order": (
        lambda: turned("GET", ORDER, 200, 404, data={}),
        ("A guest reads their order", "somebody else's order is 404"),
    ),
    "strangers_hear_403": (lambda: turned("PUT", "/orders/", 403, 404), ("somebody else's order is 404",)),
    "streams_say_nothing": (
        lambda: in_silence,
        ("A guest follows their order live", "comes back to their order's stream"),
    ),
    "anybody_follows": (
        lambda: turned("GET", "/live$", 200, 404, data={}),
        ("an order is followed by no other guest",),
    ),
    "tokens_are_taken_from_addresses": (
        lambda: turned("GET", "/live$", 200, 401, data={}),
        ("an order is followed by no other guest",),
    ),
    "swahili_is_english": (
        lambda: in_address("/timeline$", "language=sw", "language=en"),
        ("The history of an order",),
    ),
    "goods_come_back_twice": (
        lambda: changed("GET", STOCK, lambda told: {**told, "on_hand": told["on_hand"] + 2}),
        ("two who cancel at once", "What was delivered can be sent back once"),
    ),
    "goods_are_sent_twice": (
        lambda: turned("POST", "/shipments$", 201, 409, data={}),
        ("Goods leave as far as",),
    ),
    "codes_can_be_guessed": (
        lambda: turned("PUT", "/delivery$", 200, 409, code="too_many_wrong_codes", data={}),
        ("A code for a delivery",),
    ),
    "anybody_tells_of_money": (
        lambda: turned("POST", "/callbacks/", 200, 400, data={}),
        ("a card event that", "a callback to an address", "Whatever comes to the callbacks"),
    ),
    "callbacks_count_each_time": (
        lambda: changed("GET", ORDER, lambda told: {**told, "paid": told["paid"] * 2}),
        ("a callback that comes 50 times",),
    ),
    "less_is_enough": (lambda: changed("GET", ORDER, confirmed_at_once), ("who pays less",)),
    "money_goes_back_twice": (
        lambda: changed("GET", ORDER, lambda told: {**told, "refunded": told["refunded"] * 2}),
        ("is paid back, once",),
    ),
    "one_person_refunds": (lambda: turned("PUT", "/approval$", 200, 403, data={}), ("A refund that somebody",)),
    "books_do_not_balance": (
        lambda: changed("GET", "/ledger$", lambda told: [*told, {"account": "x", "currency": "KES", "amount": 1}]),
        ("the ledger adds up",),
    ),
    "customers_are_staff": (
        lambda: turned("GET", "/coupons$", 200, 403, data={"items": [], "next": None}),
        ("what is staff's is closed",),
    ),
    "staff_may_do_everything": (
        lambda: turned("POST", "/coupons$", 201, 403, data={}),
        ("what is staff's is closed", "each right of the staff"),
    ),
}
DRILLS = [(name, title) for name, (_, titles) in MUTANTS.items() for title in titles]


@pytest.mark.parametrize(("name", "title"), DRILLS)
def test_a_drill_fails_where_its_promise_is_broken(name: str, title: str, house: House) -> None:
    found = house.found(title, MUTANTS[name][0]())
    assert [each.outcome for each in found] == ["failed"], found
