"""docs/contracts/shop-orders.md: what an order becomes, who may do what with it, and how its history reads."""

from msingi.checks import rules
from msingi.checks.harness import Caller, Failed, World, check, fresh, need_of_all, together, until
from msingi.checks.live import Event, Listener, inner, said
from msingi.checks.shop.market import (
    COUPONS,
    ORDER_TOKEN,
    REASON,
    SHOP,
    Buyer,
    Order,
    common,
    counts,
    new_coupon,
    new_good,
    place,
)


def confirmed(world: World, quantity: int = 1, stock: int = 5) -> tuple[Order, str]:
    """An order that is confirmed without money, and the address of its goods' stock; the goods lie at our place."""
    guest, good = Buyer(world), new_good(world, stock=stock)
    codes = [new_coupon(world, value=10_000), new_coupon(world, kind="free_shipping", value=0)]
    guest.put(good, quantity)
    made = guest.check_out(expected_total=0, coupons=codes, pay=None).want(201)
    order = Order(guest, made.data)
    until(lambda: order.ask("GET"), lambda seen: seen.data.get("state") == "confirmed", "the state confirmed", 10)
    return order, f"{SHOP}/stock/{good.variant_id}/{place(world)}"


def sending(world: World, quantity: int) -> dict[str, object]:
    """What staff says when so many of the first line leave."""
    return {"location_id": place(world), "lines": [{"line_id": "1", "quantity": quantity}], "carrier": "G4S"}


@check("Z1: somebody else's order is 404 on every route, never 403")
def _(world: World) -> None:
    world.tell_apart()
    mine = Buyer(world, world.ann).order(common(world))
    mine.seen()
    guests = Buyer(world).order(common(world))
    tries = (
        ("GET", "", None),
        ("GET", "/timeline", None),
        ("GET", "/invoice", None),
        ("POST", "/payments", {"provider": "stripe"}),
        ("PUT", "/cancellation", REASON),
        ("POST", "/returns", {"lines": [{"line_id": "1", "quantity": 1}], **REASON}),
    )
    for order in (mine, guests):
        for method, rest, body in tries:
            for caller in (world.eve, world.nobody):
                more = {} if body is None else {"body": body}
                order.ask(method, rest, caller=caller, **more).problem(404, code="not_found")
        order.seen().need(order.seen().data["state"] == "awaiting_payment", "the order as it was")


@check("One's list of orders has one's own, the newest first, and nobody else's")
def _(world: World) -> None:
    world.tell_apart()
    person, good = world.person("Buyer"), common(world)
    mine = [Buyer(world, person).order(good).id for _ in range(3)]
    theirs = Buyer(world, world.eve).order(good).id
    answer = person.get(f"{SHOP}/orders")
    found = [each["id"] for each in answer.page()]
    answer.need(found == mine[::-1] and theirs not in found, "one's own three orders, the newest first")
    walked = rules.walk(person, f"{SHOP}/orders?limit=1")
    answer.need([each["id"] for each in walked] == mine[::-1], "the same by cursors")
    filtered = person.get(f"{SHOP}/orders?state=cancelled")
    filtered.need(filtered.page() == [], "no cancelled one")
    rules.refuses_operators(person, f"{SHOP}/orders", ("state[$ne]=x", "state=odd", "customer_id=x", "email=x"))
    rules.refuses_bad_paging(person, f"{SHOP}/orders")


@check("The history of an order reads in English and in Swahili")
def _(world: World) -> None:
    order = Buyer(world).order(common(world))
    order.cancel().want(200)
    english = order.ask("GET", "/timeline?language=en").want(200)
    swahili = order.ask("GET", "/timeline?language=sw").want(200)
    kinds = [each["kind"] for each in english.fields("items")["items"]]
    english.need(kinds[0] == "placed" and "cancelled" in kinds, "placed first, then cancelled")
    english.need(kinds == [each["kind"] for each in swahili.data["items"]], "the same lines in both languages")
    texts = list(zip(english.data["items"], swahili.data["items"], strict=True))
    english.need(all(en["text"] and sw["text"] for en, sw in texts), "a text in each line")
    english.need(all(en["text"] != sw["text"] for en, sw in texts), "texts in two languages")
    english.need(all("by" not in en for en, _ in texts), "no word on who of the staff did it")
    by_header = order.buyer.caller.get(
        f"{SHOP}/orders/{order.id}/timeline", headers={**order.headers, "Accept-Language": "sw"}
    )
    by_header.need(by_header.data["items"] == swahili.data["items"], "Swahili for who prefers it")
    order.ask("GET", "/timeline?language=tlh").problem(422)


