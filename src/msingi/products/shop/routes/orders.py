"""Orders, over HTTP: by who ordered (signed in, or with the order's token), and by staff."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Request
from litestar.params import HeaderParameter, Parameter
from litestar.types import ControllerRouterHandler

from msingi.kit import pages
from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import allow
from msingi.kit.http import Body, Filters, Given, Path, Query, delete, get, post, put
from msingi.kit.payments import problems
from msingi.kit.replies import KitResponse, created
from msingi.products.shop.actions import fulfilment, money, returns
from msingi.products.shop.models.orders import State
from msingi.products.shop.queries import orders as queries
from msingi.products.shop.queries.orders import Seen
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.rules import stock
from msingi.products.shop.schemas.orders import (
    CancellationForm,
    DeliveryForm,
    OrderLineItem,
    OrderView,
    PayForm,
    RefundForm,
    RefundView,
    ReturnDecision,
    ReturnForm,
    ShipmentForm,
    Timeline,
)

KNOWN = Filters(state=State, created_at=datetime, number=str)
AnyRequest = Request[Any, Any, Any]


async def order_in_path(
    order_id: Path[str],
    request: AnyRequest,
    x_order_token: Annotated[str | None, HeaderParameter(name="X-Order-Token", description="a guest's")] = None,
) -> Seen:
    """The order, for who may see it."""
    scope = "shop:read" if request.method in ("GET", "HEAD") else "shop:write"
    return await queries.order(order_id, request.user, x_order_token or "", scope=scope)


ORDER: Mapping[str, Callable[..., Any]] = {"order": order_in_path}


@get("/orders", filters=KNOWN)
async def list_orders(actor: Given[Actor], page: Given[Paging], where: Given[Where]) -> Page[OrderLineItem]:
    """One's own orders, the newest first; staff see all."""
    return await queries.seen_by(actor, where, page)


@get("/orders/{order_id:str}", public=True, dependencies=ORDER)
async def show_order(order: Given[Seen]) -> KitResponse[OrderView]:
    """One order. A guest shows its token in `X-Order-Token`."""
    view = await queries.shown(order)
    return KitResponse(view, headers={"ETag": queries.etag_of(view)})


@get("/orders/{order_id:str}/timeline", public=True, dependencies=ORDER)
async def show_timeline(
    order: Given[Seen],
    request: AnyRequest,
    language: Query[
        Annotated[Literal["en", "sw"] | None, Parameter(description="else as Accept-Language says")]
    ] = None,
) -> Timeline:
    """What happened to it, oldest first."""
    return Timeline(queries.timeline(order, language or pages.language_of(request)))


@post(
    "/orders/{order_id:str}/payments",
    public=True,
    idempotency="required",
    limit="30/minute",
    dependencies=ORDER,
    problems=[
        rules.NothingToPay,
        rules.HoldEnded,
        rules.PaymentUnknown,
        rules.NoSuchWayToPay,
        rules.NotInThisState,
        rules.OrderFull,
        rules.TooManyPrompts,
        problems.PaymentDiffers,
    ],
)
async def pay_order(order: Given[Seen], data: Body[PayForm], request: AnyRequest) -> KitResponse[OrderView]:
    """Try to pay, once more or in another way. What was begun before is given up."""
    await _acts_as_staff(order, request)
    await money.pay_again(order.order.id, data.provider, data.phone)
    return created(await _shown_anew(order), f"/v1/shop/orders/{order.order.id}")


@put("/orders/{order_id:str}/cancellation", public=True, dependencies=ORDER, problems=[rules.NotInThisState])
async def cancel_order(order: Given[Seen], data: Body[CancellationForm], request: AnyRequest) -> OrderView:
    """Cancel it, while nothing is sent; staff also what is not sent yet. What was paid goes back."""
    by_staff = await _acts_as_staff(order, request)
    await money.cancel(order.order.id, data.reason, order.by, is_staff=by_staff)
    return await _shown_anew(order)


# ---- sending


@post(
    "/orders/{order_id:str}/shipments",
    permission="shop:fulfil",
    idempotency="required",
    dependencies=ORDER,
    problems=[rules.NotInThisState, rules.NoSuchLine, rules.NotThere, rules.OrderFull, stock.NotAllocated],
)
async def ship_order(order: Given[Seen], data: Body[ShipmentForm]) -> KitResponse[OrderView]:
    """Send some of it, or all, from one place."""
    await fulfilment.ship(order.order.id, data, order.by)
    return created(await _shown_anew(order), f"/v1/shop/orders/{order.order.id}")


