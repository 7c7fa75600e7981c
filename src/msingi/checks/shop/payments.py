"""docs/contracts/shop.md: money that comes, comes twice, comes late or does not come; and what nobody sent."""

import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

from msingi.checks import rules
from msingi.checks.harness import Answer, Caller, Skipped, World, check, fresh, need_of_all, together, until
from msingi.checks.shop.market import (
    CARDS,
    LEDGER,
    MOBILE,
    REASON,
    SHOP,
    Buyer,
    Order,
    common,
    counts,
    known,
    new_good,
    ways,
)

PHONE = "+254711223344"
CANCELS, LOSES, TELLS_LESS = "+254700000001", "+254700000006", "+254700000009"  # what happens, in the sandbox
GOOD_CARD, BAD_CARD = "pm_card_visa", "pm_card_chargeDeclined"
SOON = 15.0  # seconds until what a provider told has become true
LATER = 45.0  # and what it did not tell


# ---- what a payer does, at the sandbox


def bank(world: World) -> Caller:
    """The stand-in of the payment providers."""
    if not world.sandbox:
        raise Skipped("needs the payment sandbox that the server asks for money: --sandbox URL")
    return known(world, "bank", lambda: _quick(world, Caller(world.http, world.sandbox)))


def _quick(world: World, there: Caller) -> Caller:
    """People there enter their PIN at once, for as long as the checks run."""
    before = there.get("/control").want(200).data["settings"]
    world.at_the_end.append(lambda: there.post("/control", {"settings": before}))
    there.post("/control", {"settings": {"accept_after": 0.3}}).want(200)
    return there


def by_phone(phone: str = PHONE) -> dict[str, str]:
    return {"provider": "mpesa", "phone": phone}


def order_by(world: World, way: dict[str, str], quantity: int = 1) -> Order:
    """A new order for something that does not run out, to be paid in this way."""
    need_way(world, way["provider"])
    return Buyer(world).order(common(world), quantity, pay=way)


def need_way(world: World, provider: str) -> None:
    bank(world)
    if provider not in ways(world):
        raise Skipped(f"this server does not offer {provider}")


def decide(world: World, order: Order, decision: str, card: str = GOOD_CARD) -> Answer:
    """What the payer of the order's last payment does on the page of the card provider."""
    action = order.seen().data["payments"][-1]["action"]
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    content = urlencode({"decision": decision, "card": card}).encode()
    return bank(world).post(f"/stripe/pay/{action['client_secret']}", content=content, headers=headers).want(200)


def becomes(order: Order, state: str, seconds: float = SOON) -> Answer:
    """The order, once it is in this state."""
    return until(lambda: order.ask("GET"), lambda seen: seen.data.get("state") == state, f"the state {state}", seconds)


def is_paid_once(order: Order, answer: Answer) -> None:
    """All of the total came in, and no more."""
    total = answer.data["totals"]["total"]
    answer.need(answer.data["paid"] == total, f"paid: {total}")
    answer.need(sum(each["captured"] for each in answer.data["payments"]) == total, f"captured payments of {total}")
    lines = order.ask("GET", "/timeline?language=en").want(200)
    kinds = [each["kind"] for each in lines.data["items"]]
    lines.need(kinds.count("confirmed") == kinds.count("money_received") == 1, "money received once, confirmed once")


def lost(world: World) -> Order:
    """An order that is paid by a phone whose callback is lost; begun early, since it is long to wait for."""
    return known(world, "lost", lambda: order_by(world, by_phone(LOSES)))


# ---- what nobody sent


