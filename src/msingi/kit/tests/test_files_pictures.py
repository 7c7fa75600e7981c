"""Pictures that strangers send: what is made of them, what is refused, and that others do not have to wait for it."""

import asyncio
import io
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageCms, ImageDraw

from msingi.kit.tests.served import Server, serving
from msingi.kit.tests.test_files import APP, MEGABYTE, SVG, environ, kept, left, memory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(environ(folder) | {"BODY_SECONDS": "30"}, app=APP) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def saved(picture: Image.Image, kind: str, **more: Any) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, **more)
    return written.getvalue()


def flag(width: int = 1600, height: int = 1200, mode: str = "RGB") -> Image.Image:
    """Red on the left, green on the right, with a blue top."""
    picture = Image.new("RGB", (width, height), (200, 0, 0))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((width // 2, 0, width, height), fill=(0, 160, 0))
    draw.rectangle((0, 0, width, height // 4), fill=(0, 0, 220))
    return picture.convert(mode)


def made(client: httpx.Client, content: bytes) -> tuple[dict[str, Any], Image.Image]:
    reply = client.post("/pictures", content=content)
    assert reply.status_code == 201, reply.text
    shown = client.get(f"/files/{reply.json()['file']}")
    assert shown.headers["content-type"] == "image/webp"
    return reply.json(), Image.open(io.BytesIO(shown.content))


def looks_like(picture: Image.Image, x: float, y: float, colour: tuple[int, int, int], far: int = 40) -> bool:
    found: Any = picture.convert("RGB").getpixel((int(x * picture.width), int(y * picture.height)))
    return all(abs(a - b) <= far for a, b in zip(found, colour, strict=True))


# ---- what is made


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("PNG", "LA"),
        ("WEBP", "RGBA"),
        ("GIF", "P"),
        ("AVIF", "RGB"),
    ],
)
def test_whatever_it_was_it_becomes_webp_in_three_sizes(client: httpx.Client, kind: str, mode: str) -> None:
    told, picture = made(client, saved(flag(mode=mode), kind))
    assert (told["width"], told["height"], picture.size, picture.format) == (1600, 1200, (1600, 1200), "WEBP")
    assert set(told["sizes"]) == {"320", "640", "1280"}
    if mode not in ("L", "LA", "1"):
        assert looks_like(picture, 0.2, 0.6, (200, 0, 0), 60)
        assert looks_like(picture, 0.8, 0.6, (0, 160, 0), 60)
    for width, name in told["sizes"].items():
        smaller = Image.open(io.BytesIO(client.get(f"/files/{name}").content))
        assert smaller.size == (int(width), int(width) * 3 // 4)


def test_sixteen_bits_become_eight(client: httpx.Client) -> None:
    grey = Image.new("I;16", (400, 300), 0x8080)
    _, picture = made(client, saved(grey, "PNG"))
    assert looks_like(picture, 0.5, 0.5, (128, 128, 128), 4)


def test_nothing_is_made_larger_than_it_was(client: httpx.Client) -> None:
    told, picture = made(client, saved(flag(500, 100), "PNG"))
    assert (set(told["sizes"]), picture.size) == ({"320"}, (500, 100))
    told, picture = made(client, saved(flag(10, 2), "PNG"))
    assert (set(told["sizes"]), picture.size) == (set(), (10, 2))
    told, picture = made(client, saved(flag(640, 480), "PNG"))
    assert (set(told["sizes"]), told["sizes"]["640"]) == ({"320", "640"}, told["file"])


@pytest.mark.parametrize(
    ("size", "becomes"), [((5120, 2560), (2560, 1280)), ((40, 16_000), (6, 2560)), ((1, 1), (1, 1))]
)
def test_a_great_one_becomes_one_that_screens_can_show(
    client: httpx.Client, size: tuple[int, int], becomes: tuple[int, int]
) -> None:
    assert made(client, saved(flag(*size), "PNG"))[1].size == becomes


def test_what_shows_through_still_does_and_the_jpeg_is_on_white(client: httpx.Client, folder: Path) -> None:
    before = kept(folder)
    _, picture = made(client, saved(Image.new("RGBA", (300, 300), (0, 0, 0, 0)), "PNG"))
    assert picture.convert("RGBA").getpixel((150, 150))[3] == 0  # type: ignore[index]
    (jpeg,) = [name for name in kept(folder) - before if name.endswith(".jpg")]
    assert looks_like(Image.open(io.BytesIO((folder / "files" / jpeg).read_bytes())), 0.5, 0.5, (255, 255, 255), 3)


def test_of_a_moving_one_the_first_frame_is_kept(client: httpx.Client) -> None:
    frames = [Image.new("RGB", (400, 300), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        _, picture = made(client, content)
        assert not getattr(picture, "is_animated", False)
        assert looks_like(picture, 0.5, 0.5, (255, 0, 0), 12)


def test_colours_of_a_profile_become_those_of_the_web(client: httpx.Client) -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))  # a profile of other colours: passed over
    broken = saved(flag(), "JPEG", icc_profile=b"no profile at all")
    wrong = saved(flag(), "JPEG", icc_profile=swapped.tobytes())
    right = saved(flag(), "JPEG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for content in (broken, wrong, right):
        _, picture = made(client, content)
        assert looks_like(picture, 0.2, 0.6, (200, 0, 0))
        assert "icc_profile" not in picture.info


# ---- what is not kept


def camera(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8825).update({1: "S", 2: (1.0, 17.0, 10.0), 3: "E", 4: (36.0, 49.0, 0.0)})
    return exif


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_i4_where_it_was_taken_is_gone_from_all_that_is_kept(client: httpx.Client, folder: Path, kind: str) -> None:
    content = saved(flag(), kind, exif=camera(), **({"comment": b"secret words"} if kind == "JPEG" else {}))
    assert dict(Image.open(io.BytesIO(content)).getexif().get_ifd(0x8825))[1] == "S"
    before = kept(folder)
    made(client, content)
    for name in kept(folder) - before:
        content = (folder / "files" / name).read_bytes()
        picture = Image.open(io.BytesIO(content))
        assert not picture.getexif()
        assert set(picture.info) <= {
            "jfif",
            "jfif_version",
            "jfif_unit",
            "jfif_density",
            "progressive",
            "progression",
            "loop",
            "background",
            "timestamp",
            "duration",
        }
        for secret in (b"Exif", b"a camera", b"secret words", b"http://ns.adobe.com"):
            assert secret not in content


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_stands_upright_before_the_word_about_it_is_gone(client: httpx.Client, orientation: int) -> None:
    how: dict[int, list[Image.Transpose]] = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    held = flag(800, 600)
    for turn in how[orientation]:
        held = held.transpose(turn)
    _, picture = made(client, saved(held, "JPEG", exif=camera(orientation)))
    assert picture.size == (800, 600)
    assert looks_like(picture, 0.2, 0.6, (200, 0, 0))
    assert looks_like(picture, 0.8, 0.6, (0, 160, 0))
    assert looks_like(picture, 0.5, 0.1, (0, 0, 220))


@pytest.mark.parametrize("tail", [b"PK\x03\x04evil.zip", b"<script>alert(1)</script>", b"\x00" * 100_000 + b"%PDF-1.7"])
def test_i4_what_hides_behind_the_last_pixel_is_gone(client: httpx.Client, folder: Path, tail: bytes) -> None:
    before = kept(folder)
    made(client, saved(flag(700, 500), "JPEG", quality=30 + len(tail) % 40) + tail)
    assert kept(folder) - before
    for name in kept(folder) - before:
        assert tail[-15:] not in (folder / "files" / name).read_bytes()


# ---- what is refused


def png_of(width: int, height: int, rows: int = 1) -> bytes:
    """A PNG that says that it is so large, and holds some rows of it, squeezed to nearly nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    squeezer = zlib.compressobj(9)
    data = b"".join(squeezer.compress(b"\x00" * (1 + 3 * width)) for _ in range(rows)) + squeezer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def webp_of(width: int, height: int) -> bytes:
    """An animated WebP whose canvas is said to be so large."""
    canvas = b"\x02\x00\x00\x00" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<I", 6) + b"\x00" * 6
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_of(width: int, height: int) -> bytes:
    one = saved(Image.new("P", (1, 1)), "GIF")
    return one[:6] + struct.pack("<HH", width, height) + one[10:]


@pytest.mark.parametrize(
    "content",
    [png_of(50_000, 50_000), png_of(7_100, 7_100, 7_100), png_of(1, 2_000_000_000), gif_of(65_535, 65_535)],
    ids=["a great one", "a whole one", "a tall one", "a GIF"],
)
def test_c13_a_picture_that_would_unfold_is_refused_by_what_it_says(
    server: Server, client: httpx.Client, folder: Path, content: bytes
) -> None:
    (worker,) = server.workers()
    before, there = memory(worker, "VmRSS"), kept(folder)
    began = time.monotonic()
    reply = client.post("/pictures", content=content)
    assert (reply.status_code, reply.json()["code"]) == (422, "too_many_pixels")
    assert reply.json()["limit"] == 50_000_000
    assert time.monotonic() - began < 5
    assert memory(worker, "VmRSS") - before < 20 * MEGABYTE
    assert (left(folder), kept(folder)) == ([], there)


@pytest.mark.parametrize(
    "content",
    [
        webp_of(16_383, 16_383),
        saved(flag(), "JPEG")[:5000],
        saved(flag(), "WEBP")[:500],
        saved(flag(), "PNG")[:60],
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + b"x" * 5000,
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=["a canvas", "half a JPEG", "half a WebP", "half a PNG", "no JPEG", "no PNG"],
)
def test_c13_what_cannot_be_decoded_is_refused_and_hurts_nobody(
    server: Server, client: httpx.Client, folder: Path, content: bytes
) -> None:
    workers, there = server.workers(), kept(folder)
    reply = client.post("/pictures", content=content)
    assert (reply.status_code, reply.json()["code"]) in ((422, "broken_picture"), (422, "too_many_pixels"))
    assert (left(folder), kept(folder), server.workers()) == ([], there, workers)


@pytest.mark.parametrize("content", [SVG, b"<?xml version='1.0'?>" + SVG, b"PK\x03\x04" + b"\x00" * 5000, b"%PDF-1.7"])
def test_i4_what_is_no_picture_of_pixels_is_refused(client: httpx.Client, content: bytes) -> None:
    reply = client.post("/pictures", content=content, headers={"Content-Type": "image/png"})
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media")


# ---- what it costs others


async def test_others_do_not_wait_while_pictures_are_made(server: Server, folder: Path) -> None:
    noise = Image.effect_noise((2000, 1500), 90).convert("RGB")
    contents = [saved(noise, "JPEG", quality=80 + number) for number in range(4)]
    limits = httpx.Limits(max_connections=30)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60, limits=limits) as client:
        makings = [asyncio.create_task(client.post("/pictures", content=each)) for each in contents]
        waits = []
        while not all(each.done() for each in makings):
            began = time.perf_counter()
            assert (await client.get("/quick")).status_code == 200
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.01)
        assert {each.result().status_code for each in makings} == {201}
    assert len(waits) > 50
    assert sorted(waits)[int(len(waits) * 0.99)] < 0.25
    assert left(folder) == []


async def test_who_comes_when_too_many_wait_is_told_to_come_again(server: Server, folder: Path) -> None:
    contents = [saved(Image.effect_noise((400, 400), 50 + number), "JPEG") for number in range(14)]
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as client:
        replies = await asyncio.gather(*(client.post("/pictures", content=each) for each in contents))
    told = [reply.status_code for reply in replies]
    assert set(told) == {201, 503}
    assert {reply.headers["retry-after"] for reply in replies if reply.status_code == 503} == {"3"}
    assert left(folder) == []
