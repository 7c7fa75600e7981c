"""One order, for those who work on it: all that there is of it, and what they may do with it now."""

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Literal

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct, to_builtins

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.clock import now
from msingi.kit.errors import InvalidFields, NotFound, Problem
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.kit.money import decimals
from msingi.kit.payments import mpesa_codes
from msingi.kit.payments.models import Payment
from msingi.kit.reading import strictly
from msingi.products.shop.actions import fulfilment, money, returns
from msingi.products.shop.actions.desk import on_what_was_seen
from msingi.products.shop.models.orders import Order, OrderLine
from msingi.products.shop.pages import wording
from msingi.products.shop.pages.board import HERE
from msingi.products.shop.pages.shell import STAFF, AnyRequest, Nothing, show
from msingi.products.shop.queries import board
from msingi.products.shop.queries import orders as queries
from msingi.products.shop.queries.orders import Seen
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.schemas.orders import (
    CancellationForm,
    DeliveryForm,
    RefundForm,
    ReturnDecision,
    ReturnForm,
    ShipmentForm,
)
from msingi.products.shop.till import till

PAGE = f"{HERE}/{{order_id:str}}"
MOVING = ("new", "pending", "authorised", "unknown")  # payments that a provider may have news of
BACK = ("approved", "sent", "unknown")  # refunds of which it may


async def order_on_page(order_id: Path[str], request: AnyRequest) -> Seen:
    """The order, for staff: whoever else may see it sees it elsewhere."""
    seen = await queries.order(order_id, request.user, "")
    if not seen.staff:
        raise NotFound
    return seen


ORDER: Mapping[str, Callable[..., Any]] = {"order": order_on_page}


# ---- forms


class Sending(Struct):
    """So many of these lines, in their order, from there."""

    version: int
    location_id: str
    line: list[str] = []
    quantity: list[int] = []
    carrier: str = ""
    tracking: str = ""


class Delivery(Struct):
    code: str = ""
    reason: str = ""


class Sure(Struct):
    """The box that has to be ticked, and why."""

    sure: Literal["yes"]
    reason: str = ""


class AskedReturn(Struct):
    version: int
    reason: str = ""
    line: list[str] = []
    quantity: list[int] = []


class Decision(Struct):
    state: Literal["approved", "refused"]
    note: str = ""


class Arrival(Struct):
    """It is here, in what state, and somebody is sure of that."""

    sure: Literal["yes"]
    damaged: bool = False
    note: str = ""


class AskedRefund(Struct):
    """`amount` as people write it: `1,299.50`."""

    version: int
    amount: str = ""
    reason: str = ""


class Sendable(Struct, frozen=True):
    """What can be sent from a place now, and how many of each line."""

    place: str
    name: str
    lines: list[tuple[OrderLine, int]]


# ---- looking


@page_at(PAGE, permission=STAFF, dependencies=ORDER)
async def show_order_on_page(request: AnyRequest, order: Given[Seen]) -> Response[str]:
    """All that there is of it; to its script only how it stands."""
    return await _page(request, order)


async def _page(request: AnyRequest, seen: Seen, problem: Problem | None = None, failed: str = "") -> Response[str]:
    order, actor, language = seen.order, request.user, pages.language_of(request)
    paid = await queries.payments_of(order.id)
    names = await board.names_of(_people(order, paid))
    places = await board.places()
    return show(
        "order",
        request,
        problem,
        block="standing",
        order=await queries.shown(seen),
        wording=wording,
        sites=places,
        who=lambda person: wording.who(person, order, names, language),
        because=lambda reason: wording.reason(reason, language),
        told=[(each, wording.told(each, order.currency, language)) for each in reversed(order.timeline)],
        paying=[(each, _trouble(each, language)) for each in paid],
        moving={each.id for each in paid if _may_move(each)},
        sendable=_sendable(order, places) if actor.may("shop:fulfil") else [],
        may=_may(order, paid, actor),
        returning=_returning(order) if actor.may("shop:orders") else [],
        left=rules.richest(paid)[1],
        failed=failed,
        typed=await request.form() if problem else {},
    )


def _people(order: Order, paid: list[Payment]) -> set[str]:
    """Whose names the page needs."""
    refunds = [refund for payment in paid for refund in payment.refunds]
    found = {order.customer_id or "", *(each.by for each in order.timeline)}
    return found | {id for each in refunds for id in (each.asked_by, each.approved_by)}


def _trouble(payment: Payment, language: str) -> str:
    """Why a payment failed, in words."""
    if not payment.code:
        return ""
    return mpesa_codes.text_of(payment.code, language) if payment.provider == "mpesa" else payment.code


def _may_move(payment: Payment) -> bool:
    return payment.state in MOVING or any(each.state in BACK for each in payment.refunds)


