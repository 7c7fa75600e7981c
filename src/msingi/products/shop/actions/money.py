"""What follows for an order from what is known of its payments.

`settle` looks at how things stand and does what is left, whatever was said in whatever order; each of its steps is
exactly once by a guard of its own. So it may be run at any time, twice, by two at once, or again after a crash between
any two of its steps.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from msingi.kit import audit, unit
from msingi.kit.auth import Actor
from msingi.kit.errors import Busy, NotFound, Problem, Stale
from msingi.kit.payments import ledger
from msingi.kit.payments.models import Payment, Refund, postings
from msingi.kit.unit import atomic, guarded, repeatable
from msingi.products.shop.actions import coupons, invoices, prompts, stock
from msingi.products.shop.actions import orders as giving_up
from msingi.products.shop.actions.orders import entry, forget_rest, let_go, move, tell
from msingi.products.shop.models.orders import Entry, Order, orders
from msingi.products.shop.models.stock import locations
from msingi.products.shop.queries.orders import payments_of
from msingi.products.shop.rules import bookkeeping
from msingi.products.shop.rules import orders as rules
from msingi.products.shop.till import till

log = structlog.get_logger("shop.money")
TRIES = 20


async def settle(order_id: str) -> Order:
    """Bring an order in line with its payments. Raises Busy if others are always faster."""
    for _ in range(TRIES):
        try:
            return await _settle(await orders.get(order_id))
        except (Stale, rules.NotInThisState):
            continue  # it is another order by now: look again
    raise Busy(retry_after=1)


async def _settle(order: Order) -> Order:
    paid = await payments_of(order.id)
    order = await invoices.write_credit_notes(order, paid)
    order = await _note_money(order, paid)
    if order.state in ("awaiting_payment", "expired") and rules.secured(paid) >= order.totals.total:
        order = await _confirm(order)
    if order.state in rules.CONFIRMED:
        order = await _after_paid(order, paid)
        await _capture(order, paid)
    if order.state in ("cancelled", "expired"):
        await let_go(order)
        await give_up(paid)
    await _give_back(order, paid)
    await _keep_books(order, paid)
    if "forget" in order.steps and rules.is_at_rest(order, await payments_of(order.id)):
        order = await forget_rest(order.id)
    return order


async def cancel(order_id: str, reason: str, by: str, *, is_staff: bool) -> Order:
    """Cancel an order, and let go of what it held. What is paid goes back by the job that its event asks for.

    Raises NotInThisState. Cancelled again, it stays as it is.
    """
    for _ in range(TRIES):
        order = await orders.get(order_id)
        if order.state == "cancelled":
            return order
        try:
            done = await giving_up.cancel(order, reason, by, is_staff=is_staff)
        except Stale:
            await settle(order_id)  # it is being paid this very moment: have that come to its end first
            continue
        if order.state == "awaiting_payment":
            await let_go(done)
        return done
    raise Busy(retry_after=1)


# ---- money in the order's own books


async def _note_money(order: Order, paid: Sequence[Payment]) -> Order:
    """What came and went by now, and a line of the history for each. Both only grow."""
    came = max(rules.captured(paid), order.paid)
    went = max(sum(each.refunded for each in paid), order.refunded)
    said = []
    if came > order.paid:
        said.append(entry("money_received", amount=came - order.paid))
    if went > order.refunded:
        said.append(entry("refunded", amount=went - order.refunded))
    return await _note(order, came, went, said) if said else order


@guarded
async def _note(order: Order, came: int, went: int, said: list[Entry]) -> Order:
    known = {"paid": order.paid, "refunded": order.refunded}
    return await tell(order, said, to={"$set": {"paid": came, "refunded": went}}, when=known)


# ---- it is paid: the goods


async def _confirm(order: Order) -> Order:
    """From held to allocated, at each place; then it is confirmed, or short if something is gone.

    From the claim on, nobody but this moves the order, so that what is allocated on the way is never forgotten.
    """
    order = await _claim(order)
    missed = await stock.allocate(order.id, rules.taken(order))
    try:
        return await _confirm_late(order.id, missed) if missed else await _confirmed(order)
    except rules.StillShort:
        return await _fall_short(order, missed)


@guarded
async def _claim(order: Order) -> Order:
    if "allocating" in order.steps:
        return order
    return await orders.change(
        order.id, {"$addToSet": {"steps": "allocating"}}, when={"state": order.state, "version": order.version}
    )


@guarded
async def _confirmed(order: Order) -> Order:
    return await move(order, "confirm", entry("confirmed"))


@atomic
async def _confirm_late(order_id: str, missed: Sequence[tuple[str, str]], by: str = "") -> Order:
    """Money that came when the hold was over: what is gone where it was held is looked for again, there and elsewhere.

    It is rare, so it may be a transaction: the stock and the state that says so are one. Raises StillShort.
    """
    order = await orders.get(order_id)
    rules.after(order.state, "confirm")
    lines = order.lines
    for variant_id, location_id in sorted(missed):
        wanted = rules.taken(order)[variant_id, location_id]
        place = await _place_with(order, variant_id, location_id, wanted)
        lines = [rules.moved(line, variant_id, location_id, place) for line in lines]
    return await move(
        order, "confirm", entry("confirmed", by=by), to={"$set": {"lines": lines}}, when={"version": order.version}
    )


async def _place_with(order: Order, variant_id: str, first: str, wanted: int) -> str:
    """Where so many could be allocated: where they were held, else, unless they are picked up, anywhere."""
    places = [first]
    if order.pick_up_at is None:
        found = await locations.many({"closed": False}, sort=[("priority", 1), ("_id", 1)], limit=100)
        places += [each.id for each in found if each.id != first]
    for place in places:
        if await stock.allocate_late(order.id, variant_id, place, wanted):
            return place
    raise rules.StillShort(variant_id=variant_id)


@atomic
async def _fall_short(seen: Order, missed: Sequence[tuple[str, str]]) -> Order:
    """Something is gone: what was allocated meanwhile goes back, in one transaction with the state that says so."""
    order = await orders.get(seen.id)
    rules.after(order.state, "fall_short")
    for (variant_id, location_id), quantity in sorted(rules.taken(order).items()):
        if (variant_id, location_id) not in missed:
            await stock.unallocate(order.id, variant_id, location_id, quantity)
    steps = [step for step in order.steps if step != "allocating"]
    return await move(
        order, "fall_short", entry("short"), to={"$set": {"steps": steps}}, when={"version": seen.version}
    )


async def fill(order_id: str, by: str) -> Order:
    """Fill a short order by hand, now that there is stock again. Raises NotInThisState, StillShort."""
    order = await orders.get(order_id)
    rules.check_fillable(order, await payments_of(order.id))
    return await _confirm_late(order.id, list(rules.taken(order)), by)


# ---- it is paid: what else


async def _after_paid(order: Order, paid: Sequence[Payment]) -> Order:
    if rules.COUPONS_SPENT not in order.steps:
        beyond = await coupons.spend_coupons(order.id, order.coupons, rules.counted_for(order))
        order = await _note_spent(order, beyond)
    if order.invoice is None and rules.captured(paid) >= order.totals.total:
        order = await invoices.write_credit_notes(await invoices.write_invoice(order), paid)
    return order


@guarded
async def _note_spent(order: Order, beyond: Sequence[str]) -> Order:
    step = {"$addToSet": {"steps": rules.COUPONS_SPENT}}
    when = {"state": order.state, "steps": {"$ne": rules.COUPONS_SPENT}}
    if not beyond:
        return await orders.change(order.id, step, when=when)
    log.warning("coupons_spent_beyond_limit", order=order.id, coupons=beyond)
    said = entry("coupon_beyond_limit", public=False, coupons=", ".join(beyond))
    return await tell(order, [said], to=step, when=when)


async def _capture(order: Order, paid: Sequence[Payment]) -> None:
    """What a bank set aside for it is taken once the goods leave."""
    for each in paid:
        if order.shipments and each.state == "authorised" and each.wanted == "":
            await till().capture(each.id)


# ---- money that goes back


async def give_up(paid: Sequence[Payment]) -> None:
    """Give up payments that are still under way: of an order that is over, or since another is begun.

    What a provider refused to let go is left to be asked about: to try again each time that something is told of it,
    the refusal too, would never end.
    """
    for each in paid:
        if each.state in rules.UNDER_WAY and each.wanted != "void" and not each.void_refused:
            try:
                with outside_of_journal():
                    await till().void(each.id)
            except (
                Problem
            ) as problem:  # it is captured by now, or cannot be called back: what comes of it is dealt with
                log.info("payment_not_voided", payment=each.id, code=problem.code)


async def _give_back(order: Order, paid: Sequence[Payment]) -> None:
    """Ask for the refunds that are due, each once, and send those that may go."""
    amount, reason = rules.surplus(order, paid)
    returned = [each.id for each in order.returns if each.state == "received" and each.refund]
    is_cut = any(line.cancelled for line in order.lines)
    if amount:
        key = f"back.{order.state}.{rules.captured(paid)}"
        await _refund_once(order.id, key, reason, waits=order.state == "short")
    for return_id in returned:
        await _refund_return(order.id, return_id)
    if is_cut:
        await _refund_rest(order.id)
    known = await payments_of(order.id) if amount or returned or is_cut else paid
    for payment, refund in _approved(known):
        await till().send_refund(payment.id, refund.id)
    for refund in rules.failed(paid, order.steps):
        await _note_failure(order.id, refund)


def _approved(paid: Sequence[Payment]) -> list[tuple[Payment, Refund]]:
    return [(payment, each) for payment in paid for each in payment.refunds if each.state == "approved"]


@guarded
async def _note_failure(order_id: str, refund: Refund) -> None:
    """A refund that failed is not tried again by itself: a person sees it, and asks for another."""
    step = rules.failure_of(refund)
    log.warning("refund_failed", order=order_id, refund=refund.id, code=refund.code)
    said = entry("refund_failed", public=False, amount=refund.amount, code=refund.code)
    await tell(await orders.get(order_id), [said], to={"$addToSet": {"steps": step}}, when={"steps": {"$ne": step}})


@atomic
async def _refund_once(order_id: str, key: str, reason: str, *, waits: bool) -> None:
    order, paid = await orders.get(order_id), await payments_of(order_id)
    amount, reason_now = rules.surplus(order, paid)
    if key not in order.steps and amount and reason_now == reason:
        await _ask_back(order, paid, key, amount, reason, waits=waits)


@atomic
async def _refund_return(order_id: str, return_id: str) -> None:
    """A return's part of the money. It waits for a second person if one alone approved and received the goods."""
    order, paid = await orders.get(order_id), await payments_of(order_id)
    found = rules.find_return(order, return_id)
    key = f"back.return.{return_id}"
    if found is not None and key not in order.steps:
        await _ask_back(order, paid, key, found.refund, f"Return {return_id}", waits=rules.is_by_one(found))


