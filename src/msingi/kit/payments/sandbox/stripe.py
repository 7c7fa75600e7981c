"""A stand-in of Stripe over real HTTP: its API for payments, its idempotency, its callbacks, and its bad days.

`StripeSandbox` is an ASGI application for `/stripe`: `/stripe/v1/…` speaks as api.stripe.com does, `/stripe/pay/…` is
a page on which a person decides. It is no part of what is deployed, and all it knows is gone when it stops.
"""

import asyncio
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from html import escape
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from msingi.kit.money import Money, shown
from msingi.kit.payments.sandbox.stripe_bank import (
    ASKS,
    DECLINES,
    DISPUTED,
    GOOD,
    OPEN,
    REFUND_FAILS,
    SLOW,
    VERSION,
    Bank,
    Kept,
    No,
    Thing,
)
from msingi.kit.payments.sandbox.stripe_hooks import Endpoint, Fault, Hooks, Take
from msingi.kit.payments.sandbox.wire import Receive, Reply, Request, Scope, Send, json, page, read, write
from msingi.kit.payments.stripe_facts import ours

Handler = Callable[[str, dict[str, Any]], Thing]
MOST_REPLIES = 5000
LOOK = """<style>
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 3rem auto; padding: 0 1rem; color: #16211b }
.sum { font-size: 2rem; margin: 0 } .no { color: #a00 }
select, button { font: inherit; padding: .5rem; max-width: 100% }
</style>"""
SAVED = ("payment_intent_unexpected_state", "charge_already_refunded")  # refusals that came after the work began


class Refusal(Struct):
    """What an error says."""

    error: dict[str, Any]

    @property
    def code(self) -> str:
        return str(self.error.get("code", ""))


class Saved(Struct):
    """What was answered to an Idempotency-Key; no `reply` yet while it is being done."""

    asked: tuple[str, Mapping[str, Any]]
    reply: Reply | None = None


