"""docs/contracts/shop-stock.md: how much there is, and that no more than that is ever sold."""

import re
from concurrent.futures import ThreadPoolExecutor

from msingi.checks import rules
from msingi.checks.harness import Answer, World, check, fresh, need_of_all, together, until
from msingi.checks.shop.market import (
    AVAILABILITY,
    MOVEMENTS,
    SHOP,
    Buyer,
    counts,
    new_good,
    new_product,
    pay_later,
    place,
    receive,
    shelf,
)

BUYERS = 200
FROM_ONE_PLACE = 25  # of them


def states(world: World, *variants: str) -> list[str]:
    """What is said of the availability of some variants."""
    answer = world.nobody.get(f"{SHOP}/availability?variants={','.join(variants)}").want(200)
    return [each["state"] for each in answer.fields("items")["items"]]


def agrees(answer: Answer) -> None:
    """What always holds of a stock."""
    on_hand, allocated, held = (answer.data[name] for name in ("on_hand", "allocated", "held"))
    answer.need(min(on_hand, allocated, held) >= 0, "no count below 0")
    answer.need(allocated + held <= on_hand, "no more promised than there is")
    answer.need(answer.data["available"] == on_hand - allocated - held, "available = on_hand − allocated − held")


@check("Anybody hears whether there is some, and nobody how many", part=AVAILABILITY)
def _(world: World) -> None:
    good, few = new_good(world, stock=20), new_good(world, stock=2)
    draft = new_product(world, publish=False)["variants"][0]["id"]
    service = new_good(world, tracked=False)
    named = (good.variant_id, few.variant_id, draft, "no-such-variant", service.variant_id)
    told = states(world, *named)
    answer = world.nobody.get(f"{SHOP}/availability?variants={','.join(named)}").want(200)
    wanted = ["in_stock", "few", "none", "none", "in_stock"]
    answer.need(told == wanted, f"{', '.join(wanted)}, in the order in which it was asked")
    answer.need(not re.search(rb":\s*\d", answer.content), "no number of goods")
    for query in ("variants=", "", "variants=" + ",".join(f"v{n}" for n in range(101))):
        world.nobody.get(f"{SHOP}/availability?{query}").problem(422)


@check("C3: goods that arrive are counted once, however often the request comes")
def _(world: World) -> None:
    good, key = new_good(world), fresh("key-")
    world.admin.post(shelf(world, good, "/receipts"), {"quantity": 5}).problem(400, code="idempotency_key_missing")
    first = receive(world, good, 5, key).want(201)
    again = together(*[lambda: receive(world, good, 5, key)] * 10)
    fine = all(each.status == 409 or each.content == first.content for each in again)
    need_of_all(again, fine, "the first answer again, byte for byte")
    receive(world, good, 6, key).problem(422, code="idempotency_key_reused")
    now = counts(world, good)
    now.need(now.data["on_hand"] == 5, "5 on hand")
    agrees(now)


@check("Quantities that are none arrive nowhere")
def _(world: World) -> None:
    good = new_good(world)
    for quantity in (0, -5, 1.5, "3", None, True, 10**9):
        rules.refuses(receive(world, good, quantity), "/quantity")
    key = {"Idempotency-Key": fresh("key-")}
    world.admin.post(f"{SHOP}/stock/{good.variant_id}/nowhere/receipts", {"quantity": 1}, headers=key).problem(404)
    world.admin.post(f"{SHOP}/stock/nothing/{place(world)}/receipts", {"quantity": 1}, headers=key).problem(404, 422)


@check("An order holds its goods, and what is promised cannot be carried away")
def _(world: World) -> None:
    good = new_good(world, stock=3)
    Buyer(world).order(good, 2)
    now = counts(world, good)
    told = tuple(now.data[name] for name in ("on_hand", "allocated", "held", "available"))
    now.need(told == (3, 0, 2, 1), "3 on hand, 2 held, 1 available")
    agrees(now)
    for rest, form in (("/damages", {"quantity": 2}), ("/counts", {"counted": 1})):
        headers = {"Idempotency-Key": fresh("key-")}
        world.admin.post(shelf(world, good, rest), form, headers=headers).problem(409, code="still_promised")
    guest = Buyer(world)
    guest.put(good, 2)
    told_off = guest.check_out()
    problem = told_off.problem(409, code="out_of_stock")
    named = problem.get("variant_id"), problem.get("left")
    told_off.need(named == (good.variant_id, 1), "which it is, and how many are left")


