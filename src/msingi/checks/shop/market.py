"""Who and what the shop checks are about: goods, ways to send and to pay for them, and buyers with carts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from msingi.checks.harness import NO_BODY, Answer, Caller, Part, Skipped, World, fresh

T = TypeVar("T")

SHOP = "/v1/shop"
ADMIN = f"{SHOP}/admin"
TOKEN = "X-Cart-Token"  # noqa: S105  (the name of a header)
ORDER_TOKEN = "X-Order-Token"  # noqa: S105  (likewise)
CURRENCY = "KES"
SILENT_PHONE = "+254700000004"  # whose person does not look at it, in the payment sandbox
REASON = {"reason": "It came twice."}
TOTALS = ("goods", "discount", "shipping", "tax", "tax_added", "rounding", "total")

# What a server may leave out, each as a whole.
AVAILABILITY = Part("availability", lambda world: world.nobody.get(f"{SHOP}/availability?variants=x"))
COUPONS = Part("coupons", lambda world: world.nobody.get(f"{ADMIN}/coupons"))
EXPORT = Part("export", lambda world: world.nobody.get(f"{SHOP}/catalogue/export"))
FACETS = Part("facets", lambda world: world.nobody.get(f"{SHOP}/products/facets"))
LEDGER = Part("ledger", lambda world: world.nobody.get(f"{SHOP}/ledger"))
MOVEMENTS = Part("movements", lambda world: world.nobody.get(f"{SHOP}/movements"))
SYNONYMS = Part("synonyms", lambda world: world.nobody.get(f"{SHOP}/synonyms"))
CARDS = Part("cards", lambda world: world.nobody.post(f"{SHOP}/callbacks/cards", {}))
MOBILE = Part("mobile-money", lambda world: world.nobody.post(f"{SHOP}/callbacks/mobile/x", {}))


@dataclass(frozen=True)
class Good:
    """Something that is on sale."""

    product_id: str
    variant_id: str
    price: int


@dataclass(frozen=True)
class Going:
    """A place that goods can be sent to, and how."""

    town: str
    shipping_id: str

    @property
    def query(self) -> str:
        return f"country=KE&town={self.town}&shipping={self.shipping_id}"


class Buyer:
    """Somebody with a cart: a guest, who keeps its token, or a person who is signed in."""

    def __init__(self, world: World, caller: Caller | None = None) -> None:
        self.world, self.caller = world, caller or world.nobody
        self.token = ""

    def ask(self, method: str, rest: str, body: Any = NO_BODY, **headers: str) -> Answer:
        """Ask for something below the cart, or for what else stands beside it."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        brought = {TOKEN: self.token} if self.token else {}
        answer = self.caller.ask(method, SHOP + rest, json=body, headers={**brought, **named})
        self.token = answer.headers.get(TOKEN.lower(), self.token)
        return answer

    def put(self, good: Good, quantity: int = 1) -> Answer:
        """Have so many of a good in the cart."""
        return self.ask("PUT", f"/cart/lines/{good.variant_id}", {"quantity": quantity}).want(200)

    def cart(self, going: Going | None = None) -> Answer:
        """The cart as it is now."""
        return self.ask("GET", "/cart" + (f"?{going.query}" if going else "")).want(200)

    def total(self) -> int:
        """What the cart costs, sent to where everything goes in this run."""
        return int(self.cart(going(self.world)).data["totals"]["total"])

    def check_out(self, key: str = "", **more: Any) -> Answer:
        """Order what is in the cart, for the total of this moment unless another is given."""
        form = form_for(self.world, **more) if "expected_total" in more else self.form(**more)
        return self.ask("POST", "/checkout", form, Idempotency_Key=key or fresh("key-"))

    def form(self, **more: Any) -> dict[str, Any]:
        """What checkout is sent for this cart."""
        return form_for(self.world, self.total(), **more)

    def order(self, good: Good, quantity: int = 1, **more: Any) -> "Order":
        """A new order for so many of a good."""
        self.put(good, quantity)
        answer = self.check_out(**more).want(201)
        return Order(self, answer.data)


