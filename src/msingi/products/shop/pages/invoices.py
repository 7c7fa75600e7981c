"""Pages for whoever holds an invoice: whether it is genuine, and the paper that a letter links to."""

from litestar import Response
from litestar.types import ControllerRouterHandler

from msingi.kit.http import Path, Query, page_at
from msingi.products.shop import paper
from msingi.products.shop.pages.shell import AnyRequest, show_to_anybody
from msingi.products.shop.queries import invoices as queries


@page_at("/shop/invoices/{number:str}", public=True, limit="60/minute")
async def show_check(request: AnyRequest, number: Path[str], check: Query[str] = "") -> Response[str]:
    """Where the code on an invoice or a credit note leads: what it must say if it is genuine."""
    reply = show_to_anybody("paper", request, found=await queries.checked(number, check), check=check)
    reply.headers["Referrer-Policy"] = "no-referrer"
    reply.headers["X-Robots-Tag"] = "noindex"
    return reply


@page_at("/shop/papers/{file:str}", public=True, identify=False, limit="30/minute", media_type=paper.PDF)
async def show_paper(
    request: AnyRequest, file: Path[str], until: Query[int] = 0, key: Query[str] = ""
) -> Response[bytes]:
    """Where the link in a letter leads: to that one paper, until its time is over."""
    found = await queries.linked(queries.name_in(file), until, key)
    return await paper.handed_out(found, request, cache="private, no-store")


routes: list[ControllerRouterHandler] = [show_check, show_paper]
