"""What the stand-in of Daraja says: refusals, callbacks and results, spelt as Safaricom spells them."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from msgspec import Struct

from msingi.kit import clock
from msingi.kit.payments.mpesa_facts import NAIROBI
from msingi.kit.payments.sandbox.control import Fault
from msingi.kit.payments.sandbox.wire import Reply, json

Body = dict[str, Any]

WORDS: Mapping[str, str] = {
    "0": "The service request is processed successfully.",
    "1": "The balance is insufficient for the transaction.",
    "2": "Declined due to limit rule: less than the minimum transaction amount.",
    "1001": "Unable to lock subscriber, a transaction is already in process for the current subscriber.",
    "1032": "Request cancelled by user",
    "1037": "DS timeout user cannot be reached",
    "2001": "The initiator information is invalid.",
}


class Prompt(Struct):
    """A push: what was asked, and what became of it (`result` is empty while the payer has it)."""

    id: str
    merchant: str
    number: str
    amount: int
    account: str
    shop: str
    callback: str
    made: float
    result: str = ""
    receipt: str = ""
    paid_at: datetime | None = None


class Payout(Struct):
    """Money sent out."""

    id: str
    conversation: str
    number: str
    amount: int
    result_url: str
    late_url: str
    result: str = ""
    receipt: str = ""
    ended_at: datetime | None = None


def refusal(status: int, code: str, message: str) -> Reply:
    """Daraja's way to say no."""
    return json({"requestId": secrets.token_hex(8), "errorCode": code, "errorMessage": message}, status)


def refusing(name: str, fault: Fault) -> Reply:
    """The reply of a fault by which nothing is done."""
    if name == "cut_before":
        return Reply(200, None)
    status, code, message = {
        "error": (500, "500.001.1001", "System internal error."),
        "limited": (429, "500.003.02", "Error Occurred: Spike Arrest Violation"),
        "refused": (400, "400.002.02", "Bad Request - Invalid Amount"),
        "stale": (401, "401.002.01", "Error Occurred - Invalid Access Token"),
        "in_use": (500, "500.001.1001", WORDS["1001"]),
    }[name]
    return refusal(fault.get("status", status), fault.get("code", code), fault.get("message", message))


def spoilt(name: str, reply: Reply) -> Reply:
    """The reply of a fault by which it is done, but who asked does not learn of it."""
    if name == "cut":
        return Reply(200, None)
    if name == "error_after":
        return refusal(500, "500.001.1001", "System internal error.")
    if name == "nonsense":
        return Reply(200, b"<html><body>The service is unavailable</body></html>", "text/html")
    return reply


def push_callback(prompt: Prompt, fault: Fault) -> Body:
    """What the callback of a push says."""
    told: Body = {
        "MerchantRequestID": prompt.merchant,
        "CheckoutRequestID": prompt.id,
        "ResultCode": int(prompt.result) if prompt.result.isdigit() else prompt.result,
        "ResultDesc": WORDS.get(prompt.result, "The transaction did not succeed."),
    }
    if prompt.result == "0" and fault.get("fault") != "bare":
        wrong = fault.get("amount", prompt.amount - 1) if fault.get("fault") == "wrong_amount" else None
        told["CallbackMetadata"] = {
            "Item": [
                {"Name": "Amount", "Value": float(prompt.amount if wrong is None else wrong)},
                {"Name": "MpesaReceiptNumber", "Value": prompt.receipt},
                {"Name": "Balance"},
                {"Name": "TransactionDate", "Value": int(f"{prompt.paid_at:%Y%m%d%H%M%S}")},
                {"Name": "PhoneNumber", "Value": int(prompt.number)},
            ]
        }
    return {"Body": {"stkCallback": told}}


