"""docs/contracts/shop-cart.md: carts of guests and of people."""

from msingi.checks import rules
from msingi.checks.harness import World, check, fresh, need_of_all, together
from msingi.checks.shop.market import COUPONS, SHOP, TOKEN, TOTALS, Buyer, common, going, has_admin, new_good, reprice

CART = ("currency", "lines", "coupons", "coupons_used", "shipping", "totals", "notices", "updated_at", "version")
LINE = ("variant_id", "quantity", "price", "price_agreed", "changed", "left", "title", "discount", "tax", "total")


@check("A guest's first write makes a cart, and its token opens it again")
def _(world: World) -> None:
    good, guest = common(world), Buyer(world)
    made = guest.put(good, 2)
    made.need(len(guest.token) >= 43, f"the header {TOKEN} with at least 256 random bits")
    cart = guest.cart()
    shown = cart.fields(*CART)
    lines = [(line["variant_id"], line["quantity"], line["price"]) for line in shown["lines"]]
    cart.need(lines == [(good.variant_id, 2, good.price)], "the line as it was put in")
    missing = [name for name in (*LINE, *TOTALS) if name not in {**shown["lines"][0], **shown["totals"]}]
    cart.need(not missing, f"{', '.join(missing)} too")
    cart.need(TOKEN.lower() not in cart.headers, "the token told once only")
    cart.need("no-store" in cart.headers.get("cache-control", ""), "Cache-Control: no-store")


@check("A token that was made up opens nothing")
def _(world: World) -> None:
    good, guest = common(world), Buyer(world)
    guest.put(good)
    for token in (guest.token[:-1] + ("A" if guest.token[-1] != "A" else "B"), "x" * 43, "nonsense", "", "x" * 5000):
        answer = world.nobody.get(f"{SHOP}/cart", headers={TOKEN: token}).want(200, 400, 422, 431)
        answer.need(answer.status != 200 or answer.data["lines"] == [], "an empty cart")
    other = Buyer(world)
    other.put(good)
    other.cart().need(other.token != guest.token, "another token for another guest")


@check("Z1: one's own cart is one's own")
def _(world: World) -> None:
    world.tell_apart()
    good = common(world)
    mine = Buyer(world, world.ann)
    mine.put(good, 3)
    for other in (Buyer(world, world.eve), Buyer(world)):
        answer = other.cart()
        answer.need(answer.data["lines"] == [], "nothing of somebody else's")
        other.ask("DELETE", "/cart").want(200)
    mine.cart().need(len(mine.cart().data["lines"]) == 1, "the cart unchanged after what others did")
    mine.ask("DELETE", "/cart").want(200)


@check("Quantities are set, not added, and taken out again")
def _(world: World) -> None:
    good, guest = common(world), Buyer(world)
    for quantity in (2, 5, 5, 1):
        answer = guest.put(good, quantity)
        answer.need([line["quantity"] for line in answer.data["lines"]] == [quantity], f"a quantity of {quantity}")
    out = guest.ask("DELETE", f"/cart/lines/{good.variant_id}").want(200)
    out.need((out.data["lines"], out.data["totals"]["total"]) == ([], 0), "nothing in the cart, and nothing to pay")


@check("Quantities that are none are refused, and nothing answers 500")
def _(world: World) -> None:
    good, guest = common(world), Buyer(world)
    path = f"/cart/lines/{good.variant_id}"
    guest.put(good)
    wrong: tuple[object, ...] = (0, -1, 1001, 1.5, "2", True, None, [], {"$gt": 0}, 10**30)
    for quantity in wrong:
        rules.refuses(guest.ask("PUT", path, {"quantity": quantity}), "/quantity")
    guest.ask("PUT", path, {}).problem(422)
    guest.ask("PUT", path, []).problem(422)
    for odd in rules.ODD_IDS:
        answer = guest.ask("PUT", f"/cart/lines/{odd}", {"quantity": 1})
        answer.problem(404, 400, 414, 422)
        rules.has_no_leaks(answer)
    guest.cart().need([line["quantity"] for line in guest.cart().data["lines"]] == [1], "the cart as it was")


