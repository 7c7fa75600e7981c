"""docs/contracts/shop-cart.md: what goods cost together, to the last cent, and who may change that."""

from typing import Any

from msingi.checks import rules
from msingi.checks.harness import Answer, World, check, fresh, need_of_all, together
from msingi.checks.shop.market import (
    ADMIN,
    COUPONS,
    TOTALS,
    Buyer,
    Good,
    common,
    going,
    known,
    new_coupon,
    new_good,
    pay_later,
    tax_class,
)


def adds_up(answer: Answer) -> None:
    """What always holds of totals, whatever the goods are."""
    cart = answer.data
    totals, lines = cart["totals"], cart["lines"]
    sums = [*totals.values(), *(line[name] for line in lines for name in ("price", "discount", "total"))]
    answer.need(all(type(each) is int for each in sums), "whole minor units, and no fraction anywhere")
    goods = sum(line["quantity"] * line["price"] for line in lines)
    answer.need(totals["goods"] == goods, f"goods of {goods}: quantity × price of each line")
    answer.need(totals["discount"] == sum(line["discount"] for line in lines), "the discounts of all lines")
    reckoned = goods - totals["discount"] + totals["shipping"] + totals["tax_added"] + totals["rounding"]
    answer.need(totals["total"] == reckoned, "total = goods − discount + shipping + tax_added + rounding")
    answer.need(totals["rounding"] <= 0 and totals["total"] % 100 == 0, "rounding down to whole shillings")


def contained(amount: int, rate: int) -> int:
    """The tax that is contained in an amount, rounded half away from zero."""
    return (2 * amount * rate + 10_000 + rate) // (2 * (10_000 + rate))


def stove_and_tea(world: World) -> tuple[Good, Good]:
    """The goods of the contract's example."""

    def make() -> tuple[Good, Good]:
        kind = tax_class(world)
        stove = new_good(world, price=249_900, tracked=False, weight=5000, tax_class=kind)
        return stove, new_good(world, price=12_000, tracked=False, weight=250, tax_class=kind)

    return known(world, "stove_and_tea", make)


@check("P3: totals add up, whatever is in the cart")
def _(world: World) -> None:
    guest, good = Buyer(world), common(world)
    for quantity in (1, 3, 7):
        adds_up(guest.put(good, quantity))
        adds_up(guest.cart(going(world)))


@check("P3: the tax of each line is reckoned by its own rate, rounded half away from zero")
def _(world: World) -> None:
    guest, good = Buyer(world), common(world)
    for quantity in (1, 2, 3, 11, 97):
        line = guest.put(good, quantity).data["lines"][0]
        if line["tax"] is not None and line["tax"]["included"]:
            wanted = contained(quantity * line["price"] - line["discount"], line["tax"]["rate"])
            guest.cart().need(line["tax"]["amount"] == wanted, f"a contained tax of {wanted}")
    for price, wanted in ((4, 1), (3, 0), (249_900, 34_469), (12_345, 1_703)):
        tiny, buyer = new_good(world, price=price, tracked=False, tax_class=tax_class(world)), Buyer(world)
        answer = buyer.put(tiny)
        got = answer.data["lines"][0]["tax"]["amount"]
        answer.need(got == wanted, f"{wanted} of {price} at 16 % contained")


@check("P3: the contract's example comes out to the cent", part=COUPONS)
def _(world: World) -> None:
    stove, tea = stove_and_tea(world)
    tenth = new_coupon(world)
    amount = new_coupon(world, kind="amount", value=50_000, currency="KES", minimum=200_000, priority=1)
    guest = Buyer(world)
    guest.put(stove)
    guest.put(tea, 3)
    for code in (amount, tenth):
        guest.ask("PUT", f"/cart/coupons/{code.lower()}").want(200)
    cart = guest.cart(going(world))
    wanted = dict(zip(TOTALS, (285_900, 78_590, 60_000, 36_871, 0, -10, 267_300), strict=True))
    cart.need(cart.data["totals"] == wanted, f"the totals {wanted}", "one law of rounding, whole numbers throughout")
    lines = [(line["discount"], line["tax"]["amount"], line["total"]) for line in cart.data["lines"]]
    shared = [(68_694, 24_994, 181_206), (9_896, 3_601, 26_104)]
    cart.need(lines == shared, "discounts shared by largest remainder: 68,694 and 9,896")
    cart.need(cart.data["coupons_used"] == [tenth, amount], "both coupons used, by priority")
    adds_up(cart)