def _may(order: Order, paid: list[Payment], actor: Actor) -> dict[str, bool]:
    """What can be done with the order as it is now, by somebody with these permissions."""
    orders = actor.may("shop:orders")
    return {
        "deliver": actor.may("shop:fulfil"),
        "say": orders,
        "cancel": orders and _can_be_cancelled(order),
        "fill": orders and _goes(lambda: rules.check_fillable(order, paid)),
        "refund": actor.may("shop:refund") and rules.richest(paid)[1] > 0,
        "approve": actor.may("shop:approve"),
    }


def _can_be_cancelled(order: Order) -> bool:
    return order.state != "cancelled" and _goes(lambda: rules.cancelling(order, True))


def _goes(check: Callable[[], object]) -> bool:
    """Whether the rules let this happen."""
    try:
        check()
    except Problem:
        return False
    return True


def _sendable(order: Order, places: Mapping[str, str]) -> list[Sendable]:
    if order.state not in rules.MOVES["ship_part"]:
        return []
    taken = {each.location_id for line in order.lines if line.tracked for each in line.allocations}
    found = [_sendable_from(order, id, places) for id in sorted(taken or {order.pick_up_at or next(iter(places), "")})]
    return [each for each in found if each.lines]


def _sendable_from(order: Order, place: str, places: Mapping[str, str]) -> Sendable:
    lines = [(line, left) for line in order.lines if (left := rules.left_at(order, line, place))]
    return Sendable(place, places.get(place, place), lines)


def _returning(order: Order) -> list[tuple[OrderLine, int]]:
    """What may be asked to come back now."""
    if not _goes(lambda: rules.check_returnable(order, {}, now())):
        return []
    return [(line, left) for line in order.lines if (left := rules.returnable(order, line))]


# ---- doing


async def _do(
    request: AnyRequest, seen: Seen, act: Callable[[], Awaitable[object]], done: str, form: str
) -> Response[Any]:
    """Do what a form of the page asks for; with a problem, the page again with what was typed into that form."""
    try:
        await act()
    except Problem as problem:
        told = wording.in_words(pages.to_show(problem), seen.order, pages.language_of(request))
        return await _page(request, await queries.again(seen), told, form)
    return pages.gone_well(f"{HERE}/{seen.order.id}", done)


def _lines(lines: list[str], quantities: list[int]) -> list[dict[str, Any]]:
    """What was chosen: of what is 0 nothing. Raises InvalidFields if that is all."""
    chosen = [{"line_id": id, "quantity": count} for id, count in zip(lines, quantities, strict=False) if count]
    if not chosen:
        raise _fault("/lines", "Say of what, and how many.")
    return chosen


def _fault(pointer: str, message: str) -> InvalidFields:
    return InvalidFields(errors=[{"pointer": pointer, "in": "body", "message": message}])


@form_at(f"{PAGE}/shipments", permission="shop:fulfil", dependencies=ORDER)
async def ship_on_page(request: AnyRequest, order: Given[Seen]) -> Response[Any]:
    """It is on its way."""
    id = order.order.id

    async def act() -> None:
        form = await pages.form_of(request, Sending)
        asked = {"location_id": form.location_id, "carrier": form.carrier.strip(), "tracking": form.tracking.strip()}
        wanted = strictly(ShipmentForm, {**asked, "lines": _lines(form.line, form.quantity)})
        await on_what_was_seen(id, form.version, partial(fulfilment.ship, id, wanted, order.by))

    return await _do(request, order, act, "order_sent", "send")


@form_at(f"{PAGE}/shipments/{{shipment_id:str}}", permission="shop:fulfil", dependencies=ORDER)
async def deliver_on_page(
    request: AnyRequest, order: Given[Seen], shipment_id: Path[str], actor: Given[Actor]
) -> Response[Any]:
    """It has arrived."""

    async def act() -> None:
        form = await pages.form_of(request, Delivery)
        said = {name: text for name, value in to_builtins(form).items() if (text := value.strip())}
        await fulfilment.deliver(order.order.id, shipment_id, strictly(DeliveryForm, said), actor)

    return await _do(request, order, act, "order_delivered", shipment_id)


@form_at(f"{PAGE}/allocation", permission="shop:orders", dependencies=ORDER)
async def fill_on_page(request: AnyRequest, order: Given[Seen]) -> Response[Any]:
    """There is enough again, and it is set aside."""

    async def act() -> None:
        await pages.form_of(request, Nothing)
        await money.fill(order.order.id, order.by)

    return await _do(request, order, act, "order_filled", "fill")


@form_at(f"{PAGE}/payments/{{payment_id:str}}", permission="shop:orders", dependencies=ORDER)
async def look_on_page(request: AnyRequest, order: Given[Seen], payment_id: Path[str]) -> Response[Any]:
    """The provider was asked what became of it."""
    if payment_id not in {each.id for each in await queries.payments_of(order.order.id)}:
        raise NotFound

    async def act() -> None:
        await pages.form_of(request, Nothing)
        await till().look(payment_id)

    return await _do(request, order, act, "payment_asked", payment_id)