@check("P2: no price is taken from a client", hint="a form takes its own fields and no others")
def _(world: World) -> None:
    good, guest = common(world), Buyer(world)
    guest.put(good)
    path = f"/cart/lines/{good.variant_id}"
    for name, value in (("price", 1), ("total", 1), ("discount", 100), ("tax", 0), ("price_agreed", 1)):
        guest.ask("PUT", path, {"quantity": 2, name: value}).problem(422)
    agreed = guest.ask("POST", "/cart/prices", {"prices": {good.variant_id: 1}}).want(200)
    line = agreed.data["lines"][0]
    agreed.need((line["quantity"], line["price"]) == (1, good.price), "the server's own price, and the cart unchanged")


@check("A change of price is shown, and never agreed to in silence")
def _(world: World) -> None:
    good, guest = new_good(world, tracked=False), Buyer(world)
    guest.put(good, 2)
    reprice(world, good, 13_500)
    for answer in (guest.cart(), guest.put(good, 3)):
        line = answer.data["lines"][0]
        told = line["price"], line["price_agreed"], line["changed"]
        answer.need(told == (13_500, 12_000, True), "price 13500, price_agreed 12000, changed")
        notices = [each["details"] for each in answer.data["notices"] if each["code"] == "price_changed"]
        wanted = {"variant_id": good.variant_id, "before": 12_000, "now": 13_500}
        answer.need(notices == [wanted], f"the notice price_changed with {wanted}")
    stale = guest.ask("POST", "/cart/prices", {"prices": {good.variant_id: 12_000}}).want(200)
    stale.need(stale.data["lines"][0]["changed"], "an old price not agreed to")
    agreed = guest.ask("POST", "/cart/prices", {"prices": {good.variant_id: 13_500}}).want(200)
    line = agreed.data["lines"][0]
    agreed.need((line["price_agreed"], line["changed"]) == (13_500, False), "the new price agreed to")


@check("What is not sold any more stays in the cart with a notice, and costs nothing")
def _(world: World) -> None:
    good, guest = new_good(world, tracked=False), Buyer(world)
    guest.put(good)
    world.admin.delete(f"{SHOP}/products/{good.product_id}/publication").want(200)
    cart = guest.cart()
    cart.need((cart.data["lines"][0]["price"], cart.data["totals"]["total"]) == (None, 0), "no price, and a total of 0")
    codes = [each["code"] for each in cart.data["notices"]]
    cart.need("not_sold_any_more" in codes, "the notice not_sold_any_more")
    guest.check_out(expected_total=0, pay=None).problem(409, code="not_all_sold")


@check("A cart's version keeps two windows apart, and its ETag tells of other prices too")
def _(world: World) -> None:
    good, guest = common(world), Buyer(world)
    version, path = guest.put(good).data["version"], f"/cart/lines/{good.variant_id}"
    guest.ask("PUT", path, {"quantity": 2}, If_Match=f'"{version}"').want(200)
    guest.ask("PUT", path, {"quantity": 9}, If_Match=f'"{version}"').problem(409, code="stale")
    guest.ask("DELETE", "/cart", If_Match=f'"{version}"').problem(409, code="stale")
    guest.ask("PUT", path, {"quantity": 9}, If_Match="nonsense").problem(422)
    cart = guest.cart()
    cart.need(cart.data["lines"][0]["quantity"] == 2, "what the stale requests wanted not done")
    etag = cart.headers.get("etag", "")
    guest.ask("GET", "/cart", If_None_Match=etag).want(304)
    if has_admin(world):
        other, buyer = new_good(world, tracked=False), Buyer(world)
        buyer.put(other)
        etag = buyer.cart().headers.get("etag", "")
        reprice(world, other, 99_900)
        buyer.ask("GET", "/cart", If_None_Match=etag).want(200)


@check("Of twenty who change the same version of a cart exactly one wins")
def _(world: World) -> None:
    good, guest = common(world), Buyer(world)
    match = f'"{guest.put(good).data["version"]}"'
    path = f"/cart/lines/{good.variant_id}"
    acts = [lambda n=n: guest.ask("PUT", path, {"quantity": n}, If_Match=match) for n in range(2, 22)]
    rules.one_wins(together(*acts))


