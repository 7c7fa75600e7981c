"""What an order may become, what of it may be shipped, sent back and paid back, and how its history reads."""

import re
from base64 import b32encode
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from hashlib import blake2b
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from msingi.kit.errors import Conflict, Invalid, QuotaExceeded
from msingi.kit.money import Money, rounded, shown
from msingi.kit.payments.models import Payment, Refund
from msingi.products.shop.contract import OrderMoved
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.orders import Allocation, Entry, Order, OrderLine, Return, Shipment, State
from msingi.products.shop.rules.pricing import WHOLE

Act = Literal[
    "confirm",  # it is paid, and the goods are there
    "fall_short",  # it is paid, and the goods are not
    "expire",
    "cancel",  # by who ordered
    "withdraw",  # by staff
    "drop_rest",  # what is not shipped yet will not be
    "ship_part",
    "ship_all",
    "deliver",
]
MOVES: Mapping[Act, Mapping[State, State]] = {
    "confirm": {"awaiting_payment": "confirmed", "expired": "confirmed", "short": "confirmed"},
    "fall_short": {"awaiting_payment": "short", "expired": "short"},
    "expire": {"awaiting_payment": "expired"},
    "cancel": {"awaiting_payment": "cancelled", "confirmed": "cancelled"},
    "withdraw": {"awaiting_payment": "cancelled", "confirmed": "cancelled", "short": "cancelled"},
    "drop_rest": {"partly_shipped": "shipped"},
    "ship_part": {"confirmed": "partly_shipped", "partly_shipped": "partly_shipped"},
    "ship_all": {"confirmed": "shipped", "partly_shipped": "shipped"},
    "deliver": {"shipped": "delivered"},
}
NUMBER = re.compile(r"(?:MS)?([A-HJ-NP-Z2-9]{8})")  # base32, with 8 and 9 for I and O
OVER: frozenset[State] = frozenset({"delivered", "cancelled", "expired"})
CONFIRMED: frozenset[State] = frozenset({"confirmed", "partly_shipped", "shipped", "delivered"})
TO_RETURN = timedelta(days=14)  # after delivery
MOST_PAYMENTS = 10
MOST_SHIPMENTS = 50
MOST_RETURNS = 20
MOST_MISSES = 5  # wrong codes for one delivery
UNDER_WAY = frozenset({"new", "pending", "authorised"})
ASKED = frozenset({"new", "pending"})  # payments that somebody is asked for, and has not answered
COUPONS_SPENT = "coupons_spent"  # the step that counts an order among those that used its coupons
HOUSE = "house"  # who asks for a refund that nobody asked for
SURPLUS = "Paid more than the order costs"
NO_ORDER = "The order was cancelled or had expired"
TOO_LATE = "Paid when the goods were gone"
REST = "What was not sent was cancelled"


# ---- problems


class CartChanged(Conflict):
    """The cart changed while it was ordered; look at it again."""


class PaymentNeeded(Invalid):
    """Say with what it is paid: this order costs something."""


class NotAllSold(Conflict):
    """Some of this is not sold any more, or not in {currency}."""


class TotalChanged(Conflict):
    """The total is {total} now, not {expected}: look at it again, and agree to it."""


class ContactNeeded(Invalid):
    """Say at which e-mail address the order can be written to you."""


class NoSuchWayToPay(Invalid):
    """One cannot pay {amount} {currency} with {provider} here; one can with: {providers}."""


class NotInThisState(Conflict):
    """An order that is {state} cannot be changed so."""


class HoldEnded(Conflict):
    """The goods are not held for this order any more: order anew."""


class NothingToPay(Conflict):
    """This order is paid, or needs no payment."""


class PaymentUnknown(Conflict):
    """Nobody knows yet what became of the last payment; it is being asked about. Wait for that before paying again."""


class TooManyPrompts(QuotaExceeded):
    """This phone was asked to pay too often: {quota} times in {window} seconds are allowed. Answer what is on it, pay
    in another way, or try again in {retry_after} seconds.
    """


class OrderFull(Conflict):
    """There may be at most {most} of these for one order."""


class NoSuchLine(Invalid):
    """This order has no line {line_id}."""


class NotThere(Conflict):
    """Of line {line_id} {left} can be sent from there, not {wanted}."""


class WrongDeliveryCode(Conflict):
    """This is not the code that the receiver was given."""


class TooManyWrongCodes(Conflict):
    """Too many wrong codes were shown: somebody with the right to orders says why it counts as delivered."""


class CodeOrReason(Invalid):
    """Say either the receiver's code, or why there is none."""


