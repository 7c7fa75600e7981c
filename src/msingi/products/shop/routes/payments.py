"""Payments, over HTTP: what providers tell, and what people ask for."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from litestar import Request, Response
from litestar.types import ControllerRouterHandler

from msingi.kit import state
from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging
from msingi.kit.errors import Busy, NotFound
from msingi.kit.http import Body, Filters, Given, Path, Query, get, post
from msingi.kit.payments.face import BadCallback, Refused, Unknown
from msingi.kit.payments.till import NoSuchProvider, NotUnasked
from msingi.products.shop.actions import payments as actions
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries import payments as queries
from msingi.products.shop.rules.orders import NoSuchOrder
from msingi.products.shop.schemas.payments import BalanceView, KeptPaymentView, Matched, PaymentWays, UnmatchedView
from msingi.products.shop.till import till

AnyRequest = Request[Any, Any, Any]
FILTERS = Filters(state=str, provider=str, currency=str, purpose=str)
# A provider that is turned away tells again for days; what it tells is checked before anything is kept.
CALLBACK: dict[str, Any] = {
    "public": True,
    "identify": False,
    "idempotency": "off",
    "limit": "6000/minute",
    "status_code": 200,
}


# ---- what providers tell


@post("/callbacks/cards", **CALLBACK)
async def hear_stripe(request: AnyRequest) -> Response[dict[str, bool]]:
    """An event of Stripe's, signed by it. Once it is answered with 200 it is kept."""
    settings = state.part(ShopSettings)
    await _heard("stripe", request, settings.stripe_webhook_secret)
    return Response({"received": True})


@post("/callbacks/mobile/{address:str}", **CALLBACK)
async def hear_mpesa(address: Path[str], request: AnyRequest) -> Response[dict[str, Any]]:
    """A callback of M-Pesa's: its address proves what it is about. Once it is answered with 200 it is kept."""
    if not _comes_from(request, state.part(ShopSettings).mpesa_addresses):
        raise BadCallback
    await _heard("mpesa", request, address)
    return Response({"ResultCode": 0, "ResultDesc": "Accepted"})


async def _heard(provider: str, request: AnyRequest, secret: str) -> None:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.scope["headers"]}
    try:
        await till().hear(provider, headers, await request.body(), secret)
    except NoSuchProvider:
        raise NotFound from None


def _comes_from(request: AnyRequest, networks: str) -> bool:
    """Whether a request comes from one of these networks (`196.201.214.0/24, …`), or there are none to keep to."""
    allowed = [ip_network(each.strip(), strict=False) for each in networks.split(",") if each.strip()]
    client = request.scope.get("client")
    return not allowed or (client is not None and any(ip_address(client[0]) in each for each in allowed))


# ---- what people ask


@get("/payment-ways", public=True)
async def list_payment_ways(amount: Query[int], currency: Query[str]) -> PaymentWays:
    """With what such a sum can be paid."""
    ways = [name for name, provider in till().providers.items() if provider.takes(amount, currency)]
    return PaymentWays(ways=ways)


@get("/payments", permission="shop:orders", filters=FILTERS)
async def list_payments(page: Given[Paging], where: Given[dict[str, Any]]) -> Page[KeptPaymentView]:
    """All payments; `odd=true` those that do not add up."""
    return await queries.list_payments(page, where)


@get("/payments/{payment_id:str}", permission="shop:orders")
async def show_payment(payment_id: Path[str]) -> KeptPaymentView:
    """One, as it is known."""
    return await queries.payment(payment_id)


@get("/payments/unmatched", permission="shop:orders")
async def list_unmatched_money(page: Given[Paging]) -> Page[UnmatchedView]:
    """Money that came unasked and is nobody's yet."""
    return await queries.list_unmatched(page)


@post(
    "/payments/unmatched/{fact_id:str}/match",
    permission="shop:orders",
    status_code=200,
    idempotency="off",  # done again it changes nothing
    problems=[NoSuchOrder, NotUnasked],
)
async def match_money(fact_id: Path[str], data: Body[Matched], actor: Given[Actor]) -> KeptPaymentView:
    """Say which order this money is for."""
    return await queries.payment(await actions.match(fact_id, data.order, actor))


@post("/payments/paybill", permission="shop:approve", status_code=204, idempotency="off", problems=[Refused, Busy])
async def register_paybill(actor: Given[Actor]) -> None:
    """Tell M-Pesa where to tell of bills paid by hand: once, and again when the address of this house changes."""
    try:
        await actions.register_paybill(actor)
    except Unknown:
        raise Busy(retry_after=5) from None


@post("/payments/{payment_id:str}/look", permission="shop:orders", status_code=200, idempotency="off")
async def look_at_payment(payment_id: Path[str]) -> KeptPaymentView:
    """Ask the provider now, instead of waiting for the next time."""
    await queries.payment(payment_id)
    await till().look(payment_id)
    return await queries.payment(payment_id)


@get("/ledger", permission="shop:reports")
async def show_ledger() -> list[BalanceView]:
    """The balance of each account and currency. All of one currency add up to nothing."""
    return await queries.balances()


routes: Sequence[ControllerRouterHandler] = [
    hear_stripe,
    hear_mpesa,
    list_payment_ways,
    list_payments,
    list_unmatched_money,
    match_money,
    register_paybill,
    show_payment,
    look_at_payment,
    show_ledger,
]
