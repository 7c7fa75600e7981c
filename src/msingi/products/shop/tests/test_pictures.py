"""Pictures of goods: sent in once or often, shown, removed, swept; never without their files, nor these alone."""

import asyncio
import hashlib
import io
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from msgspec.structs import replace
from PIL import Image

from msingi.kit import clock, files
from msingi.kit import pictures as making
from msingi.kit.errors import AlreadyExists, Busy, Stale
from msingi.kit.files import Arrival
from msingi.kit.testing import PEOPLE, Client, World
from msingi.products.shop.actions import catalogue as goods
from msingi.products.shop.actions import pictures as actions
from msingi.products.shop.models.catalogue import Picture, Product, Words, products
from msingi.products.shop.models.pictures import KeptPicture, pictures
from msingi.products.shop.queries import pictures as queries
from msingi.products.shop.rules.pictures import UnknownPicture

DAY = timedelta(days=1, minutes=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def environ(folder: Path) -> dict[str, str]:
    return {"MSINGI_FILES": str(folder), "CDN_URL": "https://cdn.example"}


@pytest.fixture(autouse=True)
def empty(folder: Path, world: World) -> None:
    for path in [*folder.glob("files/*"), *folder.glob("arriving/*")]:
        path.unlink()


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*/*")}


def photo(colour: str = "red", width: int = 800, kind: str = "PNG", **more: Any) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (width, width // 2), colour).save(written, kind, **more)
    return written.getvalue()


async def sent(client: Client, content: bytes, expect: int = 201) -> Any:
    return await client.post("/pictures", content=content, expect=expect)


async def show(file: str, slug: str = "drum") -> Product:
    """Let a product show a picture."""
    picture = Picture(file=file, alt=Words(en="A drum"))
    return await goods.insert(Product(slug=slug, title=Words(en=slug), pictures=[picture]))


async def test_a_picture_is_sent_in_and_told_with_its_addresses(admin: Client, nobody: Client, folder: Path) -> None:
    told = await sent(admin, photo())
    assert admin.last.headers["location"] == f"/v1/shop/pictures/{told['id']}"
    assert (told["width"], told["height"], set(told["sizes"])) == (800, 400, {"320", "640"})
    assert told["url"] == f"https://cdn.example/files/{told['file']}"
    assert told["sizes"]["320"].startswith("https://cdn.example/files/")
    assert await admin.get(f"/pictures/{told['id']}") == told
    addresses = [told["url"], told["jpeg_url"], *told["sizes"].values()]
    assert kept(folder) == {address.rpartition("/")[2] for address in addresses}
    for address in addresses:
        content = await nobody.get("/" + address.removeprefix("https://cdn.example"))
        assert Image.open(io.BytesIO(content)).format == ("JPEG" if address.endswith("jpg") else "WEBP")


async def test_it_may_come_as_a_form(admin: Client) -> None:
    as_is = await sent(admin, photo())
    reply = await admin.http.post(
        "/v1/shop/pictures", files={"file": ("../x.svg", photo(), "image/svg+xml")}, headers=admin.headers
    )
    assert (reply.status_code, reply.json()) == (201, as_is)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "unsupported_media"),
        (b"", 422, "file_missing"),
        (photo()[:60], 422, "broken_picture"),
        (b"\xff\xd8\xff" + b"x" * 20_000_000, 413, "too_large"),
    ],
    ids=["svg", "nothing", "half", "much"],
)
async def test_i4_what_will_not_do_leaves_neither_file_nor_document(
    admin: Client, folder: Path, content: bytes, status: int, code: str
) -> None:
    assert (await sent(admin, content, status))["code"] == code
    assert kept(folder) == set()
    assert await pictures.count({}) == 0


async def test_z1_the_same_picture_at_the_same_time_is_one(admin: Client, folder: Path) -> None:
    told = await asyncio.gather(*(sent(admin, photo("green")) for _ in range(6)))
    assert {each["id"] for each in told} == {told[0]["id"]}
    assert await pictures.count({}) == 1
    assert len(kept(folder)) == 4


async def test_pictures_that_look_alike_share_no_file(admin: Client, folder: Path) -> None:
    one, other = await sent(admin, photo()), await sent(admin, photo(kind="WEBP", lossless=True))
    assert one["id"] != other["id"]
    await admin.delete(f"/pictures/{one['id']}")
    for address in (other["url"], other["jpeg_url"], *other["sizes"].values()):
        assert address.rpartition("/")[2] in kept(folder)


async def test_an_unused_picture_is_removed_with_its_files(admin: Client, folder: Path) -> None:
    told = await sent(admin, photo())
    await admin.delete(f"/pictures/{told['id']}", expect=204)
    await admin.get(f"/pictures/{told['id']}", expect=404)
    await admin.delete(f"/pictures/{told['id']}", expect=404)
    assert kept(folder) == set()
    assert await sent(admin, photo()) == told


async def test_a_picture_that_a_product_shows_stays(admin: Client, folder: Path) -> None:
    told = await sent(admin, photo())
    await show(told["file"])
    assert (await admin.delete(f"/pictures/{told['id']}", expect=409))["code"] == "picture_in_use"
    with clock.shifted(DAY):
        assert await actions.sweep() == 0
    assert len(kept(folder)) == 4


async def test_what_nobody_shows_is_swept_after_a_day(admin: Client, folder: Path) -> None:
    await sent(admin, photo())
    assert await actions.sweep() == 0
    with clock.shifted(DAY):
        again = await actions.add(await arrived(photo()), PEOPLE["admin"])  # wanted again: it stays a day longer
        assert await actions.sweep() == 0
        assert kept(folder) - {"x"} == set(again.files)
    with clock.shifted(2 * DAY):
        assert await actions.sweep() == 1
    assert kept(folder) == {"x"}
    assert await pictures.count({}) == 0


async def test_c2_a_crash_while_files_were_kept_is_healed_by_sending_it_again(
    admin: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = making.keep

    async def crash(made: making.Made, of: str) -> None:
        await files.put(made.largest.content, made.largest.kind, of)
        raise RuntimeError("killed")

    monkeypatch.setattr(making, "keep", crash)
    await sent(admin, photo(), 500)
    assert len(kept(folder)) == 1
    (half,) = await pictures.many({})
    await admin.get(f"/pictures/{half.id}", expect=404)
    monkeypatch.setattr(making, "keep", keep)
    told = await sent(admin, photo())
    assert await admin.get(f"/pictures/{half.id}") == told
    assert len(kept(folder)) == 4


async def test_c2_a_crash_while_files_were_kept_is_swept(
    admin: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(made: making.Made, of: str) -> None:
        await files.put(made.largest.content, made.largest.kind, of)
        raise RuntimeError("killed")

    monkeypatch.setattr(making, "keep", crash)
    await sent(admin, photo(), 500)
    with clock.shifted(DAY):
        assert await actions.sweep() == 1
    assert (kept(folder), await pictures.count({})) == (set(), 0)


async def test_c2_a_crash_while_files_were_removed_is_finished_by_the_next_sweep(
    admin: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await sent(admin, photo())
    with monkeypatch.context() as patch:

        async def crash(name: str) -> None:
            raise RuntimeError("killed")

        patch.setattr(files, "remove", crash)
        await admin.delete(f"/pictures/{told['id']}", expect=500)
    await admin.get(f"/pictures/{told['id']}", expect=404)
    assert (await sent(admin, photo(), 503))["code"] == "busy"  # until it is gone
    assert await actions.sweep() == 1
    assert (kept(folder), await pictures.count({})) == (set(), 0)


async def test_c3_what_is_used_meanwhile_is_not_let_go(admin: Client, folder: Path) -> None:
    told = await sent(admin, photo())
    seen = await pictures.get(told["id"])
    await show(told["file"])
    with pytest.raises(Stale):
        await actions._let_go(seen)
    assert len(kept(folder)) == 4


async def test_c3_no_product_shows_what_is_not_there(admin: Client) -> None:
    told = await sent(admin, photo())
    await admin.delete(f"/pictures/{told['id']}")
    with pytest.raises(UnknownPicture):
        await show(told["file"])
    assert not await products.exists({"slug": "drum"})


# ---- on products


async def put_on(id: str, file: str) -> Product:
    """Have a product that is there show a picture."""
    there = await products.get(id)
    return await goods.save(there, replace(there, pictures=[Picture(file=file, alt=Words(en="A drum"))]))


def named(*files: str) -> list[dict[str, Any]]:
    return [{"file": file, "alt": {"en": "A drum", "sw": "Ngoma"}} for file in files]


async def test_a_product_shows_pictures_with_their_own_measures(admin: Client, nobody: Client) -> None:
    one, other = await sent(admin, photo()), await sent(admin, photo("blue", 400))
    made = await admin.post("/products", title={"en": "Drum"}, pictures=named(one["file"]))
    (shown,) = made["pictures"]
    assert shown == {"file": one["file"], "alt": {"en": "A drum", "sw": "Ngoma"}, "width": 800, "height": 400}
    both = await admin.patch(f"/products/{made['id']}", pictures=named(other["file"], one["file"]))
    assert [each["width"] for each in both["pictures"]] == [400, 800]
    await admin.patch("/products/tea", pictures=named(other["file"]))
    assert (await nobody.get("/products/tea"))["pictures"][0]["file"] == other["file"]
    again = await admin.patch("/products/tea", pictures=named(other["file"]))
    assert again["version"] == (await admin.get("/catalogue/products/tea"))["version"]
    assert (await admin.patch("/products/tea", pictures=[]))["pictures"] == []


@pytest.mark.parametrize("file", ["0" * 64 + ".webp", "../secret", "a", 7])
async def test_c3_a_product_names_no_picture_that_is_not_there(admin: Client, file: Any) -> None:
    told = await sent(admin, photo())
    wrong = named(told["file"], file)
    for method, path in (("POST", "/products"), ("PATCH", "/products/tea")):
        refused = await admin.ask(method, path, title={"en": "Drum"}, pictures=wrong, expect=422)
        assert refused["code"] == ("unknown_picture" if file == "0" * 64 + ".webp" else "invalid_fields")
    assert (await admin.get("/catalogue/products/tea"))["pictures"] == []
    with clock.shifted(DAY):
        assert await actions.sweep() == 1  # nothing was noted of what was refused


async def test_a_picture_that_was_taken_off_stays_a_day_longer(admin: Client, folder: Path) -> None:
    told = await sent(admin, photo())
    await admin.patch("/products/tea", pictures=named(told["file"]))
    with clock.shifted(DAY):
        await goods.save(await products.get("tea"), replace(await products.get("tea"), pictures=[]))
        assert await actions.sweep() == 0
    with clock.shifted(2 * DAY):
        assert await actions.sweep() == 1
    assert kept(folder) == set()


async def test_c3_what_is_put_on_while_the_sweep_has_found_it_unused_stays(
    admin: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has the picture in its hands, at the last version that was unused, when a product comes to show it."""
    told = await sent(admin, photo())
    found = queries.find

    async def found_then_put_on(id: str) -> KeptPicture | None:
        picture = await found(id)
        monkeypatch.setattr(queries, "find", found)
        await put_on("tea", told["file"])
        return picture

    monkeypatch.setattr(queries, "find", found_then_put_on)
    with clock.shifted(DAY):
        assert await actions.sweep() == 0
    assert len(kept(folder)) == 4
    assert (await admin.get(f"/pictures/{told['id']}"))["file"] == told["file"]


async def test_c3_what_the_sweep_has_let_go_of_is_put_on_nothing(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await sent(admin, photo())
    clear = actions._clear

    async def put_on_then_clear(picture: KeptPicture) -> None:
        with pytest.raises(UnknownPicture):
            await put_on("tea", told["file"])
        await clear(picture)

    monkeypatch.setattr(actions, "_clear", put_on_then_clear)
    with clock.shifted(DAY):
        assert await actions.sweep() == 1
    assert (await admin.get("/catalogue/products/tea"))["pictures"] == []


async def test_c3_putting_on_and_sweeping_at_once_never_leaves_a_product_without_its_picture(
    admin: Client, folder: Path
) -> None:
    for round in range(3):
        told = await sent(admin, photo("blue", 400))
        with clock.shifted(DAY):

            async def try_on(id: str, file: str = told["file"]) -> None:
                with suppress(UnknownPicture):
                    await put_on(id, file)

            await asyncio.gather(try_on("tea"), actions.sweep(), try_on("coffee"), actions.sweep())
            showing = await products.many({"pictures.file": told["file"]})
            there = await pictures.find({"_id": told["id"]})
            assert there is None or there.stage == "there", round
            assert len(kept(folder)) == (3 if there else 0)
            assert there is not None or not showing, round
            for each in showing:
                await goods.save(each, replace(each, pictures=[]))
        with clock.shifted(2 * DAY):
            await actions.sweep()


async def test_c3_sending_and_sweeping_at_once_leaves_a_picture_whole_or_gone(
    admin: Client, folder: Path, world: World
) -> None:
    content = photo("blue", 400)
    for _ in range(4):
        told = await sent(admin, content)
        with clock.shifted(DAY):

            async def send() -> str:
                try:
                    return (await actions.add(await arrived(content), PEOPLE["admin"])).id
                except (Busy, Stale):
                    return ""

            results = await asyncio.gather(send(), actions.sweep(), send(), actions.sweep())
            there = await pictures.find({"_id": told["id"]})
            assert (kept(folder) - {"x"}) == set(there.files if there else ())
            assert there is None or there.stage == "there", results


async def arrived(content: bytes) -> Arrival:
    """As `files.arriving` would have it, from a temporary object that stays."""
    await obstore.put_async(files.storage().store, "arriving/x", content)
    return Arrival("arriving/x", "image/png", len(content), hashlib.sha256(content).hexdigest())


async def test_the_sweep_finds_what_nobody_shows_by_an_index(admin: Client) -> None:
    told = await sent(admin, photo())
    await show(told["file"])
    plan = await products.raw.find({"pictures.file": told["file"]}).explain()
    assert "IXSCAN" in str(plan["queryPlanner"]["winningPlan"])


async def test_two_documents_cannot_claim_a_file(admin: Client) -> None:
    told = await sent(admin, photo())
    there = await pictures.get(told["id"])
    assert isinstance(there, KeptPicture)
    with pytest.raises(AlreadyExists):
        await actions._insert(replace(there, id="another"))
