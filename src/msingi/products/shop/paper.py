"""Handing out invoices and credit notes as PDF: drawn one at a time, in a thread, and kept for who asks next."""

import asyncio
from collections import OrderedDict
from hashlib import blake2b
from typing import Any

import msgspec
from litestar import Request, Response

from msingi.kit import state
from msingi.kit.errors import Busy
from msingi.products.shop.rules.papers import Paper

PDF = "application/pdf"
DRAWING = 1  # raised whenever the same paper is drawn otherwise
KEPT = 16  # papers that a process keeps as they were drawn, the latest asked for; some 25 kB each
MOST_WAITING = 32  # one is drawn at a time in each process; this many more may wait for their turn


class Desk:
    """Where papers of this process wait for their turn, and those that were drawn lately."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(1)
        self.waiting = 0
        self.drawn: OrderedDict[str, bytes] = OrderedDict()


def drawn(paper: Paper) -> bytes:
    """The paper as a PDF. It takes some hundredths of a second of the processor: call it in a thread."""
    from msingi.products.shop import drawing  # noqa: PLC0415  (most processes never draw, and it takes 14 MB)

    return drawing.drawn(paper)


async def pdf(paper: Paper) -> bytes:
    """The paper as a PDF, drawn in a thread, one at a time. Raises Busy if too many wait."""
    desk, tag = state.part(Desk), tag_of(paper)
    if tag in desk.drawn:
        desk.drawn.move_to_end(tag)
        return desk.drawn[tag]
    if desk.waiting >= MOST_WAITING:
        raise Busy(retry_after=2)
    desk.waiting += 1
    try:
        async with desk.free:
            if tag not in desk.drawn:  # whoever waited for the same has it by now
                desk.drawn[tag] = await asyncio.to_thread(drawn, paper)
    finally:
        desk.waiting -= 1
    while len(desk.drawn) > KEPT:
        desk.drawn.popitem(last=False)
    return desk.drawn[tag]


def tag_of(paper: Paper) -> str:
    """What names these bytes: the same for the same paper, as long as it is drawn the same."""
    return blake2b(msgspec.json.encode([DRAWING, paper]), digest_size=12).hexdigest()


async def handed_out(
    paper: Paper, request: Request[Any, Any, Any], *, cache: str = "private, no-cache"
) -> Response[bytes]:
    """The PDF as a reply; who has it already gets 304, and nothing is drawn."""
    tag = tag_of(paper)
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": cache,
        "Content-Disposition": f'inline; filename="{paper.number}.pdf"',
        "Referrer-Policy": "no-referrer",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers, media_type=PDF)
    return Response(await pdf(paper), headers=headers, media_type=PDF)
