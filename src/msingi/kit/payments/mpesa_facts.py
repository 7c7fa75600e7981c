"""What M-Pesa says, read into facts: callbacks, answers to questions, and the file of a day's payments.

Anybody may have written what comes in here, so nothing is taken on trust: what cannot be read whole is BadCallback, a
sum is exact or it is refused, and a result that nobody knows is no verdict. Names and phone numbers are left behind.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import structlog

from msingi.kit.errors import Invalid
from msingi.kit.payments.face import BadCallback, Fact, Kind
from msingi.kit.payments.mpesa_codes import DECLINED, PAID, PUSHES, STILL, Meaning, of_payout, of_push

log = structlog.get_logger("mpesa")

Json = Mapping[str, Any]

CURRENCY = "KES"
NAIROBI = timezone(timedelta(hours=3), "EAT")  # without summer time since 1960
LARGEST = 10**9  # shillings that any message can be about
SETTLED = timedelta(minutes=10)  # after a prompt, which lives for two at most, M-Pesa's own record is the last word
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_NUMBER = re.compile(r"[A-Za-z0-9_.]{1,24}")
_RECEIPT = re.compile(r"[A-Z0-9]{6,20}")
_SENT_AT = re.compile(r"ws_CO_(?:DMZ_)?([0-9]{14})")
_SUM = re.compile(r"[0-9]{1,9}(\.[0-9]{1,2})?")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


class UnreadableStatement(Invalid):
    """This is no statement of M-Pesa: {reason}."""


# ---- a push to a phone


def of_push_callback(body: bytes, payment: str) -> Sequence[Fact]:
    """The fact of `Body.stkCallback`. Its items may be missing, without a value, or in any order."""
    said = _part(_part(_json(body), "Body"), "stkCallback")
    reference = _text(said.get("CheckoutRequestID"), _ID)
    result = result_of(said)
    items = _pairs(said, "CallbackMetadata", "Item", "Name")
    if result != PAID:
        return [_unpaid(reference, result, payment, _raw(said))]
    return [
        Fact(
            id=f"stk:{reference}:{PAID}",
            reference=reference,
            kind="captured",
            payment=payment,
            amount=_amount(items.get("Amount")),
            currency=CURRENCY,
            receipt=_receipt(items.get("MpesaReceiptNumber")),
            at=_time(items.get("TransactionDate"), "%Y%m%d%H%M%S"),
            raw=_raw(said),
        )
    ]


def of_push_query(said: Json, reference: str, at: datetime) -> Sequence[Fact]:
    """The fact in an answer of `stkpushquery` that was given at `at`; it tells neither a sum nor a receipt.

    What it says of a failure has the id that the callback's fact has. That it was paid has one of its own: the
    callback has more to say of that, and must not be taken for something heard before. What could still change is a
    failure when it is said SETTLED after the prompt, whose time stands in the reference; else payments that nobody
    answered would stay open for ever.
    """
    result = result_of(said)
    if result != PAID:
        fact = _unpaid(reference, result, "", _raw(said))
        if fact.kind == "pending" and result in PUSHES and _was_sent_before(reference, at - SETTLED):
            return [msgspec.structs.replace(fact, id=f"{fact.id}:settled", kind="failed")]
        return [fact]
    return [Fact(id=f"stk:{reference}:{PAID}:query", reference=reference, kind="captured", raw=_raw(said))]


def still_open(reference: str) -> Fact:
    """The payer has the prompt and has not decided."""
    return Fact(id=f"stk:{reference}:pending", reference=reference, kind="pending")


def _was_sent_before(reference: str, at: datetime) -> bool:
    found = _SENT_AT.match(reference)
    sent = _time(found[1], "%d%m%Y%H%M%S") if found else None
    return sent is not None and sent < at


def _unpaid(reference: str, result: str, payment: str, raw: dict[str, Any]) -> Fact:
    if result in STILL:
        return still_open(reference)
    meaning = _known(of_push(result), result)
    kind: Kind = "failed" if meaning.final else "pending"
    id = f"stk:{reference}:{result}"
    return Fact(id=id, reference=reference, kind=kind, payment=payment, code=meaning.code, raw=raw)


# ---- money sent out


def of_payout_result(body: bytes, reference: str, refund: str) -> Sequence[Fact]:
    """The fact of a B2C result, for `refund` of the payment `reference`; none if it is no verdict."""
    said = _part(_json(body), "Result")
    result = result_of(said)
    raw = _raw(said)
    if result != PAID:
        return _unsent(reference, refund, result, _known(of_payout(result), result), raw)
    items = _pairs(said, "ResultParameters", "ResultParameter", "Key")
    receipt = _receipt(items.get("TransactionReceipt") or said.get("TransactionID"))
    at = _time(items.get("TransactionCompletedDateTime"), "%d.%m.%Y %H:%M:%S")
    return [_sent(reference, refund, _amount(items.get("TransactionAmount")), receipt, at, raw)]


def of_payout_status(body: bytes, reference: str, refund: str) -> Sequence[Fact]:
    """The fact of a transaction status result: the very one that the lost B2C result would have told, or none."""
    said = _part(_json(body), "Result")
    raw = _raw(said)
    if result_of(said) != PAID:  # the question failed, which says nothing of the money
        log.warning("mpesa_status_unclear", refund=refund, **raw)
        return []
    items = _pairs(said, "ResultParameters", "ResultParameter", "Key")
    status = str(items.get("TransactionStatus", "")).lower()
    if status == "completed":
        at = _time(items.get("FinalisedTime"), "%Y%m%d%H%M%S")
        receipt = _receipt(items.get("ReceiptNo"))
        return [_sent(reference, refund, _amount(items.get("Amount")), receipt, at, raw)]
    if status in ("failed", "declined", "cancelled", "expired"):
        return _unsent(reference, refund, status, DECLINED, raw)
    log.info("mpesa_status_open", refund=refund, status=status[:40])
    return []


def _sent(reference: str, refund: str, amount: int, receipt: str, at: datetime | None, raw: dict[str, Any]) -> Fact:
    return Fact(
        id=f"b2c:{refund}:{PAID}",
        reference=reference,
        kind="refunded",
        refund=refund,
        amount=amount,
        currency=CURRENCY,
        receipt=receipt,
        at=at,
        raw=raw,
    )


def _unsent(reference: str, refund: str, result: str, meaning: Meaning, raw: dict[str, Any]) -> Sequence[Fact]:
    if not meaning.final:
        return []
    id = f"b2c:{refund}:{result}"
    return [Fact(id=id, reference=reference, kind="refund_failed", refund=refund, code=meaning.code, raw=raw)]


# ---- money that came without being asked for


def of_confirmation(body: bytes) -> Sequence[Fact]:
    """The fact of a C2B confirmation: who pays a bill by hand names an account, which `account` carries."""
    said = _json(body)
    raw = {"TransactionType": str(said.get("TransactionType", ""))[:40]}
    at = _time(said.get("TransTime"), "%Y%m%d%H%M%S")
    return [_came(_text(said.get("TransID"), _RECEIPT), said.get("TransAmount"), said.get("BillRefNumber"), at, raw)]


def of_statement(text: str) -> list[Fact]:
    """The facts of a statement as the M-Pesa portal exports it (CSV): what was paid in, newest or oldest first.

    They have the ids of the confirmations that may have been lost. Raises UnreadableStatement.
    """
    rows = _table(csv.reader(io.StringIO(text)))
    facts = []
    for number, row in enumerate(rows, start=1):
        paid_in = row.get("Paid In", "").replace(",", "").strip()
        if not paid_in or row.get("Transaction Status", "").strip().lower() != "completed":
            continue
        try:
            receipt = _text(row["Receipt No."].strip(), _RECEIPT)
            at = _time(row.get("Completion Time"), "%d-%m-%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S")
            facts.append(_came(receipt, paid_in, row.get("A/C No."), at, {"statement": True}))
        except BadCallback:
            raise UnreadableStatement(reason=f"line {number} after its headings cannot be read") from None
    return facts


def _table(lines: Iterable[list[str]]) -> list[dict[str, str]]:
    """What stands below the line of headings; above it the portal writes what the statement is of."""
    found = iter(lines)
    try:
        for line in found:
            heads = [each.strip() for each in line]
            if "Receipt No." in heads and "Paid In" in heads:
                return [dict(zip(heads, each, strict=False)) for each in found if len(each) >= len(heads)]
    except csv.Error as fault:
        raise UnreadableStatement(reason=str(fault)) from fault
    raise UnreadableStatement(reason="it has no column “Receipt No.”")


def _came(receipt: str, amount: Any, account: Any, at: datetime | None, raw: dict[str, Any]) -> Fact:
    total = _amount(amount)
    if total == 0:
        raise BadCallback
    named = account.strip()[:40] if isinstance(account, str) else ""
    return Fact(
        id=f"c2b:{receipt}",
        reference="",
        kind="captured",
        account=named,
        amount=total,
        currency=CURRENCY,
        receipt=receipt,
        at=at,
        raw=raw,
    )


# ---- reading


def result_of(said: Json) -> str:
    """The ResultCode, which comes as a number or as text. Raises BadCallback if there is none."""
    result = said.get("ResultCode")
    return _text(str(result) if isinstance(result, int) and not isinstance(result, bool) else result, _NUMBER)


def _json(body: bytes) -> Json:
    try:
        said = _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise BadCallback from None
    if not isinstance(said, dict):
        raise BadCallback
    return said


def _part(said: Json, name: str) -> Json:
    part = said.get(name)
    if not isinstance(part, dict):
        raise BadCallback
    return part


def _pairs(said: Json, outer: str, inner: str, key: str) -> dict[str, Any]:
    """The values of `[{"Name": …, "Value": …}, …]` by name. A name that is given two values is BadCallback."""
    holder = said.get(outer)
    items = holder.get(inner) if isinstance(holder, dict) else None
    found: dict[str, Any] = {}
    for item in items if isinstance(items, list) else [items]:
        if not isinstance(item, dict):
            continue
        name = item.get(key)
        if not isinstance(name, str) or item.get("Value") is None:
            continue
        if found.setdefault(name.replace(" ", ""), item["Value"]) != item["Value"]:
            raise BadCallback
    return found


def _amount(value: Any) -> int:
    """Shillings in minor units; 0 if nothing is said. What is no exact sum is BadCallback."""
    if value is None:
        return 0
    if isinstance(value, str) and _SUM.fullmatch(value.strip()):
        value = Decimal(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 < value <= LARGEST:
        raise BadCallback
    exact = Decimal(value)
    if len(exact.as_tuple().digits) > 20 or int(exact.as_tuple().exponent) < -20:
        raise BadCallback
    cents = exact.scaleb(2)
    if cents != cents.to_integral_value():
        raise BadCallback
    return int(cents)


def _receipt(value: Any) -> str:
    return "" if value is None else _text(value, _RECEIPT)


def _text(value: Any, shape: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not shape.fullmatch(value):
        raise BadCallback
    return value


def _time(value: Any, *shapes: str) -> datetime | None:
    """A time of Nairobi's clocks in UTC. None if it cannot be read: it is of use, but nothing hangs on it."""
    for shape in shapes:
        try:
            return datetime.strptime(str(value)[:40], shape).replace(tzinfo=NAIROBI).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    return None


def _known(meaning: Meaning, result: str) -> Meaning:
    if meaning.code == "unclear":
        log.warning("mpesa_result_unheard_of", result=result)
    return meaning


def _raw(said: Json) -> dict[str, Any]:
    names = ("ResultCode", "ResultDesc", "MerchantRequestID", "OriginatorConversationID", "ConversationID")
    return {name: str(said[name])[:200] for name in names if isinstance(said.get(name), str | int)}