@put(
    "/orders/{order_id:str}/shipments/{shipment_id:str}/delivery",
    permission="shop:fulfil",
    dependencies=ORDER,
    problems=[rules.WrongDeliveryCode, rules.TooManyWrongCodes, rules.CodeOrReason],
)
async def deliver_shipment(
    order: Given[Seen], shipment_id: Path[str], data: Body[DeliveryForm], actor: Given[Actor]
) -> OrderView:
    """Note that it arrived, by the code that the receiver tells; or, with the right to orders, by a reason."""
    await fulfilment.deliver(order.order.id, shipment_id, data, actor)
    return await _shown_anew(order)


@put(
    "/orders/{order_id:str}/allocation",
    permission="shop:orders",
    dependencies=ORDER,
    problems=[rules.NotInThisState, rules.StillShort],
)
async def fill_order(order: Given[Seen]) -> OrderView:
    """Fill an order that was short, now that there is stock again, and its money is still here."""
    await money.fill(order.order.id, order.by)
    return await _shown_anew(order)


# ---- coming back


@post(
    "/orders/{order_id:str}/returns",
    public=True,
    idempotency="required",
    dependencies=ORDER,
    problems=[rules.NoSuchLine, rules.NotReturnable, rules.ReturnTooLate, rules.OrderFull],
)
async def ask_for_return(order: Given[Seen], data: Body[ReturnForm], request: AnyRequest) -> KitResponse[OrderView]:
    """Ask to send something back, within 14 days of its delivery."""
    await _acts_as_staff(order, request)
    await returns.ask(order.order.id, data, order.by)
    return created(await _shown_anew(order), f"/v1/shop/orders/{order.order.id}")


@put(
    "/orders/{order_id:str}/returns/{return_id:str}",
    permission="shop:orders",
    dependencies=ORDER,
    problems=[rules.ReturnDecided],
)
async def decide_return(
    order: Given[Seen], return_id: Path[str], data: Body[ReturnDecision], actor: Given[Actor]
) -> OrderView:
    """Approve or refuse it; and when the goods are here, say so: its part of the money is then paid back."""
    await returns.decide(order.order.id, return_id, data, actor)
    return await _shown_anew(order)


@post(
    "/orders/{order_id:str}/refunds",
    permission="shop:refund",
    idempotency="required",
    dependencies=ORDER,
    problems=[rules.NothingToRefund, problems.RefundTooHigh],
)
async def ask_for_refund(order: Given[Seen], data: Body[RefundForm], actor: Given[Actor]) -> KitResponse[RefundView]:
    """Ask that money goes back. Another person has to approve it."""
    payment_id, refund = await money.ask_refund(order.order.id, data.amount, data.reason, actor.id)
    return created(RefundView.of(refund, payment_id=payment_id), f"/v1/shop/orders/{order.order.id}")


@put(
    "/orders/{order_id:str}/refunds/{refund_id:str}/approval",
    permission="shop:approve",
    step_up=True,
    dependencies=ORDER,
    problems=[problems.AnotherPersonDecides, problems.NotWaiting],
)
async def approve_refund(order: Given[Seen], refund_id: Path[str], actor: Given[Actor]) -> RefundView:
    """Let it go. Nobody approves what they asked for themselves."""
    payment_id, refund = await money.decide_refund(order.order.id, refund_id, actor, approved=True)
    return RefundView.of(refund, payment_id=payment_id)


@delete(
    "/orders/{order_id:str}/refunds/{refund_id:str}/approval",
    permission="shop:approve",
    step_up=True,
    status_code=200,
    dependencies=ORDER,
    problems=[problems.NotWaiting],
)
async def refuse_refund(order: Given[Seen], refund_id: Path[str], actor: Given[Actor]) -> RefundView:
    """Do not let it go."""
    payment_id, refund = await money.decide_refund(order.order.id, refund_id, actor, approved=False)
    return RefundView.of(refund, payment_id=payment_id)


async def _acts_as_staff(seen: Seen, request: AnyRequest) -> bool:
    """Whether somebody with the right to orders does it; else it must be who ordered. Raises Forbidden."""
    by_staff = seen.staff and await queries.is_staff(request.user, "shop:orders")
    allow(by_staff or not seen.staff or seen.order.customer_id == seen.by)
    return by_staff


async def _shown_anew(seen: Seen) -> OrderView:
    found = await queries.again(seen)
    return await queries.shown(found)


routes: Sequence[ControllerRouterHandler] = [
    list_orders,
    show_order,
    show_timeline,
    pay_order,
    cancel_order,
    ship_order,
    deliver_shipment,
    fill_order,
    ask_for_return,
    decide_return,
    ask_for_refund,
    approve_refund,
    refuse_refund,
]
