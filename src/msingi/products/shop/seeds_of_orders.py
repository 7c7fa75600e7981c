"""Orders of the last two months, so that whoever clicks through the shop finds it in use.

Nobody bought these: they are written as documents, whole and with all that would follow from them (payments with what
was told of them, postings, movements of stock, invoices, rows of the report), so that `msingi verify shop` finds
nothing wrong. No letters and no events come of them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from msingi.kit import state
from msingi.kit.clock import now
from msingi.kit.db import plain
from msingi.kit.ids import first_id_at
from msingi.kit.payments import ledger, truth
from msingi.kit.payments.face import Fact
from msingi.kit.payments.models import FactRow, Payment, Posting, facts, payments, postings
from msingi.kit.unit import atomic
from msingi.products.shop.actions.catalogue import count_sold
from msingi.products.shop.contract import Movement
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.orders import (
    Address,
    Allocation,
    Entry,
    Invoice,
    Order,
    OrderLine,
    Shipment,
    State,
    invoices,
    orders,
)
from msingi.products.shop.models.pricing import ShippingMethod, TaxRate
from msingi.products.shop.models.reports import sales
from msingi.products.shop.models.stock import MovementRow, movements, stock_id, stocks
from msingi.products.shop.queries.catalogue import Offer, offers
from msingi.products.shop.queries.invoices import seller_now
from msingi.products.shop.queries.pricing import taxes_of
from msingi.products.shop.queries.sales import sale_of, zone
from msingi.products.shop.rules import bookkeeping, pricing
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.rules.invoices import invoice_number, paid_with
from msingi.products.shop.rules.stock import receipt
from msingi.products.shop.seeds_of_pricing import SHIPPING_METHODS

HOW_MANY, DAYS = 120, 60
FROM = "nairobi"
CURRENCY, COUNTRY, PROVIDER = "KES", "KE", "mpesa"
MOST_EACH = 12  # of one variant that are sold in all
POPULAR = 30  # variants that are bought more often than the others
TOWNS = (("Nairobi", "nairobi-rider"), ("Nairobi", "pick-up"), ("Nakuru", "courier"), ("Mombasa", "courier"))
BUYERS = (
    *("Achieng Odhiambo", "Baraka Mwangi", "Chebet Koech", "Daudi Kamau", "Esther Wanjiku", "Farida Hassan"),
    *("George Otieno", "Halima Abdi", "Imani Njeri", "Joseph Kiptoo", "Khadija Omar", "Lilian Mutua"),
)


class Story(Struct, frozen=True):
    """What became of an order."""

    order: Order
    payment: Payment
    fact: FactRow
    postings: Sequence[Posting]
    moves: Sequence[MovementRow]


async def plant_orders(variants: Sequence[str], how_many: int = HOW_MANY) -> None:
    """Write them, of variants of which there are at least MOST_EACH in Nairobi."""
    sold = await offers(variants, CURRENCY)
    known = [sold[each] for each in variants if each in sold]
    taxes = await taxes_of(COUNTRY)
    chance, left = Random(2026), Counter({each.variant_id: MOST_EACH for each in known})
    told = [_story(at, known, left, taxes, chance) for at in _times(how_many, chance)]
    await _write(_numbered(told))


def _times(how_many: int, chance: Random) -> list[datetime]:
    """When they were placed: more of them lately, and by day."""
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    found = [
        today - timedelta(days=1 + int(DAYS * chance.random() ** 1.4), seconds=-chance.randrange(4 * 3600, 19 * 3600))
        for _ in range(how_many)
    ]
    return [at + timedelta(milliseconds=number) for number, at in enumerate(sorted(found))]


# ---- one order


def _story(
    at: datetime, known: Sequence[Offer], left: Counter[str], taxes: dict[str, TaxRate], chance: Random
) -> Story:
    town, shipping_id = chance.choice(TOWNS)
    method = next(each for each in SHIPPING_METHODS if each.id == shipping_id)
    placed = _placed(at, _basket(known, left, chance), method, taxes, town, chance)
    payment, fact = _payment(placed, at + timedelta(minutes=2), is_paid=chance.random() > 0.08, chance=chance)
    if not payment.captured:
        order = _moved(placed, at + timedelta(minutes=16), "expired", "expired")
        return Story(order, payment, fact, [], [])
    left.subtract({line.variant_id: line.quantity for line in placed.lines})
    order = _fulfilled(_confirmed(placed, payment, at + timedelta(minutes=2)), chance)
    return Story(order, payment, fact, _postings(order, payment, at), _moves(order))


def _basket(known: Sequence[Offer], left: Counter[str], chance: Random) -> list[tuple[Offer, int]]:
    """One to three things, of which enough is left."""
    chosen: dict[str, tuple[Offer, int]] = {}
    for _ in range(chance.choice((1, 1, 2, 2, 3))):
        most = len(known) if chance.random() < 0.4 else min(POPULAR, len(known))
        offer, quantity = known[int(most * chance.random() ** 1.6)], chance.choice((1, 1, 1, 2))
        if left[offer.variant_id] >= quantity and offer.weight * quantity < 4000:
            chosen[offer.variant_id] = offer, quantity
    return list(chosen.values()) or [(max(known, key=lambda each: left[each.variant_id]), 1)]


def _placed(
    at: datetime,
    basket: list[tuple[Offer, int]],
    method: ShippingMethod,
    taxes: dict[str, TaxRate],
    town: str,
    chance: Random,
) -> Order:
    priced = pricing.price(basket, CURRENCY, taxes, coupons=[], shipping=method)
    buyer, id = chance.choice(BUYERS), _id_at(at, chance)
    return Order(
        id=id,
        created_at=at,
        updated_at=at,
        number=rules.number_of(id),
        email=f"{buyer.split()[0].lower()}@example.com",
        address=Address(name=buyer, phone=f"+2547000{chance.randrange(10**5):05d}", country=COUNTRY, town=town),
        language=chance.choice(("en", "sw")),
        currency=CURRENCY,
        lines=[
            OrderLine(
                id=str(number),
                product_id=each.offer.product_id,
                variant_id=each.offer.variant_id,
                sku=each.offer.sku,
                title=each.offer.title,
                options=dict(each.offer.options),
                quantity=each.quantity,
                price=each.price,
                discount=each.discount,
                tax=each.tax,
                total=each.total,
                weight=each.offer.weight,
                allocations=[Allocation(FROM, each.quantity)],
            )
            for number, each in enumerate(priced.lines, 1)
        ],
        totals=priced.totals,
        shipping_id=method.id,
        shipping_name=Words(en=method.name, sw=method.name_sw),
        shipping_tax=priced.shipping_tax,
        pick_up_at=method.location_id if method.kind == "pick_up" else None,
        held_until=at + timedelta(minutes=15),
        payment_ids=[f"{id}-1"],
        timeline=[
            _said("placed", at),
            _said("payment_asked", at, amount=priced.totals.total, provider=PROVIDER),
        ],
    )


def _id_at(at: datetime, chance: Random) -> str:
    """An id such as one made at that time would be."""
    return first_id_at(at)[:10] + "".join(chance.choices("0123456789abcdefghijklmnopqrstuv", k=16))


def _said(kind: str, at: datetime, **details: str | int) -> Entry:
    return Entry(
        id=f"{first_id_at(at)}-{kind}", at=at, kind=kind, details={name: str(it) for name, it in details.items()}
    )


def _moved(order: Order, at: datetime, kind: str, to: State, **details: str | int) -> Order:
    """The order in its next state, and the line of its history that says so."""
    said = replace(_said(kind, at, **details), before=order.state, after=to)
    return replace(order, state=to, updated_at=at, version=order.version + 1, timeline=[*order.timeline, said])


def _confirmed(order: Order, payment: Payment, at: datetime) -> Order:
    came = _said("money_received", at, amount=payment.captured)
    paid = replace(order, paid=payment.captured, timeline=[*order.timeline, came])
    return replace(_moved(paid, at, "confirmed", "confirmed"), steps=["allocating", rules.COUPONS_SPENT])


def _fulfilled(order: Order, chance: Random) -> Order:
    """Sent after a day or so, and received some days later, unless that is still to come."""
    sent = order.created_at + timedelta(hours=chance.randrange(8, 50))
    there = sent + timedelta(hours=chance.randrange(12, 90))
    if sent > now():
        return order
    count = sum(line.quantity for line in order.lines)
    shipment = Shipment(
        id=_id_at(sent, chance),
        at=sent,
        location_id=FROM,
        lines={line.id: line.quantity for line in order.lines},
        carrier=order.shipping_name.en,
        code=f"{chance.randrange(10**6):06d}",
        delivered_at=there if there <= now() else None,
    )
    lines = [replace(line, shipped=line.quantity) for line in order.lines]
    said: dict[str, str | int] = {"shipment": shipment.id, "count": count, "all": count, "carrier": shipment.carrier}
    order = _moved(replace(order, lines=lines, shipments=[shipment]), sent, "shipped", "shipped", **said)
    return _moved(order, there, "delivered", "delivered", shipment=shipment.id) if shipment.delivered_at else order


# ---- what follows from it


def _payment(order: Order, at: datetime, *, is_paid: bool, chance: Random) -> tuple[Payment, FactRow]:
    """As it is made of the one thing that was told of it."""
    asked = Payment(
        id=order.payment_ids[0],
        created_at=order.created_at,
        updated_at=at,
        purpose=rules.purpose_of(order.id),
        provider=PROVIDER,
        amount=order.totals.total,
        currency=order.currency,
        reference=f"demo-{order.id}",
        phone=order.address.phone if order.address else "",
        email=order.email,
    )
    number = "".join(chance.choices("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", k=9))
    fact = Fact(
        id=f"{asked.reference}.told",
        reference=f"demo-{order.id}",
        payment=asked.id,
        kind="captured" if is_paid else "failed",
        amount=asked.amount if is_paid else 0,
        currency=order.currency,
        receipt=f"S{number}" if is_paid else "",
        code="" if is_paid else "cancelled",
        at=at,
    )
    row = FactRow(
        id=f"{PROVIDER}.{fact.id}",
        created_at=at,
        updated_at=at,
        provider=PROVIDER,
        reference=fact.reference,
        fact=plain(fact),
        payment_id=asked.id,
        applied_at=at,
    )
    return truth.told_by(asked, truth.said_in([row]), at), row


def _postings(order: Order, payment: Payment, at: datetime) -> list[Posting]:
    found = [*ledger.posted_of(payment), *bookkeeping.of_order(order, [payment])]
    return [replace(each, created_at=at, updated_at=at) for each in found]


def _moves(order: Order) -> list[MovementRow]:
    """What was given to it, and what was sent, by variant."""
    found = []
    for line in order.lines:
        stock, count = stock_id(line.variant_id, FROM), line.quantity
        paid_at = next(each.at for each in order.timeline if each.kind == "confirmed")
        found.append(_move(receipt(order.id, stock), order, line, "allocated", paid_at, allocated=count))
        for each in order.shipments:
            id = receipt(each.id, stock)
            found.append(_move(id, order, line, "shipped", each.at, on_hand=-count, allocated=-count))
    return found


def _move(
    id: str, order: Order, line: OrderLine, kind: Movement, at: datetime, *, on_hand: int = 0, allocated: int = 0
) -> MovementRow:
    return MovementRow(
        id=id,
        created_at=at,
        updated_at=at,
        stock_id=stock_id(line.variant_id, FROM),
        variant_id=line.variant_id,
        location_id=FROM,
        kind=kind,
        on_hand=on_hand,
        allocated=allocated,
        reason=order.id,
    )


def _numbered(told: Iterable[Story]) -> list[tuple[Story, Invoice | None]]:
    """With an invoice for each that is paid; a year's numbers have no gap."""
    places: Counter[int] = Counter()
    found: list[tuple[Story, Invoice | None]] = []
    for each in told:
        if not each.payment.captured:
            found.append((each, None))
            continue
        at = each.payment.movements[0].at
        year = rules.year_of(at, zone())
        places[year] += 1
        invoice = Invoice(
            id=invoice_number(year, places[year]),
            created_at=at,
            updated_at=at,
            order_id=each.order.id,
            year=year,
            place=places[year],
            seller=seller_now(),
            payments=paid_with([each.payment]),
            address=state.settings().base_url,
        )
        found.append((replace(each, order=replace(each.order, invoice=invoice.id)), invoice))
    return found


@atomic
async def _write(told: Sequence[tuple[Story, Invoice | None]]) -> None:
    stories = [story for story, _ in told]
    moves = [move for each in stories for move in each.moves]
    await orders.add_many([each.order for each in stories])
    await payments("shop").add_many([each.payment for each in stories])
    await facts("shop").add_many([each.fact for each in stories])
    await postings("shop").add_many([posting for each in stories for posting in each.postings])
    await invoices.add_many([invoice for _, invoice in told if invoice])
    await movements.add_many(moves)
    await sales.add_many([sale_of(each.order) for each in stories])
    await _take(moves)
    sold = Counter[str]()
    for each in stories:
        sold.update({line.product_id: line.quantity for line in each.order.lines if each.payment.captured})
    for product_id, count in sold.items():
        await count_sold(product_id, count)


async def _take(moves: Sequence[MovementRow]) -> None:
    """Bring each stock to what its movements say."""
    changes: dict[str, Counter[str]] = {}
    for each in moves:
        changes.setdefault(each.stock_id, Counter()).update({"on_hand": each.on_hand, "allocated": each.allocated})
    for id, by in changes.items():
        await stocks.change(id, {"$inc": dict(by)})