@check("P3: what is shared out is the whole, to the last cent", part=COUPONS)
def _(world: World) -> None:
    guest = Buyer(world)
    for _ in range(3):
        guest.put(new_good(world, price=10_000, tracked=False))
    code = new_coupon(world, kind="amount", value=100, currency="KES")
    cart = guest.ask("PUT", f"/cart/coupons/{code}").want(200)
    shares = [line["discount"] for line in cart.data["lines"]]
    cart.need(shares == [34, 33, 33], f"100 over three equal lines as 34, 33, 33; not {shares}")


@check("P3: tax that is not contained is added", part=COUPONS)
def _(world: World) -> None:
    kind = fresh("added")
    path = f"{ADMIN}/tax-rates/KE/{kind}"
    world.admin.put(path, {"rate": 1250, "included": False, "name": "Levy"}).want(200, 201)
    world.at_the_end.append(lambda: world.admin.delete(path))
    guest = Buyer(world)
    cart = guest.put(new_good(world, price=999, tracked=False, tax_class=kind), 4)
    totals = cart.data["totals"]
    told = totals["tax"], totals["tax_added"], totals["rounding"], totals["total"]
    cart.need(told == (500, 500, -96, 4_400), "500 added to 3,996, which is 4,400 in whole shillings")
    adds_up(cart)


@check("Of coupons that do not stack, the set with the lowest total is used", part=COUPONS)
def _(world: World) -> None:
    good, guest = new_good(world, price=100_000, tracked=False), Buyer(world)
    guest.put(good)
    weak, weaker = new_coupon(world, value=1000), new_coupon(world, value=500, priority=1)
    alone = new_coupon(world, value=1200, stacks=False)
    for code in (weak, weaker, alone):
        guest.ask("PUT", f"/cart/coupons/{code}").want(200)
    cart = guest.cart()
    used = cart.data["coupons_used"], cart.data["totals"]["discount"]
    cart.need(used == ([weak, weaker], 14_500), "the two that stack: 10,000 and 5 % of the 90,000 that are left")
    notices = {(each["details"].get("coupon"), each["details"].get("reason")) for each in cart.data["notices"]}
    cart.need((alone, "does_not_stack") in notices, "a notice that the third does not stack")


@check("A coupon waits for its minimum, and is refused when it is closed or over", part=COUPONS)
def _(world: World) -> None:
    good, guest = new_good(world, price=100_000, tracked=False), Buyer(world)
    guest.put(good)
    code = new_coupon(world, minimum=150_000, currency="KES")
    kept = guest.ask("PUT", f"/cart/coupons/{code}").want(200)
    kept.need((kept.data["coupons"], kept.data["coupons_used"]) == ([code], []), "it kept, and not used yet")
    details = next(each["details"] for each in kept.data["notices"] if each["code"] == "coupon_refused")
    told = details.get("reason"), details.get("minimum"), details.get("missing")
    kept.need(told == ("below_minimum", 150_000, 50_000), "a notice with the minimum and what is missing")
    guest.put(good, 2).need(guest.cart().data["coupons_used"] == [code], "it used from 150,000 on")
    over = new_coupon(world, ends_at="2020-01-01T00:00:00Z")
    early = new_coupon(world, starts_at="2090-01-01T00:00:00Z")
    for refused, reason in ((over, "ended"), (early, "not_yet")):
        answer = guest.ask("PUT", f"/cart/coupons/{refused}")
        why = answer.problem(409, code="coupon_refused").get("reason")
        answer.need(why == reason, f"the reason {reason}")