@check("A guest's cart goes into the cart of who signs in, once, however many requests bring its token")
def _(world: World) -> None:
    world.tell_apart()
    good, guest, person = common(world), Buyer(world), Buyer(world, world.bob)
    person.ask("DELETE", "/cart").want(200)
    person.put(good, 2)
    guest.put(good, 3)
    answers = together(*[lambda: world.bob.get(f"{SHOP}/cart", headers={TOKEN: guest.token})] * 20)
    need_of_all(answers, {each.status for each in answers} == {200}, "200 for all")
    mine = person.cart()
    counted = [line["quantity"] for line in mine.data["lines"]]
    hint = "close the guest's cart in the same write"
    mine.need(counted == [5], f"2 and 3 together, once; there are {counted}", hint)
    old = Buyer(world)
    old.token = guest.token
    old.cart().need(old.cart().data["lines"] == [], "the guest's token to open nothing any more")
    eve = world.eve.get(f"{SHOP}/cart", headers={TOKEN: guest.token}).want(200)
    eve.need(eve.data["lines"] == [], "nothing for the next person who brings the token")
    person.ask("DELETE", "/cart").want(200)


@check("A cart takes a hundred different things, and says so when it is full")
def _(world: World) -> None:
    word = fresh("CHECK-")
    sizes = [str(number) for number in range(100)]
    shared = {"prices": {"KES": 100}, "tracked": False}
    variants = [{"sku": f"{word}-{size}", "options": {"size": size}, **shared} for size in sizes]
    options = [{"name": "size", "values": sizes}]
    form = {"title": {"en": word}, "options": options, "variants": variants}
    made = world.admin.post(f"{SHOP}/products", form).want(201).data
    world.at_the_end.append(lambda: world.admin.put(f"{SHOP}/products/{made['id']}/archive"))
    world.admin.put(f"{SHOP}/products/{made['id']}/publication").want(200)
    guest, other = Buyer(world), new_good(world, tracked=False)
    for each in made["variants"]:
        guest.ask("PUT", f"/cart/lines/{each['id']}", {"quantity": 1}).want(200)
    guest.ask("PUT", f"/cart/lines/{other.variant_id}", {"quantity": 1}).problem(409, code="cart_full")


@check("A cart in another currency has its prices, and an unknown currency is refused")
def _(world: World) -> None:
    good, guest = common(world), Buyer(world)
    guest.put(good)
    for currency in ("ZZZ", "kes", "", 7, None):
        guest.ask("PUT", "/cart/currency", {"currency": currency}).problem(422)
    other = guest.ask("PUT", "/cart/currency", {"currency": "USD"}).want(200)
    line = other.data["lines"][0]
    other.need(other.data["currency"] == "USD" and line["price"] != good.price, "no shillings called dollars")
    guest.ask("PUT", "/cart/currency", {"currency": "KES"}).want(200)


@check("Coupons that there are none of, or that cannot be used, are refused with a reason", part=COUPONS)
def _(world: World) -> None:
    guest = Buyer(world)
    guest.put(common(world))
    answer = guest.ask("PUT", f"/cart/coupons/{fresh('NONE-')}")
    told = answer.problem(409, code="coupon_refused")
    answer.need(told.get("reason") == "unknown", "the reason `unknown`")
    for odd in ("%00", "x" * 300, '{"$gt":""}'):
        guest.ask("PUT", f"/cart/coupons/{odd}").problem(404, 409, 400, 414, 422)
    guest.cart().need(guest.cart().data["coupons"] == [], "no coupon kept that was refused")


@check("The ways to send what is in the cart say what each costs")
def _(world: World) -> None:
    guest, to = Buyer(world), going(world)
    guest.put(common(world))
    answer = guest.ask("GET", f"/cart/shipping-methods?country=KE&town={to.town.lower()}").want(200)
    found = {each["id"]: each for each in answer.data["items"]}
    answer.need(to.shipping_id in found, "the way that goes there, whatever the letter case of the town")
    price = found[to.shipping_id]["price"]
    cart = guest.cart(to)
    cart.need(type(price) is int and cart.data["totals"]["shipping"] == price, "the same price in the cart's totals")
    guest.ask("GET", "/cart/shipping-methods?country=Kenya").problem(422)
