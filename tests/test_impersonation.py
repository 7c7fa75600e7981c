"""Who acts in somebody's name changes nothing of who they are: asked of every route of every product."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from litestar import Litestar
from tests.serving import Served

from msingi import catalog
from msingi.kit import http
from msingi.kit.actors import Actor
from msingi.kit.product import Product
from msingi.kit.testing import World

EVERYTHING = frozenset({"user", "admin"})  # so that no permission is what stands in the way
ACTING = Actor(id="ann", name="Ann", roles=EVERYTHING, acting="admin", methods=frozenset({"imp"}))
SCOPES = frozenset(f"{name}:{way}" for name in [*catalog.NAMES, "house"] for way in ("read", "write"))
PROGRAM = Actor(id="ann", name="Ann", roles=EVERYTHING, client="key:k", scopes=SCOPES)


@pytest.fixture(scope="module")
def products() -> list[Product]:
    """All there are."""
    return list(catalog.products(None))


def of_the_person(products: list[Product]) -> Iterator[tuple[str, str, Any]]:
    """Every route, with what it says of itself."""
    handlers = [route for product in products for route in [product.router(), *product.root_routes]]
    app = Litestar(handlers, dependencies=dict(http.DEPENDENCIES), openapi_config=None)
    for route in app.routes:
        for method, one in getattr(route, "route_handler_map", {}).items():
            handler = one[0] if isinstance(one, tuple) else one
            if method not in ("OPTIONS", "HEAD"):
                yield method, route.path_format, handler.opt


@pytest.mark.parametrize("who", [ACTING, PROGRAM], ids=["acting", "program"])
async def test_a19_what_is_the_persons_alone_nobody_does_for_them(
    world: World, products: list[Product], who: Actor
) -> None:
    client = world.client(who)
    tried = []
    async with client.http:
        for method, path, opt in of_the_person(products):
            if opt.get("in_person") is True or opt.get("step_up") is True:
                reply = await client.http.request(method, placed(path), headers=client.headers, json={})
                assert reply.status_code == 403, (method, path, reply.status_code, reply.text[:300])
                if "json" in reply.headers["content-type"]:
                    assert reply.json()["code"] == "in_person_only", (method, path, reply.text[:300])
                tried.append((method, path))
                await asyncio.sleep(0)
    assert len(tried) >= 12
    assert {("POST", "/v1/accounts/me/password"), ("POST", "/v1/accounts/api-keys")} <= set(tried)


def placed(path: str) -> str:
    """The address of nothing."""
    return "/".join("x" if part.startswith("{") else part for part in path.split("/"))


# What an admin who acts in somebody's name, or a program of theirs, may change of their account.
HARMLESS = {
    ("PATCH", "/v1/accounts/me"),
    ("POST", "/v1/accounts/sign-out"),
    ("POST", "/v1/accounts/questions/{name}"),  # asked by products, and changes nothing
    ("POST", "/oauth/userinfo"),  # reads
}


def test_a19_every_other_write_to_an_account_is_the_persons_alone(products: list[Product]) -> None:
    open_ones = {
        (method, path)
        for method, path, opt in of_the_person([each for each in products if each.name == "accounts"])
        if method != "GET" and not (opt.get("public") or opt.get("in_person") or opt.get("step_up") or opt.get("page"))
    }
    assert open_ones == HARMLESS


def test_every_page_says_in_whose_name_one_acts_and_has_the_button_that_ends_it(served: Served) -> None:
    with served.newcomer() as person, served.another_admin() as admin:
        me = person.get("/v1/accounts/me").json()
        form = {"reason": "ticket 4711", "session": "cookie"}
        reply = admin.post(f"/v1/accounts/users/{me['id']}/impersonation", json=form)
        cookie = reply.raise_for_status().headers["set-cookie"].partition(";")[0]
    with served.client() as browser:
        english = browser.get("/docs", headers={"cookie": cookie, "accept-language": "en"}).text
        swahili = browser.get("/docs", headers={"cookie": cookie, "accept-language": "sw"}).text
        plain = browser.get("/docs").text
    assert f"<span>You act as <strong>{me['name']}</strong></span>" in english
    assert 'action="/sign-out"' in english.partition("You act as")[0]
    assert "Unatenda kwa niaba ya" in swahili
    assert "You act as" not in plain