@check("C8: a card event that the provider did not sign is refused, and pays nothing", part=CARDS)
def _(world: World) -> None:
    if world.sandbox:
        lost(world)
    order = Buyer(world).order(common(world))
    payment = order.seen().data["payments"][0]
    event = {
        "id": fresh("evt_"),
        "object": "event",
        "type": "payment_intent.succeeded",
        "data": {"object": {"object": "payment_intent", "metadata": {"payment": payment["id"]}, "status": "succeeded"}},
    }
    body, at = json.dumps(event).encode(), int(time.time())
    forged = [
        f"t={when},v1={hmac.new(key, f'{when}.'.encode() + body, hashlib.sha256).hexdigest()}"
        for key, when in ((b"whsec_guess", at), (b"", at), (b"whsec_guess", at - 3600))
    ]
    for signature in ("", "nonsense", f"t={at}", f"t={at},v1=", f"t={at},v1={'0' * 64}", "t=x,v1=x", *forged):
        headers = {"Stripe-Signature": signature} if signature else {}
        answer = world.nobody.post(f"{SHOP}/callbacks/cards", content=body, headers=headers)
        answer.problem(400, 401, 403)
        rules.has_no_leaks(answer)
    seen = order.seen()
    seen.need((seen.data["state"], seen.data["paid"]) == ("awaiting_payment", 0), "nothing paid by what nobody sent")


@check("C8: a callback to an address that was not made for a payment is refused, and pays nothing", part=MOBILE)
def _(world: World) -> None:
    order = Buyer(world).order(common(world))
    payment = order.seen().data["payments"][0]
    told = {"MerchantRequestID": "x", "CheckoutRequestID": fresh("ws_CO_"), "ResultCode": 0, "ResultDesc": "Done"}
    items = [{"Name": "Amount", "Value": 720.0}, {"Name": "MpesaReceiptNumber", "Value": "QWE1234567"}]
    body = {"Body": {"stkCallback": {**told, "CallbackMetadata": {"Item": items}}}}
    for address in ("x", payment["id"], f"{payment['id']}.{'0' * 64}", "..%2f", "%00", "x" * 300):
        answer = world.nobody.post(f"{SHOP}/callbacks/mobile/{address}", body)
        answer.problem(400, 401, 403, 404, 414)
        rules.has_no_leaks(answer)
    seen = order.seen()
    seen.need((seen.data["state"], seen.data["paid"]) == ("awaiting_payment", 0), "nothing paid by what nobody sent")


@check("Whatever comes to the callbacks, nothing answers 500")
def _(world: World) -> None:
    for path in ("cards", "mobile/x", "mobile/" + "y" * 64):
        for content in (*rules.NOT_JSON, b"", b"null", b"[]", b"7", b'{"Body": null}', b"\x00" * 1000):
            headers = {"Content-Type": "application/json", "Stripe-Signature": "t=1,v1=00"}
            answer = world.nobody.post(f"{SHOP}/callbacks/{path}", content=content, headers=headers)
            answer.problem(400, 401, 403, 404, 413, 415, 422)
            rules.has_no_leaks(answer)


# ---- money that comes


@check("An order that is paid by M-Pesa is confirmed, with a receipt and an invoice")
def _(world: World) -> None:
    order = order_by(world, by_phone(), 3)
    answer = becomes(order, "confirmed")
    is_paid_once(order, answer)
    answer.need(bool(answer.data["payments"][0]["receipt"]), "the provider's receipt number")
    numbered = until(lambda: order.ask("GET"), lambda seen: bool(seen.data.get("invoice")), "an invoice", SOON)
    invoice = order.ask("GET", "/invoice").want(200)
    told = invoice.fields("number", "issued_at", "seller", "lines", "totals", "taxes", "paid")
    invoice.need(told["number"] == numbered.data["invoice"], "the number that the order names")
    taxes = sum(each["amount"] for each in told["taxes"])
    invoice.need(taxes == told["totals"]["tax"], "taxes by kind that add up to all tax")


@check("An order that is paid by card is confirmed")
def _(world: World) -> None:
    order = order_by(world, {"provider": "stripe"}, 2)
    waiting = order.seen()
    waiting.need(waiting.data["state"] == "awaiting_payment", "awaiting_payment until the payer decides")
    decide(world, order, "pay")
    is_paid_once(order, becomes(order, "confirmed"))
    order.ask("POST", "/payments", {"provider": "stripe"}).problem(409)