@check(
    "P3: a coupon with a limit of 1 is used by one of 30 buyers at once, and by nobody after",
    part=COUPONS,
    hint="count and hold it in one guarded write when the order is placed, not when it is shown",
)
def _(world: World) -> None:
    good, code = common(world), new_coupon(world, limit=1)
    pay_later(world)
    guests = [Buyer(world) for _ in range(30)]
    for guest in guests:
        guest.put(good)
    first = guests[0]
    first.ask("PUT", f"/cart/coupons/{code}").want(200)
    total = first.total()
    world.places.move()
    acts = [
        lambda n=n, guest=guest: guest.check_out(
            expected_total=total, coupons=[code], email=f"guest{n}@check.example.org"
        )
        for n, guest in enumerate(guests)
    ]
    answers = together(*acts)
    won = [answer for answer in answers if answer.status == 201]
    lost = [answer for answer in answers if answer.status == 409]
    need_of_all(answers, (len(won), len(lost)) == (1, 29), "1 × 201, 29 × 409")
    stored = world.admin.get(f"{ADMIN}/coupons/{code}").want(200)
    stored.need(stored.data["spent"] + stored.data["waiting"] == 1, "one use, spent or waiting")
    late = Buyer(world)
    late.put(good)
    late.check_out(expected_total=total, coupons=[code]).problem(409)


@check("P3: a cancelled order gives its coupon back", part=COUPONS)
def _(world: World) -> None:
    good, code = common(world), new_coupon(world, limit=1)
    guest, next_one = Buyer(world), Buyer(world)
    guest.put(good)
    guest.ask("PUT", f"/cart/coupons/{code}").want(200)
    order = guest.order(good)
    path = f"{ADMIN}/coupons/{code}"
    held = world.admin.get(path)
    held.need((held.data["spent"], held.data["waiting"]) == (0, 1), "the coupon held by the order")
    order.cancel().want(200)
    free = world.admin.get(path)
    free.need((free.data["spent"], free.data["waiting"]) == (0, 0), "the coupon free again")
    next_one.put(good)
    used = next_one.ask("PUT", f"/cart/coupons/{code}").want(200)
    used.need(used.data["coupons_used"] == [code], "it used by the next one")


@check("What makes no coupon, no rate and no way of shipping is refused")
def _(world: World) -> None:
    def refused(path: str, forms: tuple[dict[str, Any], ...], method: str = "POST") -> None:
        for form in forms:
            world.admin.ask(method, path, json=form).problem(422)

    code = fresh("CHECK-")
    refused(
        f"{ADMIN}/coupons",
        (
            {"code": code, "kind": "percent", "value": 0},
            {"code": code, "kind": "percent", "value": 10_001},
            {"code": code, "kind": "percent", "value": 12.5},
            {"code": code, "kind": "amount", "value": 100},
            {"code": code, "kind": "magic", "value": 100},
            {"code": "a b", "kind": "percent", "value": 100},
            {"code": code, "kind": "percent", "value": 100, "spent": 7},
            {"code": code, "kind": "percent", "value": 100, "limit": 0},
        ),
    )
    rate = f"{ADMIN}/tax-rates/KE/{fresh('check')}"
    refused(rate, ({"rate": -1}, {"rate": 10_001}, {"rate": 0.16}, {"rate": "16"}, {}), "PUT")
    way = {"name": "Check", "countries": ["KE"], "prices": {"KES": [[1000, 100]]}}
    refused(
        f"{ADMIN}/shipping-methods",
        (
            {**way, "prices": {"KES": [[1000, 100], [500, 200]]}},
            {**way, "prices": {"KES": []}},
            {**way, "countries": ["Kenya"]},
            {**way, "kind": "pick_up"},
            {**way, "colour": "red"},
        ),
    )
    rules.refuses_operators(world.admin, f"{ADMIN}/coupons", ("kind[$ne]=x", "spent=1", "closed=perhaps"))