@atomic
async def _refund_rest(order_id: str) -> None:
    """What was given up of an order that is partly shipped, as it was reckoned then."""
    order, paid = await orders.get(order_id), await payments_of(order_id)
    key = "back.rest"
    if key not in order.steps:
        await _ask_back(order, paid, key, bookkeeping.rest_of(order), rules.REST, waits=False)


async def _ask_back(order: Order, paid: Sequence[Payment], key: str, amount: int, reason: str, *, waits: bool) -> None:
    """In the transaction under way: note that it is asked for, and ask; never for more than is left of the money."""
    parts = rules.spread(amount, paid)
    said = [entry("refund_asked", amount=part, reason=reason) for _, part in parts]
    await tell(order, said, to={"$addToSet": {"steps": key}}, when={"version": order.version})
    for payment, part in parts:
        await till().ask_refund(payment.id, part, reason, rules.HOUSE, needs_approval=waits)


@atomic
async def ask_refund(order_id: str, amount: int, reason: str, by: str) -> tuple[str, Refund]:
    """Ask that money goes back; another person has to approve it. Raises NothingToRefund."""
    order, paid = await orders.get(order_id), await payments_of(order_id)
    payment, left = rules.richest(paid)
    if payment is None or amount > left:
        raise rules.NothingToRefund(left=left)
    refund = await till().ask_refund(payment.id, amount, reason, by, needs_approval=True)
    await tell(order, [entry("refund_asked", by=by, amount=amount, reason=reason)])
    return payment.id, refund