class Order:
    """An order, with who may see it."""

    def __init__(self, buyer: Buyer, data: dict[str, Any]) -> None:
        self.buyer, self.made = buyer, data
        self.id = str(data["id"])
        self.headers = {ORDER_TOKEN: str(data["order_token"])} if "order_token" in data else {}

    def ask(self, method: str, rest: str = "", body: Any = NO_BODY, caller: Caller | None = None) -> Answer:
        """Ask for it, or for something below it, as who ordered it or as somebody else."""
        headers = {"Idempotency-Key": fresh("key-")} if method == "POST" else {}
        mine = self.headers if caller is None else {}
        return (caller or self.buyer.caller).ask(
            method, f"{SHOP}/orders/{self.id}{rest}", json=body, headers={**headers, **mine}
        )

    def seen(self) -> Answer:
        return self.ask("GET").want(200)

    def cancel(self) -> Answer:
        return self.ask("PUT", "/cancellation", REASON)


# ---- goods


def known(world: World, name: str, make: Callable[[], T]) -> T:
    """Something that several checks use; made by the first that does."""
    if name not in world.kept:
        world.kept[name] = make()
    found: T = world.kept[name]
    return found


def listed(world: World) -> list[dict[str, Any]]:
    """Cards of what anybody sees to be on sale."""
    return list(world.nobody.get(f"{SHOP}/products?limit=100").page())


def common(world: World) -> Good:
    """Something that does not run out: made for the run, or, without an admin, what is there."""
    return known(world, "common", lambda: new_good(world, tracked=False) if has_admin(world) else _found(world))


def has_admin(world: World) -> bool:
    return bool(world.admin_email and world.admin_password)


def _found(world: World) -> Good:
    """Something on sale of which there is enough."""
    for card in listed(world):
        shown = world.nobody.get(f"{SHOP}/products/{card['id']}").want(200).data
        for variant in shown["variants"]:
            if variant["price"]:
                good = Good(shown["id"], variant["id"], variant["price"]["amount"])
                if Buyer(world).put(good, 6).data["lines"][0]["left"] == "enough":
                    return good
    raise Skipped("there is nothing on sale of which there is enough, and no admin who could change that")


def new_product(world: World, *, price: int = 12_000, publish: bool = True, **more: Any) -> dict[str, Any]:
    """A new product with one variant, on sale unless said otherwise, as staff see it."""
    word = fresh("check-")
    variant = {"sku": word.upper(), "prices": {CURRENCY: price}, "weight": 100, **more.pop("variant", {})}
    form = {"title": {"en": f"Check {word}", "sw": f"Jaribio {word}"}, "variants": [variant], **more}
    made = world.admin.post(f"{SHOP}/products", form).want(201)
    path = f"{SHOP}/products/{made.data['id']}"
    world.at_the_end.append(lambda: world.admin.put(f"{path}/archive"))
    if not publish:
        return dict(made.data)
    return dict(world.admin.put(f"{path}/publication").want(200).data)


def new_good(
    world: World, *, price: int = 12_000, stock: int = 0, tracked: bool = True, weight: int = 100, **more: Any
) -> Good:
    """Something new on sale, so many of it in stock."""
    made = new_product(world, price=price, variant={"tracked": tracked, "weight": weight}, **more)
    good = Good(made["id"], made["variants"][0]["id"], price)
    if stock:
        receive(world, good, stock).want(201)
    return good


def reprice(world: World, good: Good, price: int) -> Answer:
    """Another price, from now on."""
    path = f"{SHOP}/products/{good.product_id}/variants/{good.variant_id}"
    return world.admin.patch(path, {"prices": {CURRENCY: price}}).want(200)


def place(world: World) -> str:
    """A place where goods lie, made for the run; asked first when goods are taken."""

    def make() -> str:
        form = {"name": fresh("Check "), "town": "Nairobi", "pick_up": True}
        made = world.admin.post(f"{SHOP}/locations", form).want(201)
        path = f"{SHOP}/locations/{made.data['id']}"
        world.at_the_end.append(lambda: world.admin.patch(path, {"closed": True}))
        return str(made.data["id"])

    return known(world, "place", make)


