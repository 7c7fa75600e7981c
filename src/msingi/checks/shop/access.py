"""Who may do what: nobody, who is signed in, and staff with one right and not the other."""

from typing import Any

from msingi.checks import rules
from msingi.checks.harness import NO_BODY, World, check
from msingi.checks.shop.market import ADMIN, SHOP, new_good, place, receive
from msingi.checks.shop.payments import with_role

STAFF: tuple[tuple[str, str, Any], ...] = (
    ("GET", f"{SHOP}/catalogue/products", NO_BODY),
    ("GET", f"{SHOP}/catalogue/export", NO_BODY),
    ("POST", f"{SHOP}/products", {"title": {"en": "Mine"}}),
    ("PATCH", f"{SHOP}/products/x", {"brand": "mine"}),
    ("DELETE", f"{SHOP}/products/x", NO_BODY),
    ("PUT", f"{SHOP}/products/x/publication", NO_BODY),
    ("POST", f"{SHOP}/categories", {"name": {"en": "Mine"}}),
    ("GET", f"{SHOP}/locations", NO_BODY),
    ("POST", f"{SHOP}/locations", {"name": "Mine"}),
    ("GET", f"{SHOP}/stock", NO_BODY),
    ("POST", f"{SHOP}/stock/x/x/receipts", {"quantity": 1}),
    ("POST", f"{SHOP}/stock/x/x/counts", {"counted": 1}),
    ("GET", f"{SHOP}/movements", NO_BODY),
    ("GET", f"{ADMIN}/coupons", NO_BODY),
    ("POST", f"{ADMIN}/coupons", {"code": "MINE", "kind": "percent", "value": 10_000}),
    ("PUT", f"{ADMIN}/tax-rates/KE/standard", {"rate": 0}),
    ("POST", f"{ADMIN}/shipping-methods", {"name": "Mine", "countries": ["KE"], "prices": {"KES": [[1, 1]]}}),
    ("GET", f"{SHOP}/payments", NO_BODY),
    ("GET", f"{SHOP}/payments/x", NO_BODY),
    ("POST", f"{SHOP}/payments/x/look", NO_BODY),
    ("GET", f"{SHOP}/ledger", NO_BODY),
)


@check("Z1: what is staff's is closed to nobody (401) and to customers (403), on every route")
def _(world: World) -> None:
    world.tell_apart()
    for method, path, body in STAFF:
        headers = {"Idempotency-Key": "x" * 20}
        world.nobody.ask(method, path, json=body, headers=headers).problem(401)
        world.eve.ask(method, path, json=body, headers=headers).problem(403)
    world.nobody.get(f"{SHOP}/orders").problem(401)


@check("Z1: each right of the staff opens what it is for, and nothing else")
def _(world: World) -> None:
    good, keeper = new_good(world), with_role(world, "shop_warehouse")
    receive(world, good, 1).want(201)
    keeper.get(f"{SHOP}/stock/{good.variant_id}").want(200)
    headers = {"Idempotency-Key": f"key-{good.variant_id}"[:64]}
    path = f"{SHOP}/stock/{good.variant_id}/{place(world)}/receipts"
    keeper.post(path, {"quantity": 1}, headers=headers).want(201)
    for method, closed, body in (
        ("POST", f"{ADMIN}/coupons", {"code": "MINE", "kind": "percent", "value": 10_000}),
        ("POST", f"{SHOP}/products", {"title": {"en": "Mine"}}),
        ("GET", f"{SHOP}/ledger", NO_BODY),
        ("GET", f"{SHOP}/payments", NO_BODY),
        ("PATCH", f"{SHOP}/products/{good.product_id}", {"brand": "mine"}),
    ):
        keeper.ask(method, closed, json=body).problem(403)


@check("Bodies that are meant to break the parser are refused quickly")
def _(world: World) -> None:
    for content in (b'{"x": %s%s}' % (b"[" * 100_000, b"]" * 100_000), b'{"x": "%s"}' % (b"x" * 1_100_000)):
        headers = {"Content-Type": "application/json", "Idempotency-Key": "x" * 20}
        world.nobody.post(f"{SHOP}/checkout", content=content, headers=headers).problem(400, 413, 422)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
        headers = {"Content-Type": kind, "Idempotency-Key": "x" * 20}
        world.nobody.post(f"{SHOP}/checkout", content=b'{"x": 1}', headers=headers).problem(415)


@check("An address that is none is 404 as a problem, with the id of the request")
def _(world: World) -> None:
    rules.has_request_id(world.nobody, f"{SHOP}/products")


@check("Answers carry the headers that keep browsers and proxies out of it")
def _(world: World) -> None:
    rules.has_safe_headers(world, world.ann, f"{SHOP}/orders")


@check("A method that an address does not know is 405, and Allow tells which it does")
def _(world: World) -> None:
    rules.knows_its_methods(world.nobody, f"{SHOP}/categories")


@check("Limits are told in a way that can be read")
def _(world: World) -> None:
    rules.tells_its_limits(world.nobody, f"{SHOP}/products")