def payout_result(payout: Payout, fault: Fault) -> Body:
    """What the result of a payout says."""
    details: Body = {}
    if payout.result == "0" and fault.get("fault") != "bare":
        wrong = fault.get("amount", payout.amount - 1) if fault.get("fault") == "wrong_amount" else None
        details = {
            "TransactionReceipt": payout.receipt,
            "TransactionAmount": payout.amount if wrong is None else wrong,
            "B2CChargesPaidAccountAvailableFunds": -495,
            "B2CRecipientIsRegisteredCustomer": "Y",
            "TransactionCompletedDateTime": f"{payout.ended_at:%d.%m.%Y %H:%M:%S}",
            "ReceiverPartyPublicName": f"{payout.number} - Amani Otieno",
        }
    return result(payout, payout.result, WORDS.get(payout.result, "The transaction did not succeed."), details)


def status_result(payout: Payout | None, own: str, fault: Fault) -> Body:
    """What the result of a transaction status query says; `own` is the query's conversation."""
    about = Payout(own, own, "", 0, "", "")
    if payout is None:
        return result(about, "2032", "The transaction does not exist.", {})
    status = {"0": "Completed", "": "Pending"}.get(payout.result, "Failed")
    details: Body = {"TransactionStatus": status, "Originator Conversation ID": payout.id}
    if status == "Completed" and fault.get("fault") != "bare":
        wrong = fault.get("amount", payout.amount - 1) if fault.get("fault") == "wrong_amount" else None
        more: Body = {"Amount": payout.amount if wrong is None else wrong, "ReceiptNo": payout.receipt}
        details |= {**more, "FinalisedTime": int(f"{payout.ended_at:%Y%m%d%H%M%S}")}
    return result(about, "0", WORDS["0"], details)


def result(about: Payout, code: str, words: str, details: Body) -> Body:
    """A result, with `details` as its parameters."""
    told: Body = {
        "ResultType": 0,
        "ResultCode": int(code) if code.isdigit() else code,
        "ResultDesc": words,
        "OriginatorConversationID": about.id,
        "ConversationID": about.conversation,
        "TransactionID": about.receipt or new_receipt(),
        "ReferenceData": {"ReferenceItem": {"Key": "QueueTimeoutURL", "Value": "https://daraja.test/late"}},
    }
    if details:
        pairs = [{"Key": key, "Value": value} for key, value in details.items()]
        told["ResultParameters"] = {"ResultParameter": pairs}
    return {"Result": told}


def bill(receipt: str, at: datetime, amount: int, account: str, number: str, shop: str) -> Body:
    """What a C2B validation and a confirmation say."""
    return {
        "TransactionType": "Pay Bill",
        "TransID": receipt,
        "TransTime": f"{at:%Y%m%d%H%M%S}",
        "TransAmount": f"{amount}.00",
        "BusinessShortCode": shop,
        "BillRefNumber": account,
        "InvoiceNumber": "",
        "OrgAccountBalance": "",
        "ThirdPartyTransID": "",
        "MSISDN": sha256(number.encode()).hexdigest(),  # they hide it
        "FirstName": "AMANI",
    }


def query_answer(prompt: Prompt, result: str) -> Reply:
    """What a query answers about a prompt that ended so."""
    return json(
        {
            "ResponseCode": "0",
            "ResponseDescription": "The service request has been accepted successsfully",  # as they spell it
            "MerchantRequestID": prompt.merchant,
            "CheckoutRequestID": prompt.id,
            "ResultCode": result,
            "ResultDesc": WORDS.get(result, "The transaction did not succeed."),
        }
    )


def accepted(originator: str, conversation: str) -> Reply:
    """The reply to whatever is done later."""
    return json(
        {
            "OriginatorConversationID": originator,
            "ConversationID": conversation,
            "ResponseCode": "0",
            "ResponseDescription": "Accept the service request successfully.",
        }
    )


def new_receipt() -> str:
    """As M-Pesa numbers movements of money."""
    return "S" + "".join(secrets.choice("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789") for _ in range(9))


def new_conversation() -> str:
    """As M-Pesa numbers its conversations."""
    return f"AG_{nairobi_time():%Y%m%d}_{secrets.token_hex(10)}"


def nairobi_time() -> datetime:
    """The time on M-Pesa's clocks."""
    return clock.now().astimezone(NAIROBI)