class ReturnTooLate(Conflict):
    """What was delivered can be sent back within {days} days."""


class NotReturnable(Conflict):
    """Of line {line_id} {left} can be sent back, not {wanted}."""


class ReturnDecided(Conflict):
    """A return that is {state} cannot become {wanted}."""


class NothingToRefund(Conflict):
    """So much cannot be paid back: {left} of what was paid for this order is left."""


class NoSuchOrder(Invalid):
    """There is no order with the number {number} that is paid in {currency}."""


class StillShort(Conflict):
    """There is still not enough of {variant_id}."""


# ---- states


def after(state: State, act: Act) -> State:
    """What an order in this state is after the act. Raises NotInThisState."""
    following = MOVES[act].get(state)
    if following is None:
        raise NotInThisState(state=state)
    return following


def cancelling(order: Order, is_staff: bool) -> Act:
    """How this order would be cancelled by whom. Raises NotInThisState."""
    act: Act = "cancel"
    if is_staff:
        act = "drop_rest" if order.state == "partly_shipped" else "withdraw"
    after(order.state, act)
    return act


# ---- names


def number_of(order_id: str, attempt: int = 0) -> str:
    """The number that people say: of the id, so that who asks again gets the same. Another for each attempt."""
    mark = blake2b(f"{order_id}.{attempt}".encode(), digest_size=5).digest()
    return "MS-" + b32encode(mark).decode().translate(str.maketrans("IO", "89"))


def number_in(account: str) -> str | None:
    """The order's number that somebody typed beside a payment, as `ms 4f7k2m9q`; None if it can be none."""
    letters = re.sub(r"[\s._/#-]+", "", account.upper())
    found = NUMBER.fullmatch(letters)
    return f"MS-{found[1]}" if found else None


def purpose_of(order_id: str) -> str:
    """What a payment for this order is for."""
    return f"shop.order:{order_id}"


def prompted(amount: int, payments: Sequence[Payment]) -> str | None:
    """The payment whose prompt such a sum may answer: one that was paid, by what receipt nobody said, else one that is
    still open; of several the latest. None if there is none."""
    fitting = [each for each in payments if each.provider == "mpesa" and each.amount == amount and not each.receipts]
    paid = [each for each in fitting if each.state == "captured"]
    still_open = [each for each in fitting if each.state in ("new", "pending", "unknown")]
    return next((each.id for each in reversed(paid or still_open)), None)


def order_of(purpose: str) -> str | None:
    """The order that a payment is for; None if it is for something else."""
    kind, _, order_id = purpose.partition(":")
    return order_id if kind == "shop.order" and order_id else None


def year_of(at: datetime, zone: ZoneInfo) -> int:
    """The year on the shop's calendar."""
    return at.astimezone(zone).year


# ---- goods


def taken(order: Order) -> dict[tuple[str, str], int]:
    """What is set aside for an order: how many by variant and place."""
    found: dict[tuple[str, str], int] = {}
    for line in order.lines:
        for each in line.allocations:
            key = line.variant_id, each.location_id
            found[key] = found.get(key, 0) + each.quantity
    return found


def moved(line: OrderLine, variant_id: str, before: str, after: str) -> OrderLine:
    """The line, with what was to come from one place coming from another."""
    if line.variant_id != variant_id or before == after:
        return line
    counts: dict[str, int] = {}
    for each in line.allocations:
        place = after if each.location_id == before else each.location_id
        counts[place] = counts.get(place, 0) + each.quantity
    allocations = [Allocation(location_id=place, quantity=count) for place, count in counts.items()]
    return msgspec.structs.replace(line, allocations=allocations)


def shipped_from(order: Order, line_id: str, location_id: str) -> int:
    """How many of a line left from there."""
    return sum(each.lines.get(line_id, 0) for each in order.shipments if each.location_id == location_id)


def left_at(order: Order, line: OrderLine, location_id: str) -> int:
    """How many of a line are still to be sent from there. What is not tracked can be sent from anywhere."""
    left = line.quantity - line.shipped - line.cancelled
    if line.tracked:
        there = sum(each.quantity for each in line.allocations if each.location_id == location_id)
        left = min(left, there - shipped_from(order, line.id, location_id))
    return max(left, 0)


def unshipped(order: Order) -> dict[tuple[str, str], int]:
    """What is allocated to an order and has not left: by variant and place."""
    found: dict[tuple[str, str], int] = {}
    for line in order.lines:
        for each in line.allocations:
            left = each.quantity - shipped_from(order, line.id, each.location_id)
            if left > 0 and line.cancelled == 0:
                key = line.variant_id, each.location_id
                found[key] = found.get(key, 0) + left
    return found


