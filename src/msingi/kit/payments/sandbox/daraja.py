"""A stand-in of Safaricom's Daraja over real HTTP: tokens, prompts, queries, payouts, bills paid by hand, callbacks.

`Daraja` answers below `/mpesa`, so that its address for kit.payments.mpesa is `http://…/mpesa`. It takes any key and
secret that do not begin with `wrong`, and SANDBOX_PASSKEY (`mpesa.in_sandbox` knows all that). What people can try by
hand stands in MAGIC: phone numbers that behave in their own way, and sums of 200,000 shillings and a ResultCode
(201032 is cancelled by the payer).
"""

import asyncio
import random
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from time import monotonic
from typing import Any, TypeVar

import httpx
import structlog

from msingi.kit.payments.mpesa import SANDBOX_PASSKEY
from msingi.kit.payments.sandbox.control import Control, Fault
from msingi.kit.payments.sandbox.daraja_says import (
    WORDS,
    Body,
    Payout,
    Prompt,
    accepted,
    bill,
    nairobi_time,
    new_conversation,
    new_receipt,
    payout_result,
    push_callback,
    query_answer,
    refusal,
    refusing,
    result,
    spoilt,
    status_result,
)
from msingi.kit.payments.sandbox.wire import Reply, Request, json

T = TypeVar("T")
log = structlog.get_logger("daraja")
Handler = Callable[[Request], Awaitable[Reply]]

MOST = 20_000  # prompts, and payouts, that are remembered; the oldest are forgotten first
MOST_TASKS = 20_000
MOST_HELD = 1_000
AT_ONCE = 32  # callbacks under way
DEAREST = 250_000  # shillings
CHEAPEST_PAYOUT = 10
MAGIC_SUM = 200_000
WATCHED = 20.0  # seconds that a phone's page was looked at: so long its person decides
FORBIDDEN = re.compile(
    r"mpesa|m-pesa|safaricom|exec?\b|cmd|sql|query", re.IGNORECASE
)  # in addresses that are registered

# The last two digits of 2547000000XX: what the payer does, and what happens to the callback.
MAGIC: Mapping[str, tuple[Fault, Fault | None, str]] = {
    "01": ({"fault": "ends", "code": "1032"}, None, "cancels"),
    "02": ({"fault": "ends", "code": "1"}, None, "has not enough money"),
    "03": ({"fault": "ends", "code": "2001"}, None, "enters a wrong PIN"),
    "04": ({"fault": "ignores"}, None, "does not look at the phone (1037)"),
    "05": ({"fault": "waits"}, None, "is you: open the page of the phone"),
    "06": ({"fault": "pays"}, {"fault": "lost"}, "pays, and the callback is lost"),
    "07": ({"fault": "pays"}, {"fault": "many", "times": 3}, "pays, and the callback comes three times"),
    "08": ({"fault": "pays"}, {"fault": "late", "seconds": 20}, "pays, and the callback comes 20 seconds later"),
    "09": ({"fault": "pays"}, {"fault": "wrong_amount"}, "pays, and the callback tells a shilling less"),
    "10": ({"fault": "late_pin", "seconds": 5}, None, "enters the PIN after M-Pesa has given up"),
    "11": ({"fault": "pays"}, {"fault": "bare"}, "pays, and the callback has no details"),
}
MAGIC_PUSHES: Mapping[str, Fault] = {  # likewise, for the request
    "12": {"fault": "cut"},
    "13": {"fault": "error"},
    "14": {"fault": "callback_first"},
    "15": {"fault": "limited"},
    "16": {"fault": "late_reply", "seconds": 8},
}


class Kept(OrderedDict[str, T]):
    """What is remembered by id, the newest MOST of it."""

    def keep(self, id: str, value: T) -> None:
        self[id] = value
        if len(self) > MOST:
            self.popitem(last=False)


