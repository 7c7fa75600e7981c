"""M-Pesa as a provider of payments, over Safaricom's Daraja: a prompt on the payer's phone, and money sent back.

It takes money at once, so nothing can be set aside or voided. Its callbacks bear no signature: each goes to an address
of its own that proves for which payment it was made. A prompt has no idempotency key and no name of ours: when the
answer to it is lost, only the callback can tell of it.
"""

import asyncio
import hmac
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from time import monotonic
from typing import Any

import msgspec
import phonenumbers
import structlog

from msingi.kit import clock, fetch
from msingi.kit.payments import mpesa_facts as facts_of
from msingi.kit.payments.face import Asked, BadCallback, Begun, Fact, Refunding, Refused, Unknown
from msingi.kit.payments.mpesa_codes import text_of

log = structlog.get_logger("mpesa")

SHILLING = 100  # minor units: there are no cents in M-Pesa
MOST = 250_000 * SHILLING  # Safaricom's limit for one payment
WITHIN = 25.0  # seconds that a call may take with all its tries
EARLY = 60.0  # seconds before its end that a token is renewed
OWN_LIFE = 3000.0  # seconds that a token lives if they do not say
MAC = 32  # letters

TOKEN = "/oauth/v1/generate?grant_type=client_credentials"  # noqa: S105  (an address)
PUSH = "/mpesa/stkpush/v1/processrequest"
QUERY = "/mpesa/stkpushquery/v1/query"
PAYOUT = "/mpesa/b2c/v3/paymentrequest"
STATUS = "/mpesa/transactionstatus/v1/query"
REGISTER = "/mpesa/c2b/v2/registerurl"

BAD_TOKEN = frozenset({"401.002.01", "401.003.01", "404.001.03"})
TOO_FAST = frozenset({"500.003.02", "500.003.03"})  # spike arrest, quota
IN_PROGRESS = "500.001.1001"  # also stands for other things, told apart by their words only


SANDBOX_PASSKEY = "sandbox-passkey"  # of the stand-in, see sandbox/daraja.py


