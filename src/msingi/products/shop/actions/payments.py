"""What staff does about money beside the orders: say whose it is, and tell M-Pesa where to tell of it."""

from msingi.kit import audit
from msingi.kit.auth import Actor
from msingi.kit.errors import NotFound
from msingi.kit.payments.mpesa import MPesa
from msingi.kit.payments.problems import NotUnasked
from msingi.products.shop.models.orders import orders
from msingi.products.shop.queries.payments import meant_for
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.till import till


async def match(fact_row_id: str, number: str, by: Actor) -> str:
    """Have money that came unasked pay an order; returns the payment's id. Doing it again changes nothing.

    Raises NotFound, NoSuchOrder, NotUnasked.
    """
    row = await till().inbox.get(fact_row_id)
    known = rules.number_in(number)
    order = await orders.find({"number": known}) if known else None
    currency = row.fact["currency"]
    if order is None or order.currency != currency:
        raise rules.NoSuchOrder(number=number, currency=currency)
    if row.payment_id is not None:
        return await _matched(row.payment_id, rules.purpose_of(order.id))
    payment = await till().assign(fact_row_id, meant_for(order))
    await audit.note("shop.money_matched", actor=by, about=payment.id, order=order.id)
    return payment.id


async def _matched(payment_id: str, purpose: str) -> str:
    payment = await till().kept.get(payment_id)
    if payment.purpose != purpose:
        raise NotUnasked
    return payment.id


async def register_paybill(by: Actor) -> None:
    """Tell M-Pesa where to tell of bills that are paid by hand. Raises NotFound without M-Pesa; Refused, Unknown."""
    provider = till().providers.get("mpesa")
    if not isinstance(provider, MPesa):
        raise NotFound
    await provider.register()
    await audit.note("shop.paybill_registered", actor=by)