def shelf(world: World, good: Good, rest: str = "") -> str:
    """The address of a good's stock at that place."""
    return f"{SHOP}/stock/{good.variant_id}/{place(world)}{rest}"


def receive(world: World, good: Good, quantity: Any, key: str = "") -> Answer:
    """Goods arrive."""
    path, headers = shelf(world, good, "/receipts"), {"Idempotency-Key": key or fresh("key-")}
    return world.admin.post(path, {"quantity": quantity}, headers=headers)


def counts(world: World, good: Good) -> Answer:
    """How many there are of a good: on hand, allocated, held, available."""
    return world.admin.get(shelf(world, good)).want(200)


def new_coupon(world: World, **more: Any) -> str:
    """A new coupon; 10 % off, beside others, if nothing else is said."""
    code = fresh("CHECK-").upper()
    form = {"code": code, "kind": "percent", "value": 1000, "stacks": True, **more}
    world.admin.post(f"{ADMIN}/coupons", form).want(201)
    world.at_the_end.append(lambda: world.admin.patch(f"{ADMIN}/coupons/{code}", {"closed": True}))
    return code


# ---- sending and paying


def tax_class(world: World) -> str:
    """A tax class of this run: in Kenya 16 % are contained in its prices."""

    def make() -> str:
        name = fresh("check")
        path = f"{ADMIN}/tax-rates/KE/{name}"
        world.admin.put(path, {"rate": 1600, "included": True, "name": "VAT"}).want(200, 201)
        world.at_the_end.append(lambda: world.admin.delete(path))
        return name

    return known(world, "tax_class", make)


def going(world: World) -> Going:
    """Where goods are sent to in this run: a town of its own, for 60,000 up to 10 kg; without an admin, Nairobi."""
    return known(world, "going", lambda: _own_way(world) if has_admin(world) else _found_way(world))


def _own_way(world: World) -> Going:
    town = fresh("Check")
    form = {"name": f"To {town}", "countries": ["KE"], "towns": [town], "tax_class": tax_class(world)}
    made = world.admin.post(f"{ADMIN}/shipping-methods", {**form, "prices": {CURRENCY: [[10_000, 60_000]]}}).want(201)
    path = f"{ADMIN}/shipping-methods/{made.data['id']}"
    world.at_the_end.append(lambda: world.admin.delete(path))
    return Going(town, str(made.data["id"]))


def _found_way(world: World) -> Going:
    query = f"country=KE&town=Nairobi&currency={CURRENCY}&weight=500&goods=10000"
    found = world.nobody.get(f"{SHOP}/shipping-methods?{query}").want(200).data["items"]
    for each in found:
        if each["kind"] != "pick_up":
            return Going("Nairobi", str(each["id"]))
    raise Skipped("nothing can be sent to Nairobi, and there is no admin who could change that")


def ways(world: World, amount: int = 100_000, currency: str = CURRENCY) -> list[str]:
    """The providers that take such a sum."""
    answer = world.nobody.get(f"{SHOP}/payment-ways?amount={amount}&currency={currency}").want(200)
    return list(answer.fields("ways")["ways"])


def pay_later(world: World) -> dict[str, str]:
    """A way to pay in which nothing happens until the payer decides."""

    def make() -> dict[str, str]:
        there = ways(world)
        if "stripe" in there:
            return {"provider": "stripe"}
        if "mpesa" in there:
            return {"provider": "mpesa", "phone": SILENT_PHONE}
        raise Skipped("needs a way to pay, and this server offers neither cards nor M-Pesa")

    return known(world, "pay_later", make)


def form_for(world: World, expected_total: int, **more: Any) -> dict[str, Any]:
    """What checkout is sent."""
    to = going(world)
    form = {
        "address": {"name": "Ann Wanjiru", "phone": "+254712345678", "country": "KE", "town": to.town, "street": "1"},
        "shipping_id": to.shipping_id,
        "expected_total": expected_total,
        "email": "guest@check.example.org",
        **more,
    }
    if "pay" not in more:
        form["pay"] = pay_later(world)
    return {name: value for name, value in form.items() if value is not None}