class NotAsked(Exception):
    """It is certain that nothing was asked of M-Pesa; `why` is one of our codes."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Answer:
    """What Daraja replied: the members of its JSON, and what can be concluded from it."""

    def __init__(self, reply: fetch.Reply) -> None:
        self.status = reply.status
        try:
            self.said: Mapping[str, Any] = msgspec.json.decode(reply.body, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            self.said = {}
        self.fault = str(self.said.get("errorCode", ""))
        self.message = str(self.said.get("errorMessage") or self.said.get("ResponseDescription", ""))[:200]

    @property
    def taken(self) -> bool:
        """They have it."""
        return self.status == 200 and str(self.said.get("ResponseCode")) == "0"

    @property
    def bad_token(self) -> bool:
        return self.status == 401 or self.fault in BAD_TOKEN

    @property
    def twice(self) -> bool:
        """They have had it before."""
        return "duplicate" in self.message.lower()

    @property
    def refusal(self) -> str:
        """One of our codes, if it is certain that they did nothing; else empty."""
        message = self.message.lower()
        if self.status == 429 or self.fault in TOO_FAST:
            return "busy"
        if "lock subscriber" in message:
            return "phone_in_use"
        if self.status in (400, 403, 404, 405):
            return "not_registered" if "phonenumber" in message.replace(" ", "") else "not_set_up"
        if any(each in message for each in ("merchant does not exist", "wrong credentials", "no apiproduct")):
            return "not_set_up"
        return "not_set_up" if self.status == 200 and self.said.get("ResponseCode") not in (None, "0", 0) else ""


class MPesa:
    """A paybill at Daraja, or a stand-in of it at another `url`.

    `callbacks` is the address at which callbacks are heard; one segment is added to it (see `address`). Safaricom takes
    no address that contains its own words: `mpesa`, `safaricom`, `query`. `credential` is the initiator's password,
    sealed for Safaricom; without it no money can be sent back.
    """

    name = "mpesa"

    def __init__(
        self,
        *,
        url: str,
        key: str,
        secret: str,
        passkey: str,
        shortcode: str,
        callbacks: str,
        callback_secret: str,
        initiator: str = "",
        credential: str = "",
    ) -> None:
        if not callback_secret:
            raise ValueError("without a secret anybody could make up callbacks")
        self.url, self.callbacks = url.rstrip("/"), callbacks.rstrip("/")
        self.shortcode, self.passkey = shortcode, passkey
        self.initiator, self.credential = initiator, credential
        self._basic = "Basic " + b64encode(f"{key}:{secret}".encode()).decode()
        self._callback_secret = callback_secret.encode()
        self._token, self._token_until = "", 0.0
        self._fetching_token = asyncio.Lock()

    def takes(self, amount: int, currency: str) -> bool:
        """Whole shillings, from 1 to 250,000."""
        return currency == "KES" and amount % SHILLING == 0 and SHILLING <= amount <= MOST

    async def begin(self, asked: Asked) -> Begun:
        """Send a prompt to the payer's phone. Asked twice, the phone would ring twice: do not, after Unknown."""
        if not asked.capture:
            raise _refused("takes_at_once")
        phone = self._checked(asked.amount, asked.currency, asked.phone)
        wanted = {
            **self._signed(),
            "TransactionType": "CustomerPayBillOnline",
            "Amount": asked.amount // SHILLING,
            "PartyA": phone,
            "PartyB": self.shortcode,
            "PhoneNumber": phone,
            "CallBackURL": self.address("push", asked.id, asked.callback),
            "AccountReference": account_of(asked.note, asked.id),
            "TransactionDesc": plain(asked.note, 13) or "Payment",
        }
        try:
            answer = await self._post(PUSH, wanted)
        except NotAsked as no:
            raise _refused(no.why) from no
        reference = answer.said.get("CheckoutRequestID")
        if answer.taken and isinstance(reference, str) and reference:
            return Begun(reference=reference, action={"kind": "prompt", "phone": f"…{phone[-3:]}"})
        raise self._refused_or_unknown(PUSH, answer)

    def rung(self, phone: str) -> str:
        """The number that a prompt would go to. Raises Refused."""
        return phone_of(phone)

    async def ask(self, reference: str) -> Sequence[Fact]:
        """What became of a prompt. Never Refused: that M-Pesa does not know it (any more) proves nothing."""
        try:
            answer = await self._post(QUERY, {**self._signed(), "CheckoutRequestID": reference})
        except NotAsked as no:
            raise Unknown(f"not asked: {no.why}") from no
        if "ResultCode" in answer.said:
            try:
                return facts_of.of_push_query(answer.said, reference, clock.now())
            except BadCallback:
                raise self._unknown(QUERY, answer) from None
        if answer.fault == IN_PROGRESS and "process" in answer.message.lower():
            return [facts_of.still_open(reference)]
        raise self._unknown(QUERY, answer)

    async def find(self, id: str) -> str | None:
        """Nobody can tell: M-Pesa keeps no id of ours."""
        raise Unknown("M-Pesa cannot be asked by our id; its callback will tell")

    async def capture(self, reference: str, amount: int, currency: str) -> Sequence[Fact]:
        """Refused: it is taken already, or it never was."""
        raise _refused("takes_at_once")

    async def void(self, reference: str) -> Sequence[Fact]:
        """Refused: a prompt cannot be called back, and what was paid can only be sent back."""
        raise _refused("cannot_void")

    async def refund(self, refunding: Refunding) -> Sequence[Fact]:
        """Send money back. No facts: the result comes to `hear`. The same refund asked for twice is sent once.

        Refused only for what would be refused each time; whatever may pass is Unknown, to be asked for again.
        """
        if not self.credential:
            raise _refused("not_set_up")
        phone = self._checked(refunding.amount, refunding.currency, refunding.phone)
        wanted = {
            **self._initiated("BusinessPayment", refunding, "payout"),
            "OriginatorConversationID": refunding.id,
            "InitiatorName": self.initiator,
            "Amount": refunding.amount // SHILLING,
            "PartyA": self.shortcode,
            "PartyB": phone,
            "Occassion": "",  # they spell it so
        }
        answer = await self._asked(PAYOUT, wanted)
        if answer.taken:
            return []
        if answer.twice:
            return await self.ask_refund(refunding)
        # Only what is wrong with the request itself is wrong each time: an earlier try may have gone through.
        sure = answer.status == 400 and answer.fault
        raise self._refused_or_unknown(PAYOUT, answer) if sure else self._unknown(PAYOUT, answer)

    async def ask_refund(self, refunding: Refunding) -> Sequence[Fact]:
        """Ask what became of money sent back. No facts: the answer comes to `hear`."""
        wanted = {
            **self._initiated("TransactionStatusQuery", refunding, "status"),
            "Initiator": self.initiator,
            "OriginalConversationID": refunding.id,
            "PartyA": self.shortcode,
            "IdentifierType": "4",
            "Occasion": "",
        }
        answer = await self._asked(STATUS, wanted)
        if not answer.taken:
            raise self._unknown(STATUS, answer)
        return []

    def hear(self, headers: Mapping[str, str], body: bytes, secret: str) -> Sequence[Fact]:
        """The facts of a callback; `secret` is the last segment of the address that it came to."""
        place, value = self._opened(secret)
        reference, _, refund = value.partition(".")
        reading: Mapping[str, Callable[[], Sequence[Fact]]] = {
            "push": lambda: facts_of.of_push_callback(body, value),
            "payout": lambda: facts_of.of_payout_result(body, reference, refund),
            "status": lambda: facts_of.of_payout_status(body, reference, refund),
            "paid": lambda: facts_of.of_confirmation(body),
            "late": lambda: _timed_out(refund),
            "check": lambda: [],  # C2B validation: whoever pays a bill by hand is let pay
        }
        if place not in reading:
            raise BadCallback
        return reading[place]()

    async def register(self) -> None:
        """Tell Daraja where to tell of bills that are paid by hand; needed once. Raises Refused, Unknown."""
        wanted = {
            "ShortCode": self.shortcode,
            "ResponseType": "Completed",
            "ConfirmationURL": self.address("paid", self.shortcode),
            "ValidationURL": self.address("check", self.shortcode),
        }
        answer = await self._asked(REGISTER, wanted)
        if not answer.taken:
            raise self._refused_or_unknown(REGISTER, answer)

    # ---- addresses that prove what they are for

    def address(self, place: str, value: str, base: str = "") -> str:
        """Where M-Pesa tells of one thing: `<callbacks>/<place>.<value>.<mac>`. Who learns it can forge that only."""
        return f"{base.rstrip('/') or self.callbacks}/{place}.{value}.{self._mac(place, value)}"

    def _opened(self, segment: str) -> tuple[str, str]:
        named, _, mac = segment.rpartition(".")
        place, _, value = named.partition(".")
        if not hmac.compare_digest(self._mac(place, value).encode(), mac.encode()):
            raise BadCallback
        return place, value

    def _mac(self, place: str, value: str) -> str:
        return hmac.new(self._callback_secret, f"{place}.{value}".encode(), sha256).hexdigest()[:MAC]

    # ---- what is sent

    def _checked(self, amount: int, currency: str, phone: str) -> str:
        if not self.takes(amount, currency):
            raise _refused("invalid_amount")
        return phone_of(phone)

    def _signed(self) -> dict[str, Any]:
        at = clock.now().astimezone(facts_of.NAIROBI).strftime("%Y%m%d%H%M%S")
        password = b64encode(f"{self.shortcode}{self.passkey}{at}".encode()).decode()
        return {"BusinessShortCode": self.shortcode, "Password": password, "Timestamp": at}

    def _initiated(self, command: str, refunding: Refunding, place: str) -> dict[str, Any]:
        about = f"{refunding.reference}.{refunding.id}"
        return {
            "SecurityCredential": self.credential,
            "CommandID": command,
            "Remarks": plain(refunding.reason, 100) or "Refund",
            "QueueTimeOutURL": self.address("late", about),
            "ResultURL": self.address(place, about),
        }

    async def _asked(self, path: str, wanted: Mapping[str, Any]) -> Answer:
        try:
            return await self._post(path, wanted)
        except NotAsked as no:
            raise Unknown(f"not asked: {no.why}") from no

    async def _post(self, path: str, wanted: Mapping[str, Any]) -> Answer:
        """Ask Daraja, with a new token if it does not take ours. Raises NotAsked, Unknown."""
        answer = await self._with_token(path, wanted)
        if answer.bad_token:
            answer = await self._with_token(path, wanted)
        if answer.bad_token:
            log.error("mpesa_does_not_know_us", path=path, fault=answer.fault)
            raise NotAsked("not_set_up")
        return answer

    async def _with_token(self, path: str, wanted: Mapping[str, Any]) -> Answer:
        token = await self._fresh_token()
        headers = {"authorization": f"Bearer {token}"}
        asking = fetch.post(self.url + path, json=wanted, headers=headers, within=WITHIN)
        answer = Answer(await _answered(asking))
        if answer.bad_token and token == self._token:
            self._token = ""
        return answer

    async def _fresh_token(self) -> str:
        """This process's token. Many who need a new one wait for one question."""
        if self._token and monotonic() < self._token_until:
            return self._token
        async with self._fetching_token:
            if not self._token or monotonic() >= self._token_until:
                self._token, life = await self._new_token()
                self._token_until = monotonic() + max(life - EARLY, life / 2)
            return self._token

    async def _new_token(self) -> tuple[str, float]:
        headers = {"authorization": self._basic}
        try:
            answer = Answer(await _answered(fetch.get(self.url + TOKEN, headers=headers, within=WITHIN)))
        except Unknown as fault:  # no money moves by asking for a token
            raise NotAsked("busy") from fault
        token = answer.said.get("access_token")
        if answer.status == 200 and isinstance(token, str) and token:
            return token, _seconds(answer.said.get("expires_in"))
        known = answer.status in (400, 401, 403)
        log.error("mpesa_gave_no_token", status=answer.status, fault=answer.fault)
        raise NotAsked("not_set_up" if known else "busy")

    # ---- what is made of what comes back

    def _refused_or_unknown(self, path: str, answer: Answer) -> Exception:
        if not answer.refusal:
            return self._unknown(path, answer)
        log.warning("mpesa_refused", path=path, status=answer.status, fault=answer.fault, message=answer.message)
        return _refused(answer.refusal)

    def _unknown(self, path: str, answer: Answer) -> Unknown:
        log.warning("mpesa_answer_unclear", path=path, status=answer.status, fault=answer.fault, message=answer.message)
        return Unknown(f"HTTP {answer.status} {answer.fault}".strip())


