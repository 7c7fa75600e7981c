"""What is true of a payment, given all that was said of it: pure, and the same in whatever order it was said.

Nothing here remembers what came first. A payment is computed anew from the whole set of its facts each time one is
added, so that late, doubled and reordered facts end in one state.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from msingi.kit.payments.face import Fact
from msingi.kit.payments.models import FactRow, Movement, Payment, Refund, State

OVER: tuple[State, ...] = ("captured", "voided", "failed")
DEAD = ("failed", "refused")  # refunds that reserve nothing
UNDER_WAY = ("approved", "sent", "unknown")  # refunds that are to be asked about
ELSEWHERE = "credited_elsewhere"  # the code of one whose money is another payment's
SILENCE = "silence:"  # how an oddity begins that comes of asking in vain, not of what was said


class Said(Struct, frozen=True):
    """A fact, and the payment that its receipt credits already, if it does: then it credits nothing here."""

    fact: Fact
    credits: str = ""


def said_in(rows: Iterable[FactRow]) -> list[Said]:
    """What the inbox holds, in the order of ids, which is as good as any."""
    said = [Said(msgspec.convert(row.fact, Fact), row.credits) for row in rows]
    return sorted(said, key=lambda each: each.fact.id)


def told_by(payment: Payment, said: Sequence[Said], at: datetime) -> Payment:
    """The payment as these facts make it. `at` is when a movement of money that is new here became known."""
    facts = [each.fact for each in said]
    elsewhere = {each.fact.reference for each in said if each.credits and each.fact.kind == "captured"} - {""}
    counted = [each.fact for each in said if _counts(payment, each) and not _is_of(elsewhere, each.fact)]
    captured = max(payment.captured, _captured(payment, counted))
    refunds = _refunds(payment, [fact for fact in counted if fact.kind in ("refunded", "refund_failed")], at)
    refunded = max(payment.refunded, sum(each.told for each in refunds))
    new = {fact.receipt for fact in counted if fact.kind == "captured" and fact.receipt}
    receipts = sorted({*payment.receipts, *new})
    known = msgspec.structs.replace(
        payment,
        authorised=max([payment.authorised, *(fact.amount or payment.amount for fact in _of(counted, "authorised"))]),
        captured=captured,
        refunded=refunded,
        receipt=receipts[0] if receipts else None,
        receipts=receipts,
        refunds=refunds,
        facts=sorted({*payment.facts, *(fact.id for fact in facts)}),
        movements=_moved(payment, captured, refunded, at),
        state=_state(payment, captured, counted, is_elsewhere=bool(elsewhere)),
    )
    known.code = _code(facts, known.state) if known.state in ("failed", "pending") else ""
    if known.state == "failed" and elsewhere:
        known.code = ELSEWHERE
    known.in_doubt = known.in_doubt and not is_over(known)
    known.odd = sorted({*_oddities(known, said), *_silences(known)})
    return known


def is_over(payment: Payment) -> bool:
    """Whether no more money will come, or go by our wish."""
    return payment.state in OVER and not is_wanting(payment)


def is_wanting(payment: Payment) -> bool:
    """Whether it is still to be captured or given up, as somebody wanted."""
    if payment.wanted == "capture":
        return payment.captured == 0 and payment.state not in OVER
    return payment.wanted == "void" and payment.state not in OVER


def is_settled(payment: Payment) -> bool:
    """Whether all is known, so that nobody has to be asked."""
    return not payment.in_doubt and is_over(payment) and not any(each.state in UNDER_WAY for each in payment.refunds)


def expected(payment: Payment) -> int:
    """How much is to be captured."""
    return payment.to_capture or payment.amount


def live(refunds: Iterable[Refund]) -> int:
    """How much of what was captured these refunds take or have reserved."""
    return sum(max(each.amount, each.told) for each in refunds if each.state not in DEAD)


def _counts(payment: Payment, said: Said) -> bool:
    """Whether it is about this money at all: in its currency, and not already another payment's."""
    return said.fact.currency in ("", payment.currency) and said.fact.amount >= 0 and not said.credits


def _is_of(elsewhere: set[str], fact: Fact) -> bool:
    """Whether it tells anew, without a receipt, of money that is known by its receipt to be another payment's."""
    return fact.kind == "captured" and not fact.receipt and fact.reference in elsewhere


def _of(facts: Iterable[Fact], kind: str) -> list[Fact]:
    return [fact for fact in facts if fact.kind == kind]


def _captured(payment: Payment, counted: Sequence[Fact]) -> int:
    """All that came: the greatest total told under each reference, and what was paid by hand, under none.

    There is one reference, unless a payer was asked twice. A reference tells one receipt, by which money that was paid
    by hand is known to be the same or not; while it tells none it may be the same, and does not count twice.
    """
    told = _of(counted, "captured")
    receipts = {fact.reference: fact.receipt for fact in told if fact.reference and fact.receipt}
    by_hand: dict[str, int] = {}
    for fact in told:
        if not fact.reference:
            by_hand[fact.receipt or fact.id] = max(by_hand.get(fact.receipt or fact.id, 0), fact.amount)
    sure: dict[str, int] = {}
    perhaps: dict[str, int] = {}
    for fact in told:
        if fact.reference:
            receipt = receipts.get(fact.reference)
            totals = perhaps if receipt is None else sure
            known = totals.get(fact.reference, by_hand.get(receipt or "", 0))
            totals[fact.reference] = max(known, fact.amount or expected(payment))
    more = sum(amount for receipt, amount in by_hand.items() if receipt not in receipts.values())
    return sum(sure.values()) + max(sum(perhaps.values()), more)