@check("A cancelled order gives its goods back, and stays cancelled")
def _(world: World) -> None:
    good, guest = new_good(world, stock=3), Buyer(world)
    order = guest.order(good, 2)
    for _ in range(2):
        done = order.cancel().want(200)
        done.need(done.data["state"] == "cancelled", "the state cancelled")
    now = counts(world, good)
    now.need((now.data["on_hand"], now.data["held"], now.data["available"]) == (3, 0, 3), "3 to be sold again")
    order.ask("POST", "/payments", {"provider": "stripe"}).problem(409)
    order.ask("GET", "/invoice").problem(404)
    for body in ({}, {"reason": ""}, {"reason": " "}, {"reason": "x" * 501}, {"reason": 7}, {**REASON, "x": 1}):
        order.ask("PUT", "/cancellation", body).problem(422)


@check(
    "P1: two who cancel at once give the goods back once",
    hint="let the guarded change of the state decide, and give back under the order's own id",
    part=COUPONS,
)
def _(world: World) -> None:
    other, _ = confirmed(world, 1, 2)
    order, shelf = confirmed(world, 2, 5)
    other.cancel().want(200)
    path = f"{SHOP}/orders/{order.id}/cancellation"
    acts = [order.cancel, lambda: world.admin.put(path, REASON)] * 4
    answers = together(*acts)
    need_of_all(answers, {each.status for each in answers} <= {200, 409}, "200, or 409 for the later one")

    def free() -> bool:
        return bool(now.data["allocated"] == 0 and now.data["available"] == 5)

    now = world.admin.get(shelf)
    now = until(lambda: world.admin.get(shelf), lambda seen: seen.data["allocated"] == 0, "nothing allocated", 10)
    now.need(free() and now.data["on_hand"] == 5, "5 on hand and 5 to be sold: given back once")
    lines = order.ask("GET", "/timeline?language=en").want(200)
    kinds = [each["kind"] for each in lines.data["items"]]
    lines.need(kinds.count("cancelled") == 1, "one line about it in the history")


@check("Goods leave as far as they are allocated, once, and arrive by the receiver's code", part=COUPONS)
def _(world: World) -> None:
    order, shelf = confirmed(world, 3)
    for wrong in ({}, sending(world, 0), {**sending(world, 1), "lines": []}, {**sending(world, 1), "colour": "red"}):
        order.ask("POST", "/shipments", wrong, caller=world.admin).problem(422)
    order.ask("POST", "/shipments", sending(world, 4), caller=world.admin).problem(409, code="not_there")
    unknown = {**sending(world, 1), "lines": [{"line_id": "77", "quantity": 1}]}
    order.ask("POST", "/shipments", unknown, caller=world.admin).problem(422, code="no_such_line")
    part = order.ask("POST", "/shipments", sending(world, 1), caller=world.admin).want(201)
    part.need(part.data["state"] == "partly_shipped", "the state partly_shipped")
    part.need(all("code" not in each for each in part.data["shipments"]), "the code hidden from staff")
    acts = [lambda: order.ask("POST", "/shipments", sending(world, 2), caller=world.admin)] * 5
    answers = together(*acts)
    statuses = [each.status for each in answers]
    need_of_all(answers, (statuses.count(201), statuses.count(409)) == (1, 4), "1 × 201, 4 × 409")
    now = world.admin.get(shelf).want(200)
    now.need((now.data["on_hand"], now.data["allocated"]) == (2, 0), "2 of 5 left, none of them promised")
    _deliver(world, order)