def in_sandbox(url: str, *, callbacks: str, callback_secret: str) -> MPesa:
    """The provider with an account at the stand-in of Daraja: `url` is that of the sandbox, as http://localhost:8100."""
    return MPesa(
        url=f"{url.rstrip('/')}/mpesa",
        key="sandbox",
        secret="sandbox",  # noqa: S106
        passkey=SANDBOX_PASSKEY,
        shortcode="174379",
        callbacks=callbacks,
        callback_secret=callback_secret,
        initiator="sandbox",
        credential="sandbox",
    )


async def _answered(asking: Awaitable[fetch.Reply]) -> fetch.Reply:
    try:
        return await asking
    except fetch.Unreachable as fault:
        if fetch.never_sent(fault):
            raise NotAsked("busy") from fault
        log.warning("mpesa_gave_no_answer", reason=str(fault.details["reason"]))
        raise Unknown(str(fault)) from fault
    except fetch.ReplyTooLarge as fault:
        raise Unknown(str(fault)) from fault


def phone_of(text: str) -> str:
    """A Kenyan mobile's number as Daraja writes it, `254712345678`. Raises Refused."""
    try:
        found = phonenumbers.parse(text[:32], "KE")
    except phonenumbers.NumberParseException:
        raise _refused("no_kenyan_mobile") from None
    number = phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)
    valid = phonenumbers.is_valid_number_for_region(found, "KE") and not found.extension
    if not valid or not re.fullmatch(r"\+254[17][0-9]{8}", number):
        raise _refused("no_kenyan_mobile")
    return number[1:]


def account_of(note: str, id: str) -> str:
    """The account that the prompt names, of 12 letters at most: the number that ends the note, as `MS-4F7K`."""
    words: list[str] = re.findall(r"[A-Za-z0-9-]+", note)
    return (words[-1] if words else id)[-12:]


def plain(text: str, length: int) -> str:
    """Letters, digits, spaces and dashes only: requests with other signs have been dropped without a word."""
    return re.sub(r"[^A-Za-z0-9 -]+", " ", text)[:length].strip()


def _timed_out(refund: str) -> Sequence[Fact]:
    log.warning(
        "mpesa_payout_waited_too_long", refund=refund
    )  # in their queue: whether it is still done, they do not say
    return []


def _seconds(given: Any) -> float:
    """How long a token lives; it comes as text."""
    return float(given) if isinstance(given, str | int) and str(given).isdigit() else OWN_LIFE


def _refused(why: str) -> Refused:
    return Refused(reason=text_of(why), why=why)
