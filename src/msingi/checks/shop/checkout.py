"""docs/contracts/shop-orders.md: from a cart to an order, once, at the price that the buyer agreed to."""

from msingi.checks import rules
from msingi.checks.harness import World, check, fresh, need_of_all, together, until
from msingi.checks.shop.market import (
    COUPONS,
    ORDER_TOKEN,
    SHOP,
    TOTALS,
    Buyer,
    Order,
    common,
    counts,
    going,
    new_coupon,
    new_good,
    pay_later,
    reprice,
    ways,
)

AT_ONCE = 50
ORDER = (
    *("id", "number", "state", "currency", "lines", "totals", "address", "shipping_id", "held_until", "paid"),
    *("refunded", "payments", "shipments", "returns", "refunds", "invoice", "created_at", "updated_at", "version"),
)


@check("An order is what was in the cart, at the total that the buyer saw, and the cart is empty then")
def _(world: World) -> None:
    guest, good = Buyer(world), common(world)
    guest.put(good, 3)
    shown = guest.cart(going(world)).data["totals"]
    made = guest.check_out().want(201)
    order = made.fields(*ORDER)
    made.need(order["state"] == "awaiting_payment", "the state awaiting_payment")
    made.need({name: order["totals"][name] for name in TOTALS} == shown, "the totals of the cart")
    lines = [(line["variant_id"], line["quantity"], line["price"]) for line in order["lines"]]
    made.need(lines == [(good.variant_id, 3, good.price)], "the lines of the cart")
    made.need((order["paid"], len(order["payments"])) == (0, 1), "nothing paid yet, and one payment asked for")
    empty = guest.cart()
    empty.need(empty.data["lines"] == [], "an empty cart")
    guest.check_out(expected_total=0).problem(409, code="cart_empty")


@check("Checkout needs an Idempotency-Key")
def _(world: World) -> None:
    guest = Buyer(world)
    guest.put(common(world))
    form = guest.form()
    guest.ask("POST", "/checkout", form).problem(400, code="idempotency_key_missing")
    for key in ("k" * 256, ""):
        guest.ask("POST", "/checkout", form, Idempotency_Key=key).problem(400)
    guest.cart().need(len(guest.cart().data["lines"]) == 1, "the cart as it was")


@check("C3: the same checkout again is answered with the same bytes, and another body with the same key is refused")
def _(world: World) -> None:
    guest, key = Buyer(world), fresh("key-")
    guest.put(common(world))
    form = guest.form()
    first = guest.ask("POST", "/checkout", form, Idempotency_Key=key).want(201)
    for _ in range(3):
        again = guest.ask("POST", "/checkout", form, Idempotency_Key=key).want(201)
        again.need(again.content == first.content, f"the first answer again, byte for byte: {first.came}")
    other = {**form, "address": {**form["address"], "street": "elsewhere"}}
    guest.ask("POST", "/checkout", other, Idempotency_Key=key).problem(422, code="idempotency_key_reused")


@check(
    f"C3: the same checkout sent {AT_ONCE} times at once with one key makes one order",
    hint="take the key in one step that only one can win, before anything is held or made",
)
def _(world: World) -> None:
    good, guest, key = new_good(world, stock=AT_ONCE), Buyer(world), fresh("key-")
    guest.put(good)
    form = guest.form()
    answers = together(*[lambda: guest.ask("POST", "/checkout", form, Idempotency_Key=key)] * AT_ONCE)
    bodies = {answer.content for answer in answers if answer.status == 201}
    fine = {answer.status for answer in answers} <= {201, 409} and len(bodies) == 1
    need_of_all(answers, fine, "201 with one body, or 409 while it is under way")
    again = guest.ask("POST", "/checkout", form, Idempotency_Key=key).want(201)
    again.need(again.content in bodies, "the first answer again, byte for byte, now that it is done")
    now = counts(world, good)
    now.need(now.data["held"] == 1, f"one held, for one order; {now.data['held']} are")