def _deliver(world: World, order: Order) -> None:
    """Each parcel arrives, by the code that only the buyer sees."""
    seen = order.seen()
    for shipment in seen.data["shipments"]:
        rest, code = f"/shipments/{shipment['id']}/delivery", str(shipment.get("code", ""))
        seen.need(len(code) == 6 and code.isdigit(), "a code of six digits, shown to who ordered")
        wrong = f"{(int(code) + 1) % 1_000_000:06}"
        order.ask("PUT", rest, {"code": wrong}, caller=world.admin).problem(409, code="wrong_delivery_code")
        order.ask("PUT", rest, {}, caller=world.admin).problem(422)
        order.ask("PUT", rest, {"code": code}, caller=world.admin).want(200)
    after = order.seen()
    after.need(after.data["state"] == "delivered", "the state delivered")


@check("A code for a delivery cannot be guessed for ever", part=COUPONS)
def _(world: World) -> None:
    order, _ = confirmed(world)
    order.ask("POST", "/shipments", sending(world, 1), caller=world.admin).want(201)
    shipment = order.seen().data["shipments"][0]
    rest, code = f"/shipments/{shipment['id']}/delivery", shipment["code"]
    for n in range(1, 6):
        guess = {"code": f"{(int(code) + n) % 1_000_000:06}"}
        order.ask("PUT", rest, guess, caller=world.admin).problem(409)
    order.ask("PUT", rest, {"code": code}, caller=world.admin).problem(409, code="too_many_wrong_codes")
    done = order.ask("PUT", rest, {"reason": "Her neighbour took it."}, caller=world.admin).want(200)
    done.need(done.data["state"] == "delivered", "delivered by a reason, from somebody with the right to orders")


@check("What was delivered can be sent back once, and goes back to the shelf", part=COUPONS)
def _(world: World) -> None:
    order, shelf = confirmed(world, 2)
    back = {"lines": [{"line_id": "1", "quantity": 2}], **REASON}
    order.ask("POST", "/returns", back).problem(409, code="not_returnable")
    order.ask("POST", "/shipments", sending(world, 2), caller=world.admin).want(201)
    _deliver(world, order)
    answers = together(*[lambda: order.ask("POST", "/returns", back)] * 5)
    statuses = [each.status for each in answers]
    need_of_all(answers, (statuses.count(201), statuses.count(409)) == (1, 4), "1 × 201, 4 × 409")
    asked = order.seen().data["returns"][0]
    rest = f"/returns/{asked['id']}"
    order.ask("PUT", rest, {"state": "received"}, caller=world.admin).problem(409, code="return_decided")
    order.ask("PUT", rest, {"state": "approved"}, caller=world.admin).want(200)
    answers = together(*[lambda: order.ask("PUT", rest, {"state": "received"}, caller=world.admin)] * 5)
    need_of_all(answers, {each.status for each in answers} <= {200, 409}, "200, or 409 for the later ones")
    now = world.admin.get(shelf).want(200)
    now.need(now.data["on_hand"] == 5, f"all 5 on the shelf again, once; there are {now.data['on_hand']}")


@check("What an order's state does not allow is 409")
def _(world: World) -> None:
    order = Buyer(world).order(common(world))
    staff = world.admin
    order.ask("POST", "/shipments", sending(world, 1), caller=staff).problem(409, code="not_in_this_state")
    order.ask("PUT", "/allocation", caller=staff).problem(409, code="not_in_this_state")
    order.ask("POST", "/refunds", {"amount": 100, **REASON}, caller=staff).problem(409, code="nothing_to_refund")
    order.cancel().want(200)
    order.ask("POST", "/shipments", sending(world, 1), caller=staff).problem(409, code="not_in_this_state")


@check("Whatever is sent in an order's name, nothing answers 500")
def _(world: World) -> None:
    order, nobody = Buyer(world).order(common(world)), world.nobody
    _odd(nobody, f"{SHOP}/orders/{{id}}")
    _odd(nobody, f"{SHOP}/orders/{order.id}/invoice/{{id}}")
    bodies: tuple[object, ...] = ({}, [], "x", {"provider": {"$ne": ""}}, {"provider": ""}, {"provider": "x", "y": 1})
    for body in bodies:
        order.ask("POST", "/payments", body).problem(422, 400)
    for token in ("x" * 8000, "{}", "%00"):
        answer = nobody.get(f"{SHOP}/orders/{order.id}", headers={"X-Order-Token": token})
        answer.problem(404, 400, 431)
    key = {"Idempotency-Key": fresh("key-"), "Content-Type": "application/json", **order.headers}
    for content in rules.NOT_JSON:
        nobody.post(f"{SHOP}/orders/{order.id}/payments", content=content, headers=key).problem(400)