def shipping(order: Order, location_id: str, wanted: Mapping[str, int]) -> list[OrderLine]:
    """The lines as they are once so many of each have left from there. Raises NoSuchLine, NotThere."""
    known = lines_by_id(order, wanted)
    for id, count in wanted.items():
        left = left_at(order, known[id], location_id)
        if count > left:
            raise NotThere(line_id=id, left=left, wanted=count)
    return [_with(line, "shipped", wanted.get(line.id, 0)) for line in order.lines]


def all_shipped(lines: Iterable[OrderLine]) -> bool:
    return all(line.shipped + line.cancelled == line.quantity for line in lines)


def without_rest(order: Order) -> list[OrderLine]:
    """The lines as they are once what has not left is given up."""
    return [_with(line, "cancelled", line.quantity - line.cancelled - line.shipped) for line in order.lines]


def lines_by_id(order: Order, wanted: Iterable[str]) -> dict[str, OrderLine]:
    """The order's lines by id. Raises NoSuchLine for one that it does not have."""
    known = {line.id: line for line in order.lines}
    for id in wanted:
        if id not in known:
            raise NoSuchLine(line_id=id)
    return known


def _with(line: OrderLine, field: Literal["shipped", "cancelled", "returned"], more: int) -> OrderLine:
    return msgspec.structs.replace(line, **{field: getattr(line, field) + more})


# ---- sending back


def check_returnable(order: Order, wanted: Mapping[str, int], at: datetime) -> None:
    """Raise NoSuchLine, NotReturnable or ReturnTooLate unless so much of it may be sent back now."""
    known = lines_by_id(order, wanted)
    for id, count in wanted.items():
        left = returnable(order, known[id])
        if count > left:
            raise NotReturnable(line_id=id, left=left, wanted=count)
    latest = max((each.delivered_at for each in order.shipments if each.delivered_at), default=None)
    if latest is not None and at > latest + TO_RETURN:
        raise ReturnTooLate(days=TO_RETURN.days)


def returnable(order: Order, line: OrderLine) -> int:
    """How many of a line are with who ordered, and nobody asked to send them back."""
    return max(_delivered(order, line.id) - line.returned - _asked_back(order, line.id), 0)


def _delivered(order: Order, line_id: str) -> int:
    return sum(each.lines.get(line_id, 0) for each in order.shipments if each.delivered_at)


def _asked_back(order: Order, line_id: str) -> int:
    """How many of a line somebody asked to send back, and they are not here yet."""
    return sum(each.lines.get(line_id, 0) for each in order.returns if each.state in ("asked", "approved"))


def deciding(found: Return, wanted: str) -> None:
    """Raise ReturnDecided unless a return may become that: asked → approved or refused, approved → received."""
    allowed = {"asked": ("approved", "refused"), "approved": ("received", "refused")}
    if wanted not in allowed.get(found.state, ()):
        raise ReturnDecided(state=found.state, wanted=wanted)


def returning(order: Order, wanted: Mapping[str, int]) -> list[OrderLine]:
    """The lines as they are once so many of each came back."""
    return [_with(line, "returned", wanted.get(line.id, 0)) for line in order.lines]