@check("C3: one cart makes one order, under however many keys it is sent")
def _(world: World) -> None:
    good, guest = new_good(world, stock=20), Buyer(world)
    guest.put(good)
    form = guest.form()
    answers = together(*[lambda: guest.ask("POST", "/checkout", form, Idempotency_Key=fresh("key-"))] * 10)
    statuses = [answer.status for answer in answers]
    need_of_all(answers, (statuses.count(201), statuses.count(409)) == (1, 9), "1 × 201, 9 × 409")
    now = counts(world, good)
    now.need(now.data["held"] == 1, f"one held, for one order; {now.data['held']} are")


@check("P2: a total that is not the server's is refused, with what it is now")
def _(world: World) -> None:
    guest = Buyer(world)
    guest.put(common(world))
    total = guest.total()
    for expected in (0, 1, total - 1, total + 1, total * 100):
        answer = guest.check_out(expected_total=expected)
        told = answer.problem(409, code="total_changed")
        sums = told.get("total"), told.get("expected")
        answer.need(sums == (total, expected), "the total of now, and the expected one")
        answer.need(set(TOTALS) <= set(told.get("totals", {})), "all of the totals")
    guest.cart().need(len(guest.cart().data["lines"]) == 1, "the cart as it was")


@check("P2: prices, totals and states in the form of checkout are refused, not used")
def _(world: World) -> None:
    guest = Buyer(world)
    guest.put(common(world))
    form = guest.form()
    for name, value in (("total", 1), ("totals", {"total": 1}), ("lines", []), ("state", "confirmed"), ("paid", 10**6)):
        guest.ask("POST", "/checkout", {**form, name: value}, Idempotency_Key=fresh("key-")).problem(422)
    inside = {**form, "pay": {**form["pay"], "amount": 100}}
    guest.ask("POST", "/checkout", inside, Idempotency_Key=fresh("key-")).problem(422)


@check("P2: whatever happens to a price meanwhile, the buyer pays what they agreed to, or nothing is ordered")
def _(world: World) -> None:
    good = new_good(world, price=10_000, tracked=False)
    guests = [Buyer(world) for _ in range(12)]
    for guest in guests:
        guest.put(good)
    total = guests[0].total()
    acts = [lambda guest=guest: guest.check_out(expected_total=total) for guest in guests]
    *answers, _ = together(*acts, lambda: reprice(world, good, 20_000))
    fine = {answer.status for answer in answers} <= {201, 409}
    need_of_all(answers, fine, "201 at the old total, or 409 total_changed")
    for answer in answers:
        if answer.status == 201:
            answer.need(answer.data["totals"]["total"] == total, f"the total that was agreed to: {total}")
            answer.need(answer.data["lines"][0]["price"] == 10_000, "and the price")
        else:
            answer.problem(409, code="total_changed")
    late = Buyer(world)
    late.put(good)
    late.check_out(expected_total=total).problem(409, code="total_changed")


@check("An order is a snapshot: what changes afterwards does not change it")
def _(world: World) -> None:
    good, guest = new_good(world, price=10_000, tracked=False), Buyer(world)
    order = guest.order(good, 2)
    reprice(world, good, 99_900)
    world.admin.patch(f"{SHOP}/products/{good.product_id}", {"title": {"en": "Something else"}}).want(200)
    seen = order.seen()
    kept = [seen.data[name] == order.made[name] for name in ("lines", "totals", "address")]
    seen.need(all(kept), "lines, words, prices and totals as they were ordered")


