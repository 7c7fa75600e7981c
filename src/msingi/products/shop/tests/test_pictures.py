"""Pictures of goods: sent in once or often, shown, removed, swept; never without their files, nor these alone."""

import asyncio
import hashlib
import io
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
from msingi.kit.unit import atomic
from msingi.products.shop.actions import pictures as actions
from msingi.products.shop.models.catalogue import Picture, Product, Words, products
from msingi.products.shop.models.pictures import KeptPicture, pictures
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
    """Let a product show a picture, as the catalogue does."""

    @atomic
    async def add() -> Product:
        await actions.put_on([file])
        picture = Picture(file=file, alt=Words(en="A drum"))
        return await products.add(Product(slug=slug, title=Words(en=slug), pictures=[picture]))

    return await add()


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
