"""Work without a request: unpaid orders that expire, payments that are asked about, and what follows from events."""

import asyncio
from datetime import timedelta

import structlog

from msingi.kit import mail, sms, state
from msingi.kit.clock import now
from msingi.kit.errors import InvalidFields, NotFound, Stale
from msingi.kit.events import on
from msingi.kit.jobs import cron, job
from msingi.kit.mail import BadAddress
from msingi.kit.money import Money, shown
from msingi.products.accounts.contract import UserErased
from msingi.products.shop.actions import catalogue, money
from msingi.products.shop.actions import orders as acting
from msingi.products.shop.contract import OrderMoved, OrderPlaced, PaymentChanged
from msingi.products.shop.models.orders import Entry, Order, orders
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries.invoices import links
from msingi.products.shop.queries.orders import payments_of, unpaid_too_long
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.till import till

AT_ONCE = 8  # orders that are let go of at the same time
log = structlog.get_logger("shop.orders")


# ---- money


@cron("*/10 * * * * *", retries=0)
async def ask_about_payments() -> None:
    """Ask providers about what is not known yet."""
    await till().reconcile()


@job(retries=20, timeout=120, priority="high", unique=lambda order_id: order_id, longest_wait=300)
async def settle(order_id: str) -> None:
    """Bring an order in line with its payments."""
    await money.settle(order_id)


@on(PaymentChanged)
async def settle_paid(event: PaymentChanged) -> None:
    """What follows is a job of its own, since goods that many want are allocated outside of transactions."""
    order_id = rules.order_of(event.purpose)
    if order_id is None:
        return
    # To be asked to pay is what an order waits for; from that nothing follows, unless it is over by now.
    left = {"state": {"$ne": "awaiting_payment"}} if event.state in rules.ASKED else {}
    if await orders.exists({"_id": order_id, **left}):
        await settle.later(order_id)


@on(OrderPlaced)
async def greet(event: OrderPlaced) -> None:
    """Write to who ordered. What costs nothing needs no payment to be confirmed."""
    order = await orders.get(event.order_id)
    await _write(order, "order_placed")
    if order.totals.total == 0:
        await settle.later(order.id)


# ---- time