@check("What checkout cannot do without is said field by field")
def _(world: World) -> None:
    guest = Buyer(world)
    guest.put(common(world))
    form = guest.form()

    def refused(code: str, **more: object) -> None:
        changed = {name: value for name, value in {**form, **more}.items() if value is not None}
        guest.ask("POST", "/checkout", changed, Idempotency_Key=fresh("key-")).problem(422, code=code)

    refused("contact_needed", email=None)
    refused("payment_needed", pay=None)
    refused("no_such_way_to_pay", pay={"provider": "cowries"})
    refused("bad_shipping", shipping_id="no-such-way")
    refused("bad_shipping", address={**form["address"], "town": "Elsewhere", "country": "GB"})
    address = form["address"]
    for wrong in (
        {"address": {**address, "name": ""}},
        {"address": {**address, "phone": "0712"}},
        {"address": {**address, "country": "Kenya"}},
        {"address": {**address, "colour": "red"}},
        {"address": "Nairobi"},
        {"email": "no address"},
        {"email": "a@b.example\r\nBcc: c@d.example"},
        {"expected_total": "100"},
        {"expected_total": -1},
        {"expected_total": 1.5},
        {"coupons": "KARIBU"},
        {"coupons": ["x" * 41]},
        {"language": "tlh"},
        {"currency": "shillings"},
    ):
        answer = guest.ask("POST", "/checkout", {**form, **wrong}, Idempotency_Key=fresh("key-"))
        rules.refuses(answer, "/" + next(iter(wrong)))
    guest.cart().need(len(guest.cart().data["lines"]) == 1, "the cart as it was")


@check("What is no JSON is 400 at checkout, not 500")
def _(world: World) -> None:
    for content in rules.NOT_JSON:
        headers = {"Content-Type": "application/json", "Idempotency-Key": fresh("key-")}
        answer = world.nobody.post(f"{SHOP}/checkout", content=content, headers=headers)
        answer.problem(400)
        rules.has_no_leaks(answer)


@check("A guest reads their order with its token, which is told once, and with nothing else")
def _(world: World) -> None:
    guest = Buyer(world)
    order = guest.order(common(world))
    made = guest.cart()
    made.need(len(order.made.get("order_token", "")) >= 43, "an order_token of at least 256 random bits")
    seen = order.seen()
    seen.need(seen.data["id"] == order.id and "order_token" not in seen.data, "the order, and its token no more")
    other = Buyer(world).order(common(world))
    for token in ("", "nonsense", other.headers[ORDER_TOKEN], order.headers[ORDER_TOKEN][:-1]):
        world.nobody.get(f"{SHOP}/orders/{order.id}", headers={ORDER_TOKEN: token}).problem(404)


@check("An order that costs nothing needs no payment, and is confirmed by itself", part=COUPONS)
def _(world: World) -> None:
    guest, good = Buyer(world), new_good(world, stock=1)
    codes = [new_coupon(world, value=10_000), new_coupon(world, kind="free_shipping", value=0)]
    guest.put(good)
    made = guest.check_out(expected_total=0, coupons=codes, pay=None).want(201)
    order = Order(guest, made.data)
    until(lambda: order.ask("GET"), lambda seen: seen.data.get("state") == "confirmed", "the state confirmed", 10)
    now = counts(world, good)
    now.need((now.data["held"], now.data["allocated"]) == (0, 1), "the goods allocated, and held no more")


@check("Ways to pay are those that take such a sum")
def _(world: World) -> None:
    path = f"{SHOP}/payment-ways"
    pay_later(world)
    for query in ("", "?amount=100", "?currency=KES", "?amount=much&currency=KES", "?amount=1.5&currency=KES"):
        world.nobody.get(path + query).problem(422)
    answer = world.nobody.get(f"{path}?amount=100000&currency=KES").want(200)
    listed = ways(world)
    answer.need(all(type(each) is str for each in listed), "names of providers")
    for amount, currency in ((10_050, "KES"), (100_000, "USD"), (10**9, "KES")):
        named = ways(world, amount, currency)
        should = f"no M-Pesa for {amount} {currency}: it moves whole shillings, up to a bound"
        answer.need("mpesa" not in named, should)
    for amount in (0, -100):
        answer = world.nobody.get(f"{path}?amount={amount}&currency=KES").want(200, 422)
        answer.need(answer.status == 422 or answer.data["ways"] == [], "no way to pay nothing")