async def decide_refund(order_id: str, refund_id: str, actor: Actor, *, approved: bool) -> tuple[str, Refund]:
    """Let a refund go that somebody else asked for, or not. Raises NotFound, AnotherPersonDecides, NotWaiting."""
    for payment in await payments_of(order_id):
        if any(each.id == refund_id for each in payment.refunds):
            return payment.id, await _decide(payment.id, refund_id, actor, approved)
    raise NotFound


@atomic
async def _decide(payment_id: str, refund_id: str, actor: Actor, approved: bool) -> Refund:
    decide = till().approve_refund if approved else till().refuse_refund
    kind = "shop.refund_approved" if approved else "shop.refund_refused"
    await audit.note(kind, actor=actor, about=payment_id, refund=refund_id)
    return await decide(payment_id, refund_id, actor.id)


async def _keep_books(order: Order, paid: Sequence[Payment]) -> None:
    """Post what happened into the ledger, as far as that is not done."""
    wanted = [*bookkeeping.of_order(order, paid), *(each for payment in paid for each in ledger.posted_of(payment))]
    known = await postings("shop").many({"purpose": rules.purpose_of(order.id)})
    there = {each.id for each in known}
    for each in wanted:
        if each.id not in there:
            await ledger.post("shop", each.id, each.currency, each.lines, each.purpose, each.note)


