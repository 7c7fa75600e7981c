"""One person's data over all products: taken away whole, and gone everywhere when they go."""

import io
import json
import zipfile
from typing import Any

import pytest

from msingi import catalog
from msingi.kit import mail
from msingi.kit.product import Product
from msingi.kit.testing import World
from msingi.products.accounts.tests.people import signed_in


@pytest.fixture(scope="module")
def products() -> list[Product]:
    """All there are."""
    return list(catalog.products(None))


async def test_an_export_holds_what_every_product_has_of_a_person_and_nothing_of_another(world: World) -> None:
    ann, bob = await signed_in(world, "ann"), await signed_in(world, "bob")
    await ann.post("/v1/notes", title="Milk of Ann", body="Two litres")
    await bob.post("/v1/notes", title="Secret of Bob", body="Hidden")
    project = await ann.post("/v1/tasks/projects", name="Barn of Ann")
    await ann.post(f"/v1/tasks/projects/{project['id']}/tasks", title="Paint it")
    await ann.put("/v1/shop/cart/lines/tea-250", quantity=7)
    await bob.put("/v1/shop/cart/lines/kikoi-red", quantity=1)
    export = await ann.post("/v1/accounts/me/export", expect=202)
    await world.work()
    told = _unzipped(await ann.get(f"/v1/accounts/me/exports/{export['id']}"))
    assert set(told) == {"accounts.json", "notes.json", "tasks.json", "shop.json"}
    assert "Milk of Ann" in [each["title"] for each in told["notes.json"]["notes"]]
    assert "Barn of Ann" in [each["name"] for each in told["tasks.json"]["projects"]]
    assert "Paint it" in [each["title"] for each in told["tasks.json"]["tasks"]]
    assert [each["quantity"] for each in told["shop.json"]["cart"]["lines"]] == [7]
    whole = json.dumps(told)
    assert "Secret of Bob" not in whole
    assert "bob@msingi.test" not in whole
    assert "kikoi" not in whole


async def test_who_is_erased_leaves_nothing_in_any_product(world: World) -> None:
    eve = await signed_in(world, "eve")
    await eve.post("/v1/notes", title="Milk of Eve", body="Two litres")
    await eve.post("/v1/tasks/projects", name="Barn of Eve")
    await eve.put("/v1/shop/cart/lines/tea-250", quantity=7)
    await eve.delete("/v1/accounts/me", expect=204)
    await world.work()
    assert [each.template for each in await mail.written() if each.to == "eve@msingi.test"] == ["erased"]
    for product in world.house.products:
        for store in product.stores:
            rows = [str(row) async for row in store.raw.find()]
            assert [row for row in rows if "of Eve" in row or "user.eve" in row] == [], store.name


def _unzipped(file: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}