def _state(payment: Payment, captured: int, counted: Sequence[Fact], *, is_elsewhere: bool) -> State:
    """The strongest of what was told: money that came is not undone by a failure that was told too.

    One whose money is another payment's, as the receipt says, is over without any of its own.
    """
    kinds = {fact.kind for fact in counted}
    if captured:
        return "captured"
    if is_elsewhere:
        return "failed"
    if "voided" in kinds:
        return "voided"
    if "failed" in kinds:
        return "failed"
    if payment.in_doubt:
        return "unknown"
    if "authorised" in kinds:
        return "authorised"
    return "pending" if payment.reference or "pending" in kinds else payment.state


def _code(facts: Sequence[Fact], kind: str) -> str:
    told = [fact for fact in _of(facts, kind) if fact.code]
    codes = sorted((fact.at.timestamp() if fact.at else 0, fact.id, fact.code) for fact in told)
    return codes[-1][-1] if codes else ""


def _moved(payment: Payment, captured: int, refunded: int, at: datetime) -> list[Movement]:
    came = [Movement("captured", captured - payment.captured, at)] if captured > payment.captured else []
    went = [Movement("refunded", refunded - payment.refunded, at)] if refunded > payment.refunded else []
    return [*payment.movements, *came, *went]


# ---- refunds


def _refunds(payment: Payment, about: Sequence[Fact], at: datetime) -> list[Refund]:
    """Ours as they stand now, and those that were made at the provider itself."""
    ours = {each.id: each for each in payment.refunds}
    by_refund: dict[str, list[Fact]] = {id: [] for id in ours}
    for fact in about:
        by_refund.setdefault(_name(fact), []).append(fact)
    made = {
        id: Refund(id=id, amount=0, reason="", asked_by="", asked_at=at, state="sent")
        for id, facts in sorted(by_refund.items())
        if id not in ours and _of(facts, "refunded")
    }
    all_of_them = sorted([*ours.values(), *made.values()], key=lambda each: "" if each.asked_by else each.id)
    return [_as_told(each, by_refund[each.id]) for each in all_of_them]


def _name(fact: Fact) -> str:
    return fact.refund or fact.receipt or fact.id


def _as_told(refund: Refund, facts: Sequence[Fact]) -> Refund:
    """Money that is said to have gone is gone: only a person may decide that it did not."""
    done, failed = _of(facts, "refunded"), _of(facts, "refund_failed")
    if done:
        told = max([refund.told, *(fact.amount or refund.amount for fact in done)])
        receipt = max([refund.receipt, *(fact.receipt for fact in done)])
        amount = refund.amount if refund.asked_by else told
        return msgspec.structs.replace(refund, state="done", told=told, receipt=receipt, amount=amount, code="")
    if failed and refund.state != "done":
        return msgspec.structs.replace(refund, state="failed", code=max(fact.code for fact in failed))
    return refund


# ---- what does not add up


def _oddities(payment: Payment, said: Sequence[Said]) -> Iterable[str]:
    """What a person should look at, each said with the figures that do not fit."""
    for each in said:
        yield from _odd_fact(payment, each)
    kinds = {each.fact.kind for each in said if _counts(payment, each)}
    if payment.captured > payment.amount:
        yield f"amount: asked {payment.amount}, captured {payment.captured} in all"
    for kind in ("failed", "voided"):
        if payment.captured and kind in kinds:
            yield f"contradiction: told to be {kind}, and captured"
    if payment.captured and payment.wanted == "void":
        yield "void: wanted, but it was captured"
    yield from _odd_refunds(payment, said)


def _odd_fact(payment: Payment, said: Said) -> Iterable[str]:
    fact = said.fact
    if fact.amount < 0 or fact.currency not in ("", payment.currency):
        yield f"currency: asked {payment.currency}, {fact.kind} {fact.amount} {fact.currency}".rstrip()
    elif said.credits:
        yield f"receipt: {fact.receipt} credits {said.credits} already"
    elif fact.kind in ("captured", "authorised") and fact.amount:
        asked = expected(payment) if fact.kind == "captured" else payment.amount
        if fact.amount != asked:
            yield f"amount: asked {asked}, {fact.kind} {fact.amount}"
    if fact.kind == "disputed":
        yield f"dispute: {fact.amount} {payment.currency}, {fact.code}"
    if payment.reference and fact.reference not in (payment.reference, payment.id, ""):
        yield f"reference: {fact.reference} beside {payment.reference}"


def _odd_refunds(payment: Payment, said: Sequence[Said]) -> Iterable[str]:
    failed = {_name(each.fact) for each in said if each.fact.kind == "refund_failed"}
    for refund in payment.refunds:
        if not refund.asked_by:
            yield f"refund: {refund.id} was not asked for here, {refund.told} went back"
        elif refund.state == "done" and refund.told != refund.amount:
            yield f"refund: asked {refund.amount}, {refund.told} went back ({refund.id})"
        if refund.state == "done" and refund.id in failed:
            yield f"contradiction: refund {refund.id} told to be done, and failed"
    if payment.refunded > payment.captured:
        yield f"refund: {payment.refunded} went back, but {payment.captured} came"


def _silences(payment: Payment) -> Iterable[str]:
    return [] if is_settled(payment) else [each for each in payment.odd if each.startswith(SILENCE)]