# ---- paying


async def pay(order: Order, payment_id: str, provider: str, phone: str) -> Payment:
    """Open a payment of an order under an id that knows it again, and note it in the order. Raises as the till does."""
    rest = order.totals.total - rules.secured(await payments_of(order.id))
    with outside_of_journal():
        opened = await till().open(
            id=payment_id,
            purpose=rules.purpose_of(order.id),
            provider=provider,
            amount=rest,
            currency=order.currency,
            payer_id=order.customer_id,
            phone=phone,
            email=order.email,
            note=order.number,
        )
    await _note_payment(order, opened)
    return opened


@repeatable
async def _note_payment(order: Order, opened: Payment) -> None:
    said = entry("payment_asked", amount=opened.amount, provider=opened.provider)
    try:
        await tell(
            order,
            [said],
            to={"$addToSet": {"payment_ids": opened.id}},
            when={"payment_ids": {"$ne": opened.id}},
        )
    except Stale:
        return  # it is noted already


async def pay_again(order_id: str, provider: str, phone: str) -> Payment:
    """Try to pay once more, with this provider. What was begun before is given up.

    Raises NothingToPay, HoldEnded, PaymentUnknown, NoSuchWayToPay, OrderFull, TooManyPrompts.
    """
    payment_id = await _next_payment(order_id, provider)
    await prompts.count(provider, phone)
    await give_up([each for each in await payments_of(order_id) if each.id != payment_id])
    return await pay(await orders.get(order_id), payment_id, provider, phone)


@atomic
async def _next_payment(order_id: str, provider: str) -> str:
    """The id of the payment to be opened now: noted, so that a retry opens the same."""
    order, paid = await orders.get(order_id), await payments_of(order_id)
    rest = order.totals.total - rules.secured(paid)
    if order.state != "awaiting_payment":
        raise rules.NotInThisState(state=order.state)
    if "allocating" in order.steps or rest <= 0:
        raise rules.NothingToPay
    if any(each.state in ("new", "unknown") for each in paid):
        raise rules.PaymentUnknown
    if len(paid) >= rules.MOST_PAYMENTS:
        raise rules.OrderFull(most=rules.MOST_PAYMENTS)
    check_provider(provider, rest, order.currency)
    if not await orders.exists({"_id": order.id, "$expr": {"$gt": ["$held_until", "$$NOW"]}}):
        raise rules.HoldEnded
    return payment_id(order.id, len(paid) + 1)


def payment_id(order_id: str, attempt: int) -> str:
    return f"{order_id}-{attempt}"


def check_provider(provider: str, amount: int, currency: str) -> None:
    """Raise NoSuchWayToPay unless this can be paid so."""
    known = till().providers
    if provider not in known or not known[provider].takes(amount, currency):
        fitting = sorted(name for name, each in known.items() if each.takes(amount, currency))
        raise rules.NoSuchWayToPay(
            provider=provider, amount=amount, currency=currency, providers=", ".join(fitting) or "none"
        )


@contextmanager
def outside_of_journal() -> Iterator[None]:
    """What knows itself again by its own id is no step of a request with an Idempotency-Key."""
    token = unit.journal.set(None)
    try:
        yield
    finally:
        unit.journal.reset(token)