@check("P1: what is paid is allocated once, and held no more")
def _(world: World) -> None:
    need_way(world, "mpesa")
    good = new_good(world, stock=4)
    order = Buyer(world).order(good, 3, pay=by_phone())
    becomes(order, "confirmed")
    now = counts(world, good)
    told = tuple(now.data[name] for name in ("on_hand", "allocated", "held", "available"))
    now.need(told == (4, 3, 0, 1), "4 on hand, 3 allocated, none held, 1 available")


@check("C9: a callback that comes 50 times at once counts once", hint="keep each fact under an id of its own, once")
def _(world: World) -> None:
    need_way(world, "mpesa")
    bank(world).post("/control", {"faults": {"mpesa.callback": [{"fault": "many", "times": 50}]}}).want(200)
    order = order_by(world, by_phone())
    is_paid_once(order, becomes(order, "confirmed"))
    until(lambda: bank(world).get("/control"), _all_told, "all 50 callbacks told", SOON)
    seen = order.seen()
    is_paid_once(order, seen)
    seen.need(
        (seen.data["state"], seen.data["refunded"]) == ("confirmed", 0), "confirmed, and nothing to be given back"
    )


def _all_told(seen: Answer) -> bool:
    """Whether the last 50 callbacks went to one address, and were all taken."""
    told: list[dict[str, Any]] = seen.data["told"][-50:]
    return len(told) == 50 and len({each["url"] for each in told}) == 1


@check("P2: who pays less than the total has not paid", hint="compare what came with what was asked for")
def _(world: World) -> None:
    order = order_by(world, by_phone(TELLS_LESS))
    total = order.made["totals"]["total"]
    answer = until(lambda: order.ask("GET"), lambda seen: seen.data.get("paid", 0) > 0, "what came as paid", SOON)
    answer.need(answer.data["paid"] == total - 100, f"paid: {total - 100}, a shilling less than the total")
    answer.need(answer.data["state"] == "awaiting_payment", "not confirmed: awaiting_payment, for the rest")


@check("A payment that is declined can be tried again, in another way")
def _(world: World) -> None:
    order = order_by(world, by_phone(CANCELS))

    def failed(seen: Answer) -> bool:
        return bool(seen.data["payments"][0]["state"] == "failed")

    answer = until(lambda: order.ask("GET"), failed, "the payment failed", SOON)
    answer.need(answer.data["state"] == "awaiting_payment", "awaiting_payment: the goods are still held")
    answer.need(answer.data["payments"][0]["code"] != "", "a code that says why")
    again = order.ask("POST", "/payments", {"provider": "stripe"}).want(201)
    again.need(len(again.data["payments"]) == 2, "a second payment")
    decide(world, order, "decline", BAD_CARD)
    time.sleep(0.3)
    order.seen().need(order.seen().data["state"] == "awaiting_payment", "awaiting_payment after a declined card")
    decide(world, order, "pay")
    is_paid_once(order, becomes(order, "confirmed"))


@check("A way to pay that there is none of, or that does not fit, is refused and costs nothing")
def _(world: World) -> None:
    order = order_by(world, {"provider": "stripe"})
    wrong: tuple[dict[str, object], ...] = (
        {"provider": "cowries"},
        {"provider": ""},
        {"provider": 7},
        {"provider": "mpesa", "phone": "07"},
        {"provider": "stripe", "amount": 1},
        {"provider": "stripe", "state": "captured"},
        {},
    )
    for form in wrong:
        order.ask("POST", "/payments", form).problem(422)
    path = f"{SHOP}/orders/{order.id}/payments"
    order.buyer.caller.post(path, {"provider": "stripe"}, headers=order.headers).problem(
        400, code="idempotency_key_missing"
    )
    order.seen().need(len(order.seen().data["payments"]) == 1, "one payment, as before")