class StripeSandbox:
    """One account. `take(kind)` gives the next fault that is wanted for a kind, or None.

    Kinds are `create`, `confirm`, `capture`, `cancel`, `refund`, `retrieve`, `list`, `search`, and those of callbacks
    (see Hooks). Faults: `slow` (waits `seconds`, then does it), `slow_after` (does it first), `error` (500, nothing
    done), `error_after` (done, and 500), `unavailable` (503), `cut` (done, and the connection cut), `cut_before`
    (nothing done), `limited` (429), `in_use` (409), `nonsense` (200, and no JSON).
    """

    def __init__(self, take: Take = lambda kind: None) -> None:
        self.take = take
        self.hooks = Hooks(take)
        self.bank = Bank(self.hooks.tell)
        self.saved: OrderedDict[str, Saved] = OrderedDict()
        bank = self.bank
        self.routes: list[tuple[str, str, str, Handler]] = [
            ("POST", r"/v1/payment_intents", "create", lambda _, given: bank.create(given)),
            ("GET", r"/v1/payment_intents", "list", self._list(bank.intents, "/v1/payment_intents")),
            ("GET", r"/v1/payment_intents/search", "search", self._search),
            ("GET", r"/v1/payment_intents/(\w+)", "retrieve", lambda the, _: bank.intents.find(the, "payment_intent")),
            ("POST", r"/v1/payment_intents/(\w+)/confirm", "confirm", bank.confirm),
            ("POST", r"/v1/payment_intents/(\w+)/capture", "capture", bank.capture),
            ("POST", r"/v1/payment_intents/(\w+)/cancel", "cancel", bank.cancel),
            ("POST", r"/v1/refunds", "refund", lambda _, given: bank.refund(given)),
            ("GET", r"/v1/refunds", "list", self._list(bank.refunds, "/v1/refunds")),
            ("GET", r"/v1/refunds/(\w+)", "retrieve", lambda the, _: bank.refunds.find(the, "refund")),
            ("GET", r"/v1/charges/(\w+)", "retrieve", lambda the, _: bank.charges.find(the, "charge")),
            ("GET", r"/v1/disputes", "list", self._list(bank.disputes, "/v1/disputes")),
            ("POST", r"/v1/webhook_endpoints", "listen", self._listen),
            # What Stripe has no address for: what time does, and payers' banks.
            ("POST", r"/v1/sandbox/settle/(\w+)", "settle", lambda the, given: bank.settle(the, _yes(given))),
            ("POST", r"/v1/sandbox/refunds/(\w+)", "settle", lambda the, given: bank.end_refund(the, _yes(given))),
            ("POST", r"/v1/sandbox/disputes/(\w+)", "settle", lambda the, _: bank.dispute(the)),
        ]

    def listen(self, url: str, *keys: str) -> Endpoint:
        """Have callbacks sent to `url`, signed with each of `keys`."""
        return self.hooks.add(url, keys)

    async def aclose(self) -> None:
        await self.hooks.aclose()

    # ---- over HTTP

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = await read(scope, receive)
            path = "/" + request.path.removeprefix("/stripe").strip("/")
            if path.startswith("/pay/"):
                reply = self._page(request, path.removeprefix("/pay/"))
            else:
                text = request.body if request.method == "POST" else scope.get("query_string", b"")
                reply = await self._api(request, path, unflattened(text.decode("utf-8", "replace")))
            await write(reply, send)

    async def _api(self, request: Request, path: str, given: dict[str, Any]) -> Reply:
        account = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not re.fullmatch(r"(sk|rk)_test_\w+", account):
            return _refusal(No(401, "You did not provide an API key of a test account."))
        for verb, pattern, kind, handler in self.routes:
            found = re.fullmatch(pattern, path)
            if found and verb == request.method:
                fault = self.take(kind) or {}
                work = partial(self._done, handler, found[1] if found.groups() else "", given)
                key = request.headers.get("idempotency-key", "") if verb == "POST" else ""
                if key:
                    return await self._once(f"{account} {key}", (path, given), fault, work)
                return (await _faulty(fault, work))[1]
        return _refusal(No(404, f"Unrecognized request URL ({request.method}: {path})."))

    def _done(self, handler: Handler, id: str, given: dict[str, Any]) -> Reply:
        try:
            thing = handler(id, given)
        except No as no:
            return _refusal(no)
        expand = given.get("expand") or []
        return _json(200, self.bank.with_expanded(thing, expand if isinstance(expand, list) else [expand]))

    async def _once(
        self, key: str, asked: tuple[str, Mapping[str, Any]], fault: Fault, work: Callable[[], Reply]
    ) -> Reply:
        """What the key was answered with before, or the work and its answer (docs.stripe.com/api/idempotent_requests).

        A `cut` is the network's: what was answered is remembered whole.
        """
        if len(key) > 300:
            return _refusal(No(400, "Idempotency keys are up to 255 characters long."))
        before = self.saved.get(key)
        if before and before.asked != asked:
            said = "Keys for idempotent requests can only be used with the same parameters they were first used with."
            return _refusal(No(400, said, "idempotency_error"))
        if before:
            if before.reply is None:
                return _in_use()
            return (await _faulty(fault, partial(_again, before.reply)))[1]
        self.saved[key] = Saved(asked)
        if len(self.saved) > MOST_REPLIES:
            self.saved.popitem(last=False)
        kept: Reply | None = None
        try:
            kept, reply = await _faulty(fault, work)
            return reply
        finally:
            if kept:
                self.saved[key] = Saved(asked, kept)
            else:
                self.saved.pop(key, None)

    # ---- what is not the bank's

    def _list(self, kept: Kept, url: str) -> Handler:
        return lambda _, given: self.bank.listed(kept, given, url)

    def _search(self, _: str, given: dict[str, Any]) -> Thing:
        found = re.fullmatch(r"metadata\['(\w+)'\]:'(.+)'", str(given.get("query", "")))
        if not found:
            raise No(400, "We were unable to parse your search query.", param="query")
        name, value = found[1], re.sub(r"\\(.)", r"\1", found[2])
        rows = [row for row in reversed(self.bank.intents.values()) if row["metadata"].get(name) == value]
        told = {"object": "search_result", "url": "/v1/payment_intents/search", "has_more": False, "next_page": None}
        return told | {"data": rows[:100]}

    def _listen(self, _: str, given: dict[str, Any]) -> Thing:
        """As Stripe does; `secret` (one, or several with commas between) may be brought along here."""
        url = str(given.get("url", ""))
        if not url.startswith(("http://", "https://")):
            raise No(400, "Invalid URL", code="url_invalid", param="url")
        keys = [each for each in str(given.get("secret", "")).split(",") if each]
        made = self.hooks.add(url, keys, given.get("enabled_events") or ["*"])
        return {"id": made.id, "object": "webhook_endpoint", "url": url, "secret": made.secrets[0], "status": "enabled"}

    # ---- the page

    def _page(self, request: Request, client_secret: str) -> Reply:
        """Where a person decides: pay with a card, be declined, or walk away."""
        intent = self.bank.intents.get(client_secret.partition("_secret_")[0])
        if intent is None or not secrets.compare_digest(intent["client_secret"].encode(), client_secret.encode()):
            return _html(404, "There is no such payment", "<p>It may have been forgotten when the sandbox stopped.</p>")
        if request.method == "POST":
            self._decide(intent, request.form())
        return _html(200, "Pay in the sandbox", _decision(intent))

    def _decide(self, intent: Thing, form: dict[str, str]) -> None:
        """As Stripe.js would tell it. Whoever says nothing has closed the page."""
        decision, card = form.get("decision", "nothing"), form.get("card", "")
        if decision == "nothing":
            return
        if decision in ("works", "fails"):
            with suppress(No):
                self.bank.settle(intent["id"], decision == "works")
            return
        if decision == "decline" and card not in DECLINES:
            card = "pm_card_chargeDeclined"
        proven = "true" if intent["status"] == "requires_action" else "false"
        self.hooks.silent = decision == "pay_unheard"
        with suppress(No):  # the page shows how it stands
            self.bank.confirm(intent["id"], {"payment_method": card, "proven": proven})
        self.hooks.silent = False


