"""Refunds that wait: somebody asked for each, and another person lets it go, or not."""

from typing import Any, Literal

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.errors import NotFound, Problem, allow
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.kit.payments.models import Payment, Refund
from msingi.products.shop.actions import money
from msingi.products.shop.pages import wording
from msingi.products.shop.pages.order import ORDER
from msingi.products.shop.pages.shell import STAFF, AnyRequest, show
from msingi.products.shop.queries import board
from msingi.products.shop.queries import orders as queries
from msingi.products.shop.queries.orders import SEE_ALL, Seen, is_staff

HERE = "/shop/admin/refunds"
ONE = f"{HERE}/{{order_id:str}}/{{refund_id:str}}"


class Verdict(Struct):
    decision: Literal["approve", "refuse"]


@page_at(HERE, permission=STAFF)
async def show_refunds(request: AnyRequest, actor: Given[Actor], page: Given[Paging]) -> Response[str]:
    """Those that wait, for who may ask for one or decide on one."""
    allow(await is_staff(actor, *SEE_ALL) and await is_staff(actor, "shop:refund", "shop:approve"))
    found = await board.waiting(page)
    language = pages.language_of(request)
    return show(
        "refunds",
        request,
        found=found,
        names=await board.names_of(each.asked_by for each in found.items),
        because=lambda reason: wording.reason(reason, language),
        may_decide=actor.may("shop:approve"),
    )


@page_at(ONE, permission="shop:approve", step_up=True, dependencies=ORDER)
async def show_refund(request: AnyRequest, order: Given[Seen], refund_id: Path[str]) -> Response[str]:
    """What it is for, and the question."""
    return await _page(request, order, refund_id)


@form_at(ONE, permission="shop:approve", step_up=True, dependencies=ORDER)
async def decide_refund_on_page(
    request: AnyRequest, order: Given[Seen], refund_id: Path[str], actor: Given[Actor]
) -> Response[Any]:
    """It goes, or it does not."""
    try:
        form = await pages.form_of(request, Verdict)
        approved = form.decision == "approve"
        await money.decide_refund(order.order.id, refund_id, actor, approved=approved)
    except Problem as problem:
        told = wording.in_words(pages.to_show(problem), order.order, pages.language_of(request))
        return await _page(request, order, refund_id, told)
    return pages.gone_well(HERE, "refund_approved" if approved else "refund_refused")


async def _page(request: AnyRequest, seen: Seen, refund_id: str, problem: Problem | None = None) -> Response[str]:
    payment, refund = await _find(seen.order.id, refund_id)
    names = await board.names_of([refund.asked_by, refund.approved_by])
    language = pages.language_of(request)
    return show(
        "refund",
        request,
        problem,
        order=seen.order,
        payment=payment,
        refund=refund,
        own=refund.asked_by == request.user.id,
        states=wording.REFUNDS,
        providers=wording.PROVIDERS,
        who=lambda person: wording.who(person, seen.order, names, language),
        because=wording.reason(refund.reason, language),
    )


async def _find(order_id: str, refund_id: str) -> tuple[Payment, Refund]:
    for payment in await queries.payments_of(order_id):
        for each in payment.refunds:
            if each.id == refund_id:
                return payment, each
    raise NotFound


routes: list[ControllerRouterHandler] = [show_refunds, show_refund, decide_refund_on_page]