def _odd(caller: Caller, path: str) -> None:
    for odd in rules.ODD_IDS:
        answer = caller.get(path.format(id=odd))
        answer.problem(404, 400, 414, 422)
        rules.has_no_leaks(answer)


# ---- live


def follow(order: Order, last: str = "") -> Listener:
    """What its guest hears of an order."""
    return Listener(order.buyer.caller, f"{SHOP}/live?topic=shop/orders/{order.id}", last, order.headers)


def entries(live: Listener, order: Order) -> list[str]:
    """The kinds of the lines of its history that were heard of until now."""
    told = [inner(event) for event in list(live.events) if said(event).get("kind") == "order_changed"]
    return [str(each.get("entry")) for each in told if each.get("order_id") == order.id]


def heard(live: Listener, order: Order, entry: str) -> Event:
    def fits(event: Event) -> bool:
        return said(event).get("kind") == "order_changed" and inner(event).get("entry") == entry

    found = live.wait_for(fits, f"a message order_changed with the entry {entry}")
    if inner(found).get("order_id") != order.id or not found.get("id"):
        raise Failed(f"GET {live.path}", str(found), "an id, and of this order alone")
    return found


@check("A guest follows their order live with its token, and hears each line of its history once")
def _(world: World) -> None:
    order = Buyer(world).order(common(world))
    with follow(order) as live:
        order.cancel().want(200)
        event = heard(live, order, "cancelled")
        told = inner(event)
        if told.get("state") != "cancelled" or not isinstance(told.get("version"), int):
            raise Failed(f"GET {live.path}", str(event), "the state cancelled and the order's version as data")
        history = [each["kind"] for each in order.ask("GET", "/timeline").want(200).data["items"]]
        doubled = [kind for kind in set(entries(live, order)) if entries(live, order).count(kind) > history.count(kind)]
        if doubled:
            raise Failed(f"GET {live.path}", str(entries(live, order)), f"each line of {history} once")


@check("A guest who comes back to their order's stream hears what was missed")
def _(world: World) -> None:
    order, other = Buyer(world).order(common(world)), Buyer(world).order(common(world))
    with follow(other) as live:
        other.cancel().want(200)
        last = heard(live, other, "cancelled")["id"]
    order.cancel().want(200)
    with follow(order, last=last) as live:
        heard(live, order, "cancelled")
        if entries(live, other):
            raise Failed(f"GET {live.path}", str(entries(live, other)), "nothing of another order")


@check("Z1: an order is followed by no other guest, by no stranger, and by nobody without its token")
def _(world: World) -> None:
    world.tell_apart()
    mine, theirs = Buyer(world).order(common(world)), Buyer(world).order(common(world))
    token = mine.headers[ORDER_TOKEN]
    path = f"{SHOP}/live?topic=shop/orders"
    world.nobody.get(f"{path}/{mine.id}").problem(401, code="sign_in_first")
    for name in ("token", "key", "order_token"):
        world.nobody.get(f"{path}/{mine.id}&{name}={token}").problem(401, code="sign_in_first")
    for topic, headers in (
        (theirs.id, mine.headers),
        (mine.id, theirs.headers),
        (mine.id, {ORDER_TOKEN: token[:-1] + ("A" if token[-1] != "A" else "B")}),
        ("none", mine.headers),
    ):
        world.nobody.get(f"{path}/{topic}", headers=headers).problem(404, code="not_found")
    world.eve.get(f"{path}/{mine.id}").problem(404, code="not_found")
    world.nobody.get(f"{SHOP}/live?topic=shop/board", headers=mine.headers).problem(401)
    world.eve.get(f"{SHOP}/live?topic=shop/board").problem(404, code="not_found")