@check("What cannot all be had holds nothing back")
def _(world: World) -> None:
    enough, gone = new_good(world, stock=2), new_good(world)
    guest = Buyer(world)
    guest.put(enough, 2)
    guest.put(gone)
    guest.check_out().problem(409, code="out_of_stock")
    now = counts(world, enough)
    now.need(now.data["held"] == 0, "nothing held after a refusal")
    Buyer(world).order(enough, 2)


@check(
    f"P1: of {BUYERS} buyers who want the last one at once, exactly one gets it",
    hint="hold it in one guarded write: update … where available >= wanted; reading first and then writing oversells",
)
def _(world: World) -> None:
    good = new_good(world, stock=1)
    pay_later(world)
    crowd = world.crowd(BUYERS // FROM_ONE_PLACE)
    guests = [Buyer(world, crowd[number // FROM_ONE_PLACE]) for number in range(BUYERS)]
    with ThreadPoolExecutor(len(crowd)) as pool:
        list(pool.map(lambda guest: guest.put(good), guests))
    total = guests[0].total()
    answers = together(*[lambda guest=guest: guest.check_out(expected_total=total) for guest in guests])
    won = [answer for answer in answers if answer.status == 201]
    lost = [answer for answer in answers if answer.status == 409]
    need_of_all(answers, (len(won), len(lost)) == (1, BUYERS - 1), f"1 × 201, {BUYERS - 1} × 409 out_of_stock")
    for answer in lost[:20]:
        answer.problem(409, code="out_of_stock")
    now = counts(world, good)
    agrees(now)
    now.need((now.data["on_hand"], now.data["held"]) == (1, 1), "one on hand, and one held")
    now.need(states(world, good.variant_id) == ["none"], "none left for others")


@check("P1: buyers of several things in any order neither oversell nor wait for each other for ever")
def _(world: World) -> None:
    one, two = new_good(world, stock=5), new_good(world, stock=5)
    guests = [Buyer(world) for _ in range(20)]
    for number, guest in enumerate(guests):
        for good in (one, two) if number % 2 else (two, one):
            guest.put(good)
    total = guests[0].total()
    answers = together(*[lambda guest=guest: guest.check_out(expected_total=total) for guest in guests])
    won = sum(answer.status == 201 for answer in answers)
    fine = 1 <= won <= 5 and {answer.status for answer in answers} <= {201, 409}
    need_of_all(answers, fine, "at most 5 × 201, and 409 for the others")
    for good in (one, two):
        now = counts(world, good)
        now.need(now.data["held"] == won, f"{won} held, as many as there are orders")
        agrees(now)


@check("Every movement is written once, and together they are what is there", part=MOVEMENTS)
def _(world: World) -> None:
    good = new_good(world, stock=9)
    headers = [{"Idempotency-Key": fresh("key-")} for _ in range(2)]
    world.admin.post(shelf(world, good, "/damages"), {"quantity": 2, "reason": "wet"}, headers=headers[0]).want(201)
    world.admin.post(shelf(world, good, "/counts"), {"counted": 12}, headers=headers[1]).want(201)
    path = f"{SHOP}/movements?variant={good.variant_id}"
    answer = until(lambda: world.admin.get(path), lambda found: len(found.page()) == 3, "three movements", 10)
    kinds = {each["kind"]: each["on_hand"] for each in answer.page()}
    answer.need(kinds == {"received": 9, "damaged": -2, "counted": 5}, "9 received, 2 damaged, 5 more counted")
    now = counts(world, good)
    now.need(now.data["on_hand"] == sum(kinds.values()), "the sum of the movements on hand")