class No(Exception):
    """Refused, as Daraja says it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.reply = refusal(status, code, message)


class Daraja:
    """One paybill and its customers."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.tasks: set[asyncio.Task[None]] = set()
        self.client = httpx.AsyncClient(timeout=15, trust_env=False, limits=httpx.Limits(max_connections=AT_ONCE))
        self.turns = asyncio.Semaphore(AT_ONCE)  # httpx gets slow when many wait inside of it
        self.forget()

    def forget(self) -> None:
        """Forget all that was asked, and let nothing more follow from it."""
        for task in self.tasks:
            task.cancel()
        self.prompts: Kept[Prompt] = Kept()
        self.open: dict[str, str] = {}  # number → the prompt that its phone shows
        self.payouts: Kept[Payout] = Kept()
        self.tokens: Kept[float] = Kept()
        self.registered: dict[str, str] = {}
        self.held: deque[Callable[[], Awaitable[None]]] = deque(maxlen=MOST_HELD)
        self.paid_in: deque[tuple[str, str, int, str]] = deque(maxlen=MOST)  # receipt, time, shillings, account
        self.watched: Kept[float] = Kept()

    async def aclose(self) -> None:
        """Stop."""
        self.forget()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.client.aclose()

    async def answer(self, request: Request) -> Reply | None:
        """The reply to a request whose path is below `/mpesa`; None if there is nothing there."""
        routes: Mapping[tuple[str, str], tuple[str, Handler]] = {
            ("GET", "/oauth/v1/generate"): ("mpesa.token", self._token),
            ("POST", "/mpesa/stkpush/v1/processrequest"): ("mpesa.push", self._push),
            ("POST", "/mpesa/stkpushquery/v1/query"): ("mpesa.query", self._query),
            ("POST", "/mpesa/b2c/v3/paymentrequest"): ("mpesa.payout", self._pay_out),
            ("POST", "/mpesa/transactionstatus/v1/query"): ("mpesa.status", self._status),
            ("POST", "/mpesa/c2b/v2/registerurl"): ("mpesa.register", self._register),
            ("POST", "/mpesa/c2b/v2/simulate"): ("mpesa.simulate", self._simulate),
        }
        found = routes.get((request.method, request.path))
        if found is None:
            return None
        kind, handler = found
        self.control.asked[kind] += 1
        fault = self.control.take(kind) or self._magic_fault(kind, request)
        try:
            return await self._faulty(fault or {}, kind, handler, request)
        except No as no:
            return no.reply

    # ---- misbehaving

    def _magic_fault(self, kind: str, request: Request) -> Fault | None:
        number = str(request.json().get("PhoneNumber", "")) if kind == "mpesa.push" else ""
        return MAGIC_PUSHES.get(number[-2:]) if number.startswith("2547000000") else None

    async def _faulty(self, fault: Fault, kind: str, handler: Handler, request: Request) -> Reply:
        name = fault.get("fault", "")
        if name == "slow":
            await asyncio.sleep(fault.get("seconds", 1))
        if name in ("error", "limited", "refused", "stale", "in_use", "cut_before"):
            return refusing(name, fault)
        if kind != "mpesa.token":
            self._check_token(request, kind)
        if name == "ends" and kind == "mpesa.query":
            return query_answer(self._prompt(request), str(fault["code"]))
        reply = await handler(request)
        if name == "callback_first":
            await self.decide(self.prompts[_id_in(reply)], "0")
        if name == "late_reply":
            await asyncio.sleep(fault.get("seconds", 1))
        return spoilt(name, reply)

    # ---- what is asked

    async def _token(self, request: Request) -> Reply:
        try:
            scheme, _, packed = request.headers.get("authorization", "").partition(" ")
            key, _, secret = b64decode(packed, validate=True).decode().partition(":")
        except (NotBase64, UnicodeDecodeError):
            raise No(400, "400.008.01", "Invalid Authentication passed") from None
        if scheme != "Basic" or not key or not secret or key.startswith("wrong") or secret.startswith("wrong"):
            raise No(400, "400.008.01", "Invalid Authentication passed")
        token, life = secrets.token_urlsafe(21), self.control.settings.token_life
        self.tokens.keep(token, monotonic() + life)
        return json({"access_token": token, "expires_in": str(int(life))})

    def _check_token(self, request: Request, kind: str) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.tokens.get(token, 0.0) < monotonic():
            code = ("404.001.03", 404) if kind in ("mpesa.push", "mpesa.query") else ("401.002.01", 401)
            raise No(code[1], code[0], "Invalid Access Token")

    async def _push(self, request: Request) -> Reply:
        asked = request.json()
        self._check_push(asked)
        number, settings = str(asked["PhoneNumber"]), self.control.settings
        if settings.one_at_a_time and self.shown(number):
            raise No(500, "500.001.1001", WORDS["1001"])
        prompt = Prompt(
            id=self._new_id(number),
            merchant=f"{secrets.token_hex(2)}-{secrets.randbelow(10**8)}-1",
            number=number,
            amount=int(asked["Amount"]),
            account=str(asked["AccountReference"]),
            shop=str(asked["BusinessShortCode"]),
            callback=str(asked["CallBackURL"]),
            made=monotonic(),
        )
        self.prompts.keep(prompt.id, prompt)
        self.open[number] = prompt.id
        while len(self.open) > MOST:
            self.open.pop(next(iter(self.open)))
        self._later(self._payer(prompt, self.control.take("mpesa.payer") or _magic_payer(prompt)))
        said = "Success. Request accepted for processing"
        return json(
            {
                "MerchantRequestID": prompt.merchant,
                "CheckoutRequestID": prompt.id,
                "ResponseCode": "0",
                "ResponseDescription": said,
                "CustomerMessage": said,
            }
        )

    def _new_id(self, number: str) -> str:
        id = f"ws_CO_{nairobi_time():%d%m%Y%H%M%S}{secrets.randbelow(1000):03d}{number[-9:]}"
        while id in self.prompts:
            id += str(secrets.randbelow(10))
        return id

    def _check_push(self, asked: Body) -> None:
        self._check_password(asked)
        _check(asked, "Amount", r"[1-9][0-9]{0,5}", 1, DEAREST)
        _check(asked, "PhoneNumber", r"254[17][0-9]{8}")
        _check(asked, "PartyA", r"254[17][0-9]{8}")
        _check(asked, "PartyB", r"[0-9]{5,7}")
        _check(asked, "TransactionType", r"CustomerPayBillOnline|CustomerBuyGoodsOnline")
        _check(asked, "AccountReference", r"[A-Za-z0-9 -]{1,12}")
        _check(asked, "TransactionDesc", r"[A-Za-z0-9 -]{1,13}")
        _check(asked, "CallBackURL", r"https?://[^\s]{3,500}")

    def _check_password(self, asked: Body) -> None:
        _check(asked, "BusinessShortCode", r"[0-9]{5,7}")
        _check(asked, "Timestamp", r"20[0-9]{12}")
        proof = f"{asked['BusinessShortCode']}{SANDBOX_PASSKEY}{asked['Timestamp']}".encode()
        if asked.get("Password") != b64encode(proof).decode():
            raise No(500, "500.001.1001", "Wrong credentials")

    async def _query(self, request: Request) -> Reply:
        prompt = self._prompt(request)
        if not prompt.result:
            raise No(500, "500.001.1001", "The transaction is being processed")
        return query_answer(prompt, prompt.result)

    def _prompt(self, request: Request) -> Prompt:
        asked = request.json()
        self._check_password(asked)
        prompt = self.prompts.get(str(asked.get("CheckoutRequestID")))
        if prompt is None:
            raise No(400, "400.002.02", "Bad Request - Invalid CheckoutRequestID")
        return prompt

    # ---- the payer

    async def _payer(self, prompt: Prompt, does: Fault) -> None:
        """What somebody does with a prompt, when its time comes, unless the page of the phone was quicker."""
        settings, name = self.control.settings, does.get("fault", "pays")
        if name in ("ignores", "waits", "late_pin"):
            await asyncio.sleep(settings.expire_after)
            await self.decide(prompt, "1037")
            if name == "late_pin" and prompt.result == "1037":
                await asyncio.sleep(does.get("seconds", 1))
                prompt.result = ""
                await self.decide(prompt, "0")
            return
        await asyncio.sleep(settings.accept_after)
        if self.watched.get(prompt.number, 0.0) > monotonic() - WATCHED:
            await asyncio.sleep(settings.expire_after)
            await self.decide(prompt, "1037")
        else:
            await self.decide(prompt, str(does.get("code", "0")))

    def shown(self, number: str) -> Prompt | None:
        """The prompt that a phone shows."""
        prompt = self.prompts.get(self.open.get(number, ""))
        return prompt if prompt is not None and not prompt.result else None

    def watch(self, number: str) -> None:
        """A person looks at this phone: what it shows next is theirs to decide."""
        self.watched.keep(number, monotonic())

    def press(self, prompt: Prompt, result: str) -> None:
        """A person decided."""
        self._later(self.decide(prompt, result))

    async def decide(self, prompt: Prompt, result: str) -> None:
        """The one end of a prompt, and what is told of it."""
        if prompt.result:
            return
        prompt.result = result
        if self.open.get(prompt.number) == prompt.id:
            del self.open[prompt.number]
        if result == "0":
            prompt.paid_at = nairobi_time()
            prompt.receipt = self._credited(prompt.amount, prompt.account, prompt.paid_at)
            if "ConfirmationURL" in self.registered:
                about = (prompt.amount, prompt.account, prompt.number, prompt.shop)
                confirmation = bill(prompt.receipt, prompt.paid_at, *about)
                self._later(self._send(self.registered["ConfirmationURL"], confirmation, {}))
        fault = self.control.take("mpesa.callback") or _magic_callback(prompt.number) or {}
        await asyncio.sleep(self.control.settings.tell_after)
        await self._send(prompt.callback, push_callback(prompt, fault), fault)

    # ---- money sent out

    async def _pay_out(self, request: Request) -> Reply:
        asked = request.json()
        _check(asked, "OriginatorConversationID", r"[A-Za-z0-9_-]{1,64}")
        if asked["OriginatorConversationID"] in self.payouts:
            raise No(500, "500.002.1001", "Duplicate OriginatorConversationID.")
        _check(asked, "InitiatorName", r".{1,64}")
        _check(asked, "SecurityCredential", r".{1,1000}")
        _check(asked, "CommandID", r"BusinessPayment|SalaryPayment|PromotionPayment")
        _check(asked, "Amount", r"[1-9][0-9]{0,5}", 1, DEAREST)
        _check(asked, "PartyA", r"[0-9]{5,7}")
        _check(asked, "PartyB", r"254[17][0-9]{8}")
        _check(asked, "Remarks", r".{1,100}")
        for name in ("ResultURL", "QueueTimeOutURL"):
            _check(asked, name, r"https?://[^\s]{3,500}")
        payout = Payout(
            id=str(asked["OriginatorConversationID"]),
            conversation=new_conversation(),
            number=str(asked["PartyB"]),
            amount=int(asked["Amount"]),
            result_url=str(asked["ResultURL"]),
            late_url=str(asked["QueueTimeOutURL"]),
        )
        self.payouts.keep(payout.id, payout)
        self._later(self._paying_out(payout, self.control.take("mpesa.result") or {}))
        return accepted(payout.id, payout.conversation)

    async def _paying_out(self, payout: Payout, fault: Fault) -> None:
        await asyncio.sleep(self.control.settings.pay_out_after)
        payout.ended_at = nairobi_time()
        name = fault.get("fault")
        if name == "timed_out":
            payout.result = "0" if fault.get("done") else "1019"
            payout.receipt = new_receipt() if fault.get("done") else ""
            await self._send(payout.late_url, result(payout, "1", "The service request timed out.", {}), {})
            return
        payout.result = str(fault["code"]) if name == "ends" else "2" if payout.amount < CHEAPEST_PAYOUT else "0"
        payout.receipt = new_receipt() if payout.result == "0" else ""
        await self._send(payout.result_url, payout_result(payout, fault), fault)

    async def _status(self, request: Request) -> Reply:
        asked = request.json()
        _check(asked, "Initiator", r".{1,64}")
        _check(asked, "SecurityCredential", r".{1,1000}")
        _check(asked, "CommandID", r"TransactionStatusQuery")
        _check(asked, "PartyA", r"[0-9]{5,7}")
        _check(asked, "IdentifierType", r"[124]")
        for name in ("ResultURL", "QueueTimeOutURL"):
            _check(asked, name, r"https?://[^\s]{3,500}")
        payout = self.payouts.get(str(asked.get("OriginalConversationID")))
        own, fault = new_conversation(), self.control.take("mpesa.status_result") or {}
        body = status_result(payout, own, fault)
        self._later(self._send(str(asked["ResultURL"]), body, fault))
        return accepted(own, own)

    # ---- bills paid by hand

    async def _register(self, request: Request) -> Reply:
        asked = request.json()
        for name in ("ConfirmationURL", "ValidationURL"):
            _check(asked, name, r"https?://[^\s]{3,500}")
            if FORBIDDEN.search(asked[name].partition("://")[2].partition("/")[2]):
                raise No(400, "400.003.02", f"Bad Request - Invalid {name}")
        _check(asked, "ResponseType", r"Completed|Cancelled")
        self.registered = {name: str(asked[name]) for name in ("ConfirmationURL", "ValidationURL")}
        return accepted(new_conversation(), new_conversation())

    async def _simulate(self, request: Request) -> Reply:
        asked = request.json()
        _check(asked, "Amount", r"[1-9][0-9]{0,5}", 1, DEAREST)
        _check(asked, "Msisdn", r"254[17][0-9]{8}")
        _check(asked, "BillRefNumber", r"[^\x00-\x1f]{1,20}")
        self._later(self._paid_by_hand(int(asked["Amount"]), asked["BillRefNumber"], str(asked["Msisdn"])))
        return accepted(new_conversation(), new_conversation())

    async def _paid_by_hand(self, amount: int, account: str, number: str) -> None:
        about = (amount, account, number, "174379")
        asked = bill(new_receipt(), nairobi_time(), *about)
        if "ValidationURL" in self.registered:
            await self._send(self.registered["ValidationURL"], asked, {})
        paid_at = nairobi_time()
        confirmed = bill(self._credited(amount, account, paid_at), paid_at, *about)
        if "ConfirmationURL" in self.registered:
            fault = self.control.take("mpesa.callback") or {}
            await self._send(self.registered["ConfirmationURL"], confirmed, fault)

    def _credited(self, amount: int, account: str, at: datetime) -> str:
        receipt = new_receipt()
        self.paid_in.append((receipt, f"{at:%d-%m-%Y %H:%M:%S}", amount, account))
        return receipt

    def statement(self) -> str:
        """What came in, newest first, as the portal exports it."""
        heads = "Receipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,A/C No."
        lines = [
            f'{receipt},{at},Pay Bill Online,Completed,"{amount:,}.00",,{account}'
            for receipt, at, amount, account in reversed(self.paid_in)
        ]
        return "\r\n".join(["Account Holder:,DUKA", "", heads, *lines, ""])

    # ---- telling

    async def _send(self, url: str, body: Body, fault: Fault) -> None:
        """Send a callback, as the fault wants it."""
        name = fault.get("fault")
        if name == "lost":
            return
        if name == "held":
            self.held.append(lambda: self._post(url, body))
            return
        if name == "late":
            await asyncio.sleep(fault.get("seconds", 1))
        times = int(fault.get("times", 2)) if name == "many" else 1
        await asyncio.gather(*(self._post(url, body) for _ in range(times)))

    async def release(self, order: str) -> int:
        """Send what was held, one after the other; returns how many."""
        held = list(self.held)
        self.held.clear()
        if order == "reversed":
            held.reverse()
        elif order == "shuffled":
            random.shuffle(held)
        for each in held:
            await each()
        return len(held)

    async def _post(self, url: str, body: Body) -> None:
        """Once: Daraja does not try again."""
        status = 0
        try:
            async with self.turns:
                status = (await self.client.post(url, json=body)).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            log.info("daraja_callback_not_taken", fault=type(fault).__name__)
        self.control.told.append({"url": url, "status": status})

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self.tasks) >= MOST_TASKS:
            work.close()
            raise No(500, "500.003.02", "Error Occurred: Spike Arrest Violation")
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("daraja_failed", error=repr(task.exception()))


def _check(asked: Body, name: str, pattern: str, least: int = 0, most: int = 0) -> None:
    value = asked.get(name)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not re.fullmatch(pattern, text) or (most and not least <= _number(text) <= most):
        raise No(400, "400.002.02", f"Bad Request - Invalid {name}")


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal(-1)


def _magic_payer(prompt: Prompt) -> Fault:
    if prompt.number.startswith("2547000000") and prompt.number[-2:] in MAGIC:
        return MAGIC[prompt.number[-2:]][0]
    if prompt.amount > MAGIC_SUM and prompt.amount - MAGIC_SUM < 10_000:
        return {"fault": "ends", "code": str(prompt.amount - MAGIC_SUM)}
    return {"fault": "pays"}


def _magic_callback(number: str) -> Fault | None:
    known = MAGIC.get(number[-2:]) if number.startswith("2547000000") else None
    return known[1] if known else None


def _id_in(reply: Reply) -> str:
    found = re.search(rb'"CheckoutRequestID":"([^"]+)"', reply.body or b"")
    return found[1].decode() if found else ""