def _decision(intent: Thing) -> str:
    amount = ours(intent["amount"], intent["currency"])
    due = escape(shown(Money(amount, intent["currency"].upper())))
    note = escape(intent["description"] or "")
    said = f"<p class=sum>{due}</p><p>{note}</p><p>Status: <b>{intent['status']}</b></p>"
    if intent["status"] == "requires_action":
        said += "<p>Your bank asks whether it is you. Pay again to say yes.</p>"
    failed = intent["last_payment_error"]
    if failed:
        said += f"<p class=no>{escape(failed['message'])}</p>"
    if intent["status"] == "processing":
        return said + (
            "<form method=post><p>The bank takes days. <button name=decision value=works>It pays</button> "
            "<button name=decision value=fails>It does not</button></p></form>"
        )
    if intent["status"] not in OPEN:
        return said + "<p>You may close this page.</p>"
    cards = "".join(f"<option>{card}</option>" for card in [*GOOD, ASKS, SLOW, DISPUTED, REFUND_FAILS, *DECLINES])
    return said + (
        f"<form method=post><label>Card <select name=card>{cards}</select></label><p>"
        "<button name=decision value=pay>Pay</button> <button name=decision value=decline>Decline</button> "
        "<button name=decision value=pay_unheard>Pay, and lose the callbacks</button> "
        "<button name=decision value=nothing>Say nothing</button></p></form>"
    )


# ---- replies


async def _faulty(fault: Fault, work: Callable[[], Reply]) -> tuple[Reply | None, Reply]:
    """What is remembered of it under its key, and what goes out."""
    name, seconds = fault.get("fault"), float(fault.get("seconds") or 1)
    instead = {
        "unavailable": _error(503),
        "limited": _refusal(No(429, "Too many requests.", code="rate_limit")),
        "in_use": _in_use(),
        "nonsense": page("<html>Welcome to this network</html>"),
        "cut_before": Reply(200, None),
    }
    if name in instead:
        return None, instead[name]
    if name == "error":
        return _error(500), _error(500)
    if name == "slow":
        await asyncio.sleep(seconds)
    reply = work()
    if name == "slow_after":
        await asyncio.sleep(seconds)
    if name == "error_after":
        return _error(500), _error(500)
    return (reply if _is_saved(reply) else None), (Reply(200, None) if name == "cut" else reply)


def unflattened(text: str) -> dict[str, Any]:
    """A form as Stripe reads it: `metadata[a]=1&expand[0]=b&events[]=c` holds a dict and two lists."""
    read: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        outer, bracket, inner = name.partition("[")
        inner = inner.rstrip("]")
        if not bracket:
            read[outer] = value
        elif inner == "" or inner.isdigit():
            _within(read, outer, list).append(value)
        else:
            _within(read, outer, dict)[inner] = value
    return read


def _within(read: dict[str, Any], name: str, kind: type[Any]) -> Any:
    if not isinstance(read.get(name), kind):
        read[name] = kind()
    return read[name]


def _yes(given: Mapping[str, Any]) -> bool:
    return str(given.get("works", "true")) == "true"


def _is_saved(reply: Reply) -> bool:
    """Whether the work had begun: what is refused before that is not remembered."""
    if reply.status < 400 or reply.status == 402:
        return True
    return msgspec.json.decode(reply.body or b"", type=Refusal).code in SAVED


def _json(status: int, thing: Thing) -> Reply:
    return json(thing, status, {"request-id": f"req_{secrets.token_hex(7)}", "stripe-version": VERSION})


def _refusal(no: No) -> Reply:
    return _json(no.status, no.body)


def _error(status: int) -> Reply:
    return _refusal(No(status, "An unknown error occurred.", "api_error"))


def _in_use() -> Reply:
    said = "There is currently another in-progress request using this Idempotency Key."
    return _refusal(No(409, said, "idempotency_error", code="idempotency_key_in_use"))


def _again(reply: Reply) -> Reply:
    return msgspec.structs.replace(reply, headers={**reply.headers, "idempotent-replayed": "true"})


def _html(status: int, title: str, inside: str) -> Reply:
    whole = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title>{LOOK}<h1>{title}</h1>{inside}"
        "<p><small>This is a stand-in of Stripe. No money moves.</small></p>"
    )
    return page(whole, status)
