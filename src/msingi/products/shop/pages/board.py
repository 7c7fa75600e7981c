"""The board of orders: what waits for what. It keeps itself up to date, by the topic `shop/board`."""

from datetime import datetime
from functools import partial

from babel.dates import format_datetime
from litestar import Response
from litestar.types import ControllerRouterHandler

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.clock import now
from msingi.kit.db import Paging
from msingi.kit.errors import allow
from msingi.kit.http import Given, Query, page_at
from msingi.kit.money import LOCALES
from msingi.products.shop.pages import wording
from msingi.products.shop.pages.shell import STAFF, AnyRequest, show
from msingi.products.shop.queries import board
from msingi.products.shop.queries.orders import SEE_ALL, is_staff
from msingi.products.shop.queries.sales import zone

HERE = "/shop/admin/orders"


@page_at(HERE, permission=STAFF)
async def show_board(
    request: AnyRequest, actor: Given[Actor], page: Given[Paging], number: Query[str] = ""
) -> Response[str]:
    """All orders, the newest first; `state` and `number` (or an invoice's) say which. To its script only the list."""
    allow(await is_staff(actor, *SEE_ALL))
    state = request.query_params.get("state", "")
    return show(
        "board",
        request,
        block="board",
        asked={"state": state if state in board.STATES else "", "number": number.strip()[:40]},
        wording=wording,
        counts=await board.counts(),
        most=board.MOST,
        sites=await board.places(),
        brief=partial(brief, language=pages.language_of(request)),
        found=await board.rows(state, number.strip()[:40], page),
    )


def brief(at: datetime, *, language: str = "en") -> str:
    """`14:05` for today, else `20 Nov, 14:05`, by the clock of the shop."""
    here = at.astimezone(zone())
    is_today = here.date() == now().astimezone(zone()).date()
    return str(format_datetime(here, "HH:mm" if is_today else "d MMM, HH:mm", locale=LOCALES[language]))


routes: list[ControllerRouterHandler] = [show_board]
