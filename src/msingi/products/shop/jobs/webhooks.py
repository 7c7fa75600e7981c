"""What happens is written down for those who want to be told of it by webhook, and sent."""

import structlog

from msingi.kit import state
from msingi.kit.events import on
from msingi.kit.jobs import job
from msingi.kit.mail import BadAddress
from msingi.kit.payments.models import payments
from msingi.products.accounts.contract import UserErased, people
from msingi.products.shop.actions import webhooks
from msingi.products.shop.contract import (
    OrderMoved,
    OrderPlaced,
    PaymentChanged,
    ProductChanged,
    StockRanLow,
    WebhookTurnedOff,
)
from msingi.products.shop.hooks import hooks
from msingi.products.shop.models.orders import orders
from msingi.products.shop.rules import webhooks as rules
from msingi.products.shop.rules.orders import find_entry, may_be

log = structlog.get_logger("shop.webhooks")
sending, looking = hooks.sending, hooks.looking


@on(OrderPlaced)
async def tell_of_new_order(event: OrderPlaced) -> None:
    if await hooks.is_wanted("order.placed"):
        order = await orders.get(event.order_id)
        data = rules.about_order(order, "awaiting_payment", _base())
        await hooks.tell("order.placed", data, person=order.customer_id or "", at=order.created_at)


@on(OrderMoved)
async def tell_of_order(event: OrderMoved) -> None:
    if not may_be(event, rules.OF_ORDERS) or not await hooks.is_wanted("order.*"):
        return
    order = await orders.get(event.order_id)
    said = find_entry(order, event.entry)
    if said is not None and said.kind in rules.OF_ORDERS:
        data = rules.about_move(order, event, said, _base())
        await hooks.tell(rules.OF_ORDERS[said.kind], data, person=order.customer_id or "", at=said.at)


@on(PaymentChanged)
async def tell_of_payment(event: PaymentChanged) -> None:
    kind = rules.payment_kind(event)
    if kind is not None and await hooks.is_wanted(kind):
        payment = await payments("shop").get(event.payment_id)
        data = rules.about_payment(payment, event, _base())
        await hooks.tell(kind, data, person=payment.payer_id or "")


@on(ProductChanged)
async def tell_of_product(event: ProductChanged) -> None:
    await hooks.tell(
        "product.changed", {"id": event.product_id, "url": f"{_base()}/v1/shop/products/{event.product_id}"}
    )


@on(StockRanLow)
async def tell_of_low_stock(event: StockRanLow) -> None:
    await hooks.tell("stock.low", rules.about_stock(event, _base()))


def _base() -> str:
    return state.settings().base_url


# ---- who made them


@on(WebhookTurnedOff)
async def tell_who_made_it(event: WebhookTurnedOff) -> None:
    await write_to_owner.later(event.endpoint_id)


@job(retries=10, timeout=60)
async def write_to_owner(endpoint_id: str) -> None:
    """Write to who made an endpoint. While accounts is away nobody knows their address: it is tried again."""
    endpoint = await hooks.endpoints.find({"_id": endpoint_id})
    if endpoint is None or not endpoint.made_by:
        return
    for owner in await people([endpoint.made_by]):
        try:
            await webhooks.tell_owner(endpoint, owner)
        except BadAddress:
            log.warning("webhook_letter_not_written", endpoint=endpoint_id)


@job(retries=10, timeout=120, unique=lambda person: person)
async def forget_in_webhooks(person: str) -> None:
    await hooks.forget(person)


@on(UserErased)
async def forget_erased_in_webhooks(event: UserErased) -> None:
    await forget_in_webhooks.later(event.user_id)
