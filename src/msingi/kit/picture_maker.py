"""A program of its own that turns one hostile picture, on its input, into harmless ones, on its output.

It knows nothing of the house: kit.pictures starts it with an empty environment, and it takes away from itself what it
does not need. What makes it fall over takes nobody along, and its memory goes back when it ends.
"""

import json
import os
import resource
import sys
from io import BytesIO
from typing import Any

from PIL import Image, ImageCms

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")  # a JPEG of several pictures (MPO) counts as the first
LARGEST = 2560  # pixels of the longer side of the largest one that is made
MEMORY = 1536 * 2**20  # bytes of addresses
SECONDS = 30  # of the processor
ORIENTATION = 0x0112  # of EXIF: how the camera was held
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def main() -> None:
    """Read a picture, write a line of JSON and the bytes of what it names. `argv`: most pixels, then the widths."""
    _take_away()
    most, *widths = map(int, sys.argv[1:])
    try:
        told, pieces = made_of(sys.stdin.buffer.read(), most, widths)
    except TooMany as fault:
        told, pieces = {"fault": "pixels", "pixels": fault.args[0]}, []
    except Exception as fault:  # noqa: BLE001  (a reader of pictures may raise anything; none of it is our fault)
        told, pieces = {"fault": "broken", "reason": f"{type(fault).__name__}: {fault}"[:200]}, []
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n" + b"".join(pieces))


def _take_away() -> None:
    """Let this process need little, write no file, and stand behind all others in the queue."""
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class TooMany(Exception):
    """The picture would have so many pixels."""


def made_of(source: bytes, most: int, widths: list[int]) -> tuple[dict[str, Any], list[bytes]]:
    """What is made of a picture: `{"width", "height", "pieces": [{"width", "kind", "bytes"}, …]}`, and the pieces.

    First the largest as WebP, then those of `widths` that it is not narrower than, then a JPEG for who reads no WebP.
    Raises TooMany before a pixel is decoded.
    """
    picture = read(source, most)
    sizes = [picture, *(_as_wide_as(picture, width) for width in widths if width <= picture.width)]
    pieces = [(each.width, "image/webp", _webp(each)) for each in sizes]
    pieces.append((sizes[-1].width, "image/jpeg", _jpeg(sizes[-1])))
    named = [{"width": width, "kind": kind, "bytes": len(piece)} for width, kind, piece in pieces]
    return {"width": picture.width, "height": picture.height, "pieces": named}, [piece for *_, piece in pieces]


def read(source: bytes, most: int) -> Image.Image:
    """The first frame, upright, in the colours of the web, no larger than LARGEST, without a word of metadata."""
    Image.MAX_IMAGE_PIXELS = None  # our own limit is lower and comes as early: only the header has been read
    with Image.open(BytesIO(source), formats=FORMATS) as opened:
        if opened.width * opened.height > most:
            raise TooMany(opened.width * opened.height)
        turn = TURNS.get(_orientation(opened))
        opened.draft(opened.mode, (LARGEST, LARGEST))  # a great JPEG is decoded at a half, a quarter or an eighth
        opened.load()
        picture = _plain(opened)
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if turn is not None:
        picture = picture.transpose(turn)
    picture.info.clear()  # else the writers copy profile, comment and more
    return picture


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001  (broken metadata is no reason to refuse the picture)
        return 1


def _plain(picture: Image.Image) -> Image.Image:
    """RGB, or RGBA where something shows through, whatever it was: palette, 16 bits, CMYK, a camera's own colours."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _of_sixteen_bits(picture)
    seen_through = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    alpha = picture.convert("RGBA").getchannel("A") if seen_through else None
    colours = _in_srgb(picture if picture.mode in ("RGB", "L", "CMYK") else picture.convert("RGB"), picture.info)
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def _of_sixteen_bits(picture: Image.Image) -> Image.Image:
    return picture.convert("I").point(lambda level: level * (1 / 257)).convert("L").convert("RGB")


def _in_srgb(picture: Image.Image, info: dict[Any, Any]) -> Image.Image:
    profile = info.get("icc_profile")
    if profile:
        try:
            given = ImageCms.ImageCmsProfile(BytesIO(profile))
            turned = ImageCms.profileToProfile(picture, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if turned is not None:
                return turned
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a profile that is broken, or of other colours than the picture's
    return picture.convert("RGB")


def _as_wide_as(picture: Image.Image, width: int) -> Image.Image:
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _webp(picture: Image.Image) -> bytes:
    written = BytesIO()
    picture.save(written, "WEBP", quality=80, method=4)
    return written.getvalue()


def _jpeg(picture: Image.Image) -> bytes:
    if picture.mode == "RGBA":  # JPEG has nothing to show through
        ground = Image.new("RGB", picture.size, "white")
        ground.paste(picture, mask=picture.getchannel("A"))
        picture = ground
    written = BytesIO()
    picture.save(written, "JPEG", quality=82, optimize=True, progressive=True)
    return written.getvalue()


if __name__ == "__main__":
    main()