@cron("* * * * *")
async def expire_unpaid() -> None:
    """Let go of orders that nobody paid in time, unless nobody knows yet whether somebody did.

    A few at a time, since a provider may be slow to answer; one that fails keeps no other from it.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(order_id: str) -> None:
        async with gate:
            await expire_one(order_id)

    done = await asyncio.gather(*(one(each.id) for each in await unpaid_too_long()), return_exceptions=True)
    faults = [each for each in done if isinstance(each, BaseException)]
    if faults:
        raise faults[0]


async def expire_one(order_id: str) -> None:
    """Ask about its payments first, and give them up: money that is in flight is waited for, or comes late."""
    for payment in await payments_of(order_id):
        if payment.state in (*rules.UNDER_WAY, "unknown"):
            await till().look(payment.id)
    await money.give_up(await payments_of(order_id))
    if any(each.state in ("new", "unknown") for each in await payments_of(order_id)):
        log.info("order_not_expired", order=order_id, reason="a payment is unknown")
        return
    order = await money.settle(order_id)
    try:
        await acting.expire(order)
    except (Stale, rules.NotInThisState):
        return  # it was paid, or decided otherwise
    await money.settle(order_id)


# ---- what follows when an order moves

LETTERS = {
    "confirmed": "order_paid",
    "short": "order_short",
    "cancelled": "order_cancelled",
    "rest_cancelled": "order_cancelled",
    "expired": "order_cancelled",
    "shipped": "order_shipped",
    "delivered": "order_delivered",
    "delivered_without_code": "order_delivered",
    "refunded": "order_refunded",
}
TEXTS = {"confirmed": "order_paid_text", "shipped": "order_shipped_text"}
OF_USE = timedelta(days=2)  # after that nobody needs a text message


@on(OrderMoved)
async def follow(event: OrderMoved) -> None:
    """Write to who ordered, once for each line of the history that has a letter; and see to what is left to do."""
    said = None
    if rules.may_be(event, LETTERS):
        order = await orders.get(event.order_id)
        said = rules.find_entry(order, event.entry)
        if said is not None and said.kind in LETTERS:
            await _write(order, LETTERS[said.kind], said)
            await _text(order, said)
    if not rules.goes_on(event, said):
        await settle.later(event.order_id)


@on(OrderMoved)
async def count_sold(event: OrderMoved) -> None:
    """Count what was sold, once, when it is confirmed."""
    if event.after != "confirmed" or event.before == "confirmed":
        return
    order = await orders.get(event.order_id)
    counts: dict[str, int] = {}
    for line in order.lines:
        counts[line.product_id] = counts.get(line.product_id, 0) + line.quantity
    for product_id, count in sorted(counts.items()):
        try:
            await catalogue.count_sold(product_id, count)
        except NotFound:
            continue  # it was removed since


async def _write(order: Order, template: str, said: Entry | None = None) -> None:
    """Write a letter about an order, in its language."""
    if not order.email:
        return
    language = order.language
    details = said.details if said else {}
    shipment = rules.find_shipment(order, details.get("shipment", ""))
    try:
        await mail.send(
            template,
            to=order.email,
            language=language,
            product="shop",
            name=order.address.name if order.address else "",
            number=order.number,
            order_id=order.id,
            kind=said.kind if said else "placed",
            lines=[{"title": line.title.said_in(language), "quantity": line.quantity} for line in order.lines],
            total=shown(Money(order.totals.total, order.currency), language),
            amount=shown(Money(int(details.get("amount", 0)), order.currency), language),
            reason=details.get("reason", ""),
            carrier=shipment.carrier if shipment else "",
            tracking=shipment.tracking if shipment else "",
            code=shipment.code if shipment else "",
            shipping=order.shipping_name.said_in(language),
            papers=_papers(order, said),
        )
    except BadAddress:
        log.warning("order_letter_not_written", order=order.id, template=template)


def _papers(order: Order, said: Entry | None) -> list[dict[str, str]]:
    """Links to what a letter is about: the invoice of what is paid, the credit notes of what was paid back.

    An invoice gets its number only after its order is confirmed, so its link is named after the order.
    """
    if said is not None and said.kind == "refunded":
        return links(order.credit_notes[-5:])
    is_invoiced = order.state in rules.CONFIRMED and order.paid >= order.totals.total
    return links([order.number]) if is_invoiced else []


async def _text(order: Order, said: Entry) -> None:
    """The same in a few words to the buyer's phone, where the shop does so: that it is paid, and the code."""
    settings, phone = state.part(ShopSettings), order.address.phone if order.address else ""
    template = TEXTS.get(said.kind)
    if not settings.texts or not phone or template is None or (said.kind == "confirmed" and not order.paid):
        return
    shipment = rules.find_shipment(order, said.details.get("shipment", ""))
    try:
        to = sms.number_of(phone)
    except InvalidFields:
        log.info("order_text_not_written", order=order.id, template=template)
        return
    await mail.text(
        template,
        to=to,
        language=order.language,
        product="shop",
        until=now() + OF_USE,
        shop=sms.plain(settings.name)[:30],
        number=order.number,
        amount=sms.plain(shown(Money(order.totals.total, order.currency), order.language)),
        code=shipment.code if shipment else "",
    )


# ---- people who are no more


@job(retries=10, timeout=120, unique=lambda user_id: user_id)
async def forget_buyer(user_id: str) -> None:
    for order_id in await acting.forget(user_id):
        await money.settle(order_id)


@on(UserErased)
async def forget_erased_buyer(event: UserErased) -> None:
    await forget_buyer.later(event.user_id)