# ---- cancelling


@page_at(f"{PAGE}/cancellation", permission="shop:orders", dependencies=ORDER)
async def show_cancellation(request: AnyRequest, order: Given[Seen]) -> Response[str]:
    """Why, and the box to tick."""
    return await _cancellation(request, order)


@form_at(f"{PAGE}/cancellation", permission="shop:orders", dependencies=ORDER)
async def cancel_on_page(request: AnyRequest, order: Given[Seen]) -> Response[Any]:
    """It is cancelled; what was paid goes back."""
    try:
        form = await pages.form_of(request, Sure)
        said = strictly(CancellationForm, {"reason": form.reason.strip()})
        await money.cancel(order.order.id, said.reason, order.by, is_staff=True)
    except Problem as problem:
        told = wording.in_words(pages.to_show(problem), order.order, pages.language_of(request))
        return await _cancellation(request, await queries.again(order), told)
    return pages.gone_well(f"{HERE}/{order.order.id}", "order_cancelled")


async def _cancellation(request: AnyRequest, seen: Seen, problem: Problem | None = None) -> Response[str]:
    found = seen.order
    return show(
        "cancel_order",
        request,
        problem,
        order=found,
        can_be=_can_be_cancelled(found),
        partly=found.state == "partly_shipped",
        states=wording.ORDERS,
        typed=await request.form() if problem else {},
    )


# ---- coming back


@form_at(f"{PAGE}/returns", permission="shop:orders", dependencies=ORDER)
async def ask_return_on_page(request: AnyRequest, order: Given[Seen]) -> Response[Any]:
    """It shall come back, as the buyer said on the phone or at the counter."""
    id = order.order.id

    async def act() -> None:
        form = await pages.form_of(request, AskedReturn)
        wanted = strictly(ReturnForm, {"lines": _lines(form.line, form.quantity), "reason": form.reason.strip()})
        await on_what_was_seen(id, form.version, partial(returns.ask, id, wanted, order.by))

    return await _do(request, order, act, "return_asked", "return")


@form_at(f"{PAGE}/returns/{{return_id:str}}", permission="shop:orders", dependencies=ORDER)
async def decide_return_on_page(
    request: AnyRequest, order: Given[Seen], return_id: Path[str], actor: Given[Actor]
) -> Response[Any]:
    """It may come back, or not."""

    async def act() -> None:
        form = await pages.form_of(request, Decision)
        wanted = strictly(ReturnDecision, {"state": form.state, "note": form.note.strip()})
        await returns.decide(order.order.id, return_id, wanted, actor)

    return await _do(request, order, act, "return_decided", return_id)


@form_at(f"{PAGE}/returns/{{return_id:str}}/arrival", permission="shop:orders", dependencies=ORDER)
async def receive_return_on_page(
    request: AnyRequest, order: Given[Seen], return_id: Path[str], actor: Given[Actor]
) -> Response[Any]:
    """It is back here."""

    async def act() -> None:
        form = await pages.form_of(request, Arrival)
        said = {"state": "received", "damaged": form.damaged, "note": form.note.strip()}
        await returns.decide(order.order.id, return_id, strictly(ReturnDecision, said), actor)

    return await _do(request, order, act, "return_received", return_id)


# ---- money


@form_at(f"{PAGE}/refunds", permission="shop:refund", dependencies=ORDER)
async def ask_refund_on_page(request: AnyRequest, order: Given[Seen], actor: Given[Actor]) -> Response[Any]:
    """Another person is to approve it."""
    id, currency = order.order.id, order.order.currency

    async def act() -> None:
        form = await pages.form_of(request, AskedRefund)
        said = {"amount": _minor(form.amount, currency), "reason": form.reason.strip()}
        wanted = strictly(RefundForm, said)
        ask = partial(money.ask_refund, id, wanted.amount, wanted.reason, actor.id)
        await on_what_was_seen(id, form.version, ask)

    return await _do(request, order, act, "refund_asked", "refund")


def _minor(text: str, currency: str) -> int:
    """`1,299.50` in minor units. Raises InvalidFields."""
    try:
        amount = Decimal(text.replace(",", "").replace(" ", "")).scaleb(decimals(currency))
        whole = int(amount)
    except (InvalidOperation, ValueError, OverflowError):
        raise _fault("/amount", "This is no amount of money") from None
    if amount != whole:
        raise _fault("/amount", "This is no amount of money")
    return whole


routes: list[ControllerRouterHandler] = [
    show_order_on_page,
    ship_on_page,
    deliver_on_page,
    fill_on_page,
    look_on_page,
    show_cancellation,
    cancel_on_page,
    ask_return_on_page,
    decide_return_on_page,
    receive_return_on_page,
    ask_refund_on_page,
]