@check("Twenty who pay one order again at once with one key open one payment")
def _(world: World) -> None:
    order = order_by(world, {"provider": "stripe"})
    path, headers = f"{SHOP}/orders/{order.id}/payments", {"Idempotency-Key": fresh("key-"), **order.headers}
    caller = order.buyer.caller
    answers = together(*[lambda: caller.post(path, {"provider": "stripe"}, headers=headers)] * 20)
    need_of_all(answers, {each.status for each in answers} <= {201, 409}, "201, or 409 while it is under way")
    order.seen().need(len(order.seen().data["payments"]) == 2, "one more payment than before")


@check("An order that was paid and is cancelled is paid back, once")
def _(world: World) -> None:
    order = order_by(world, by_phone())
    total = order.made["totals"]["total"]
    becomes(order, "confirmed")
    order.cancel().want(200)
    answer = until(lambda: order.ask("GET"), lambda seen: seen.data["refunded"] > 0, "the money on its way", LATER)
    answer.need(answer.data["refunded"] == total, f"refunded: {total}, all of it and no more")
    answer.need(len(answer.data["refunds"]) == 1, "one refund")


@check("A refund that somebody asks for waits for another person, and never exceeds what came in")
def _(world: World) -> None:
    order = order_by(world, by_phone())
    total = order.made["totals"]["total"]
    becomes(order, "confirmed")
    admin = world.admin
    for form in ({"amount": 0, **REASON}, {"amount": "100", **REASON}, {"amount": 100}, {"amount": -100, **REASON}):
        order.ask("POST", "/refunds", form, caller=admin).problem(422)
    order.ask("POST", "/refunds", {"amount": total + 100, **REASON}, caller=admin).problem(409)
    asks = [lambda: order.ask("POST", "/refunds", {"amount": total, **REASON}, caller=admin)] * 5
    answers = together(*asks)
    statuses = [each.status for each in answers]
    need_of_all(answers, (statuses.count(201), statuses.count(409)) == (1, 4), "1 × 201, 4 × 409")
    refund = next(each.data for each in answers if each.status == 201)
    approval = f"/refunds/{refund['id']}/approval"
    order.ask("PUT", approval, caller=admin).problem(403, code="another_person_decides")
    order.ask("PUT", approval, caller=world.eve).problem(403, 404)
    order.seen().need(order.seen().data["refunded"] == 0, "nothing paid back before somebody else agreed")
    owner = with_role(world, "shop_owner")
    order.ask("PUT", approval, caller=owner).want(200)
    order.ask("PUT", approval, caller=owner).want(200, 409, should="200 for who approved it before, or 409")
    order.ask("DELETE", approval, caller=owner).problem(409, code="not_waiting")
    answer = until(lambda: order.ask("GET"), lambda seen: seen.data["refunded"] > 0, "the money on its way", LATER)
    answer.need(answer.data["refunded"] == total, f"refunded: {total}")


def with_role(world: World, role: str) -> Caller:
    """Somebody new whom an admin gave a role."""
    person = world.person("Staff")
    path = f"/v1/accounts/users/{person.id}"
    world.admin.patch(path, {"roles": ["user", role]}).want(200)
    world.at_the_end.append(lambda: world.admin.patch(path, {"roles": ["user"]}))
    return world.known(person.email, person.password)


@check("C9: a payment whose callback is lost is asked about, and becomes paid")
def _(world: World) -> None:
    bank(world)
    order = lost(world)
    is_paid_once(order, becomes(order, "confirmed", LATER))


@check("P3: the ledger adds up to nothing in each currency", part=LEDGER)
def _(world: World) -> None:
    answer = world.admin.get(f"{SHOP}/ledger").want(200)
    sums: dict[str, int] = {}
    for each in answer.data:
        answer.need(type(each["amount"]) is int, "whole minor units")
        sums[each["currency"]] = sums.get(each["currency"], 0) + each["amount"]
    answer.need(not any(sums.values()), f"0 in each currency, not {sums}")
    world.ann.get(f"{SHOP}/ledger").problem(403)