def origins(order: Order, wanted: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Where what comes back was sent from: how many by place and variant, the last shipment first."""
    found: dict[str, dict[str, int]] = {}
    known = {line.id: line for line in order.lines}
    for id, count in wanted.items():
        line = known[id]
        if not line.tracked:
            continue
        for shipment in reversed(order.shipments):
            part = min(count, shipment.lines.get(id, 0))
            if part:
                here = found.setdefault(shipment.location_id, {})
                here[line.variant_id] = here.get(line.variant_id, 0) + part
                count -= part
    return found


# ---- money


def worth_of(lines: Iterable[OrderLine], currency: str) -> int:
    """What was paid for what of these lines was returned or given up: their part of each line's total, with its
    discount and tax, each rounded half away from zero, and the sum down to what mobile money can move.

    It is of all that was ever given back, so that the refunds of many small returns are that of one great one.
    """
    worth = sum(rounded(Fraction(line.total * (line.returned + line.cancelled), line.quantity)) for line in lines)
    return worth - worth % WHOLE.get(currency, 1)


def refund_for(before: Sequence[OrderLine], after: Sequence[OrderLine], order: Order) -> int:
    """What is paid back for the step from these lines to those; never more than the order cost."""
    most = order.totals.total
    return min(worth_of(after, order.currency), most) - min(worth_of(before, order.currency), most)


def is_by_one(found: Return) -> bool:
    """Whether one person alone approved a return and received it."""
    return found.approved_by == found.received_by


def richest(payments: Sequence[Payment]) -> tuple[Payment | None, int]:
    """The payment of which most is left to be paid back, and how much."""
    if not payments:
        return None, 0
    best = max(payments, key=lambda each: each.captured - given_back(each))
    return best, best.captured - given_back(best)


def check_fillable(order: Order, payments: Sequence[Payment]) -> None:
    """Raise unless an order is short and its money is all still here: what is to be refunded is not filled too."""
    after(order.state, "confirm")
    if order.state != "short" or secured(payments) < order.totals.total:
        raise NotInThisState(state=order.state)


def is_active(refund: Refund) -> bool:
    """Whether a refund counts against what was captured."""
    return refund.state not in ("failed", "refused")


def failed(payments: Iterable[Payment], steps: Sequence[str]) -> list[Refund]:
    """The refunds that failed, and of which the order's history does not tell yet."""
    found = (each for payment in payments for each in payment.refunds if each.state == "failed")
    return [each for each in found if failure_of(each) not in steps]


def failure_of(refund: Refund) -> str:
    """The step that notes it."""
    return f"failed.{refund.id}"


def given_back(payment: Payment, reason: str | None = None) -> int:
    """What of a payment went back or is about to (for that reason)."""
    return sum(each.amount for each in payment.refunds if is_active(each) and reason in (None, each.reason))


def secured(payments: Iterable[Payment]) -> int:
    """What of the order is paid, or set aside for it by a bank, and not on its way back."""
    return sum(_secured(each) for each in payments)


def _secured(payment: Payment) -> int:
    held = payment.amount if payment.state == "authorised" else 0
    return max(payment.captured, held) - given_back(payment)


def captured(payments: Iterable[Payment]) -> int:
    return sum(each.captured for each in payments)


def is_at_rest(order: Order, payments: Iterable[Payment]) -> bool:
    """Whether an order is over, and nothing of its money is on its way."""
    moving = any(
        each.state in (*UNDER_WAY, "unknown")
        or any(refund.state in ("waiting", "approved", "sent", "unknown") for refund in each.refunds)
        for each in payments
    )
    return order.state in OVER and not moving


def surplus(order: Order, payments: Sequence[Payment]) -> tuple[int, str]:
    """What is to go back without anybody asking for it, since nobody owes it, and why."""
    all_paid = captured(payments)
    if order.state == "short":
        return max(all_paid - sum(map(given_back, payments)), 0), TOO_LATE
    if order.state in ("cancelled", "expired"):
        return max(all_paid - sum(map(given_back, payments)), 0), NO_ORDER
    if order.state in CONFIRMED:
        # What went back before it was confirmed, of an expired order that was paid in part, was not owed either.
        back = sum(given_back(each, reason) for each in payments for reason in (SURPLUS, NO_ORDER, TOO_LATE))
        over = all_paid - order.totals.total - back
        return max(over, 0), SURPLUS
    return 0, ""


def spread(amount: int, payments: Sequence[Payment]) -> list[tuple[Payment, int]]:
    """Which payments an amount is paid back from: the latest first, since that is the one too many."""
    parts: list[tuple[Payment, int]] = []
    for each in sorted(payments, key=lambda payment: payment.id, reverse=True):
        part = min(amount, each.captured - given_back(each))
        if part > 0:
            parts.append((each, part))
            amount -= part
    return parts


# ---- how it reads


WAYS: Mapping[str, Words] = {
    "mpesa": Words(en="M-Pesa", sw="M-Pesa"),
    "stripe": Words(en="card", sw="kadi"),
}
TEXTS: Mapping[str, Words] = {
    "placed": Words(en="You ordered.", sw="Umeagiza."),
    "payment_asked": Words(
        en="You were asked to pay {amount} by {provider}.", sw="Umeombwa kulipa {amount} kwa {provider}."
    ),
    "money_received": Words(en="We received {amount}.", sw="Tumepokea {amount}."),
    "confirmed": Words(
        en="It is paid, and the goods are set aside for you.", sw="Imelipwa, na bidhaa zimetengwa kwa ajili yako."
    ),
    "short": Words(
        en="Your money came when the goods were gone. We are looking for them, or you get it back.",
        sw="Pesa zako zilifika bidhaa zikiwa zimeisha. Tunazitafuta, la sivyo utarudishiwa pesa.",
    ),
    "expired": Words(
        en="It was not paid in time, so the goods are no longer held for you.",
        sw="Haikulipwa kwa wakati, kwa hiyo bidhaa hazijatengwa tena kwa ajili yako.",
    ),
    "cancelled": Words(en="It was cancelled: {reason}", sw="Imeghairiwa: {reason}"),
    "rest_cancelled": Words(
        en="What had not been sent was cancelled, and you get {amount} back: {reason}",
        sw="Ambavyo havikuwa vimetumwa vimeghairiwa, na utarudishiwa {amount}: {reason}",
    ),
    "shipped": Words(en="{count} of {all} were sent{carrier}.", sw="{count} kati ya {all} vimetumwa{carrier}."),
    "delivered": Words(en="You received it.", sw="Umepokea."),
    "delivered_without_code": Words(
        en="It counts as delivered without the code: {reason}",
        sw="Imehesabiwa kuwa imefika bila namba ya siri: {reason}",
    ),
    "return_asked": Words(en="You asked to send {count} back.", sw="Umeomba kurudisha {count}."),
    "return_approved": Words(en="You may send it back.", sw="Unaweza kuirudisha."),
    "return_refused": Words(en="It cannot be sent back: {reason}", sw="Haiwezi kurudishwa: {reason}"),
    "return_received": Words(
        en="What you sent back has arrived; you get {amount} back.",
        sw="Ulichorudisha kimefika; utarudishiwa {amount}.",
    ),
    "refund_asked": Words(en="{amount} is to be paid back: {reason}", sw="{amount} itarudishwa: {reason}"),
    "refunded": Words(en="{amount} was paid back.", sw="{amount} imerudishwa."),
    "refund_failed": Words(
        en="{amount} could not be paid back ({code}): somebody has to look after it.",
        sw="{amount} haikuweza kurudishwa ({code}): lazima mtu aishughulikie.",
    ),
    "coupon_beyond_limit": Words(
        en="The money came late, when others had used {coupons} up: it is used once more than its limit says.",
        sw="Pesa zilichelewa, wengine walikuwa wamemaliza {coupons}: imetumika mara moja zaidi ya kikomo chake.",
    ),
    "wrong_delivery_code": Words(en="A wrong code was shown.", sw="Namba isiyo sahihi ilionyeshwa."),
    "anonymised": Words(en="Who ordered it is forgotten.", sw="Aliyeagiza amesahauliwa."),
}


def counted_for(order: Order) -> str | None:
    """Who an order's coupons are counted for; nobody any more if its buyer is to be forgotten."""
    return order.person if order.person and "forget" not in order.steps else None


def text_of(entry: Entry, currency: str, language: str) -> str:
    """What happened, in a person's language."""
    words = TEXTS.get(entry.kind)
    if words is None:
        return entry.kind
    said: dict[str, str] = dict(entry.details)
    if "amount" in said:
        said["amount"] = shown(Money(int(said["amount"]), currency), language)
    if "provider" in said:
        said["provider"] = way_of(said["provider"], language)
    if said.get("carrier"):
        said["carrier"] = f" ({said['carrier']})"
    return words.said_in(language).format_map(Blank(said))


def way_of(provider: str, language: str) -> str:
    """What people call it: by `M-Pesa`, by `card`; of others, what programs call it."""
    words = WAYS.get(provider)
    return provider if words is None else words.said_in(language)


class Blank(dict[str, str]):
    """What fills in a text: of what it does not have, nothing."""

    def __missing__(self, key: str) -> str:
        return ""


def find_entry(order: Order, entry_id: str) -> Entry | None:
    return next((each for each in order.timeline if each.id == entry_id), None)


def may_be(event: OrderMoved, kinds: Container[str]) -> bool:
    """Whether what happened may be one of these kinds: events of before did not say what kind they are of."""
    return event.kind == "" or event.kind in kinds


def goes_on(event: OrderMoved, said: Entry | None) -> bool:
    """Whether what is left to do is in the hands of who wrote this: `settle` notes money and confirms on its way.

    An order that was filled by hand is confirmed outside of it.
    """
    return event.kind == "money_received" or (said is not None and said.kind == "confirmed" and said.by == "")


def find_shipment(order: Order, shipment_id: str) -> Shipment | None:
    return next((each for each in order.shipments if each.id == shipment_id), None)


def find_return(order: Order, return_id: str) -> Return | None:
    return next((each for each in order.returns if each.id == return_id), None)
