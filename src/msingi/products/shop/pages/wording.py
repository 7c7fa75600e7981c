"""Orders in words for those who work on them: what state everything is in, and what happened."""

from collections.abc import Mapping

from msingi.kit import pages
from msingi.kit.errors import Problem
from msingi.kit.money import Money, shown
from msingi.kit.payments.problems import NotWaiting, RefundTooHigh
from msingi.products.shop.models.orders import Entry, Order, State
from msingi.products.shop.rules import orders as rules

ORDERS: dict[State, str] = {
    "awaiting_payment": "Awaiting payment",
    "confirmed": "To be sent",
    "partly_shipped": "Partly sent",
    "short": "Short: paid, goods gone",
    "shipped": "On the way",
    "delivered": "Delivered",
    "cancelled": "Cancelled",
    "expired": "Not paid in time",
}
PAYMENTS = {
    "new": "Being opened",
    "pending": "The payer is asked",
    "authorised": "Set aside by the bank",
    "captured": "Paid",
    "failed": "Failed",
    "voided": "Given up",
    "unknown": "Nobody knows yet",
}
REFUNDS = {
    "waiting": "Waits for approval",
    "approved": "Approved, about to be sent",
    "sent": "Sent, not confirmed yet",
    "unknown": "Nobody knows yet",
    "done": "Paid back",
    "failed": "Failed: ask for another",
    "refused": "Not approved",
}
RETURNS = {
    "asked": "Asked for",
    "approved": "Approved, on its way back",
    "refused": "Refused",
    "received": "Back here",
}
PROVIDERS = {"mpesa": "M-Pesa", "stripe": "Card"}
HISTORY = {
    "placed": "Ordered.",
    "payment_asked": "Asked to pay {amount}: {provider}.",
    "money_received": "{amount} came in.",
    "confirmed": "Paid, and the goods are set aside.",
    "short": "Paid, but the goods were gone.",
    "expired": "Not paid in time; the goods are on sale again.",
    "cancelled": "Cancelled: {reason}",
    "rest_cancelled": "What was not sent is cancelled, {amount} goes back: {reason}",
    "shipped": "{count} of {all} sent. {carrier}",
    "delivered": "Delivered: the receiver's code was right.",
    "delivered_without_code": "Counts as delivered without the code: {reason}",
    "return_asked": "{count} shall come back.",
    "return_approved": "The return is approved.",
    "return_refused": "The return is refused: {reason}",
    "return_received": "What was sent back is here; {amount} goes back.",
    "refund_asked": "{amount} is to be paid back: {reason}",
    "refunded": "{amount} was paid back.",
    "refund_failed": "{amount} could not be paid back ({code}).",
    "wrong_delivery_code": "A wrong delivery code was shown.",
    "anonymised": "Who ordered it is forgotten.",
}
# How states look: what came out well, what needs a person's thought, and what waits for a person's hands.
GOOD = frozenset({"delivered", "captured", "done", "received"})
BAD = frozenset({"short", "failed", "unknown"})
TO_DO = frozenset({"confirmed", "partly_shipped", "asked", "waiting"})


def told(entry: Entry, currency: str, language: str) -> str:
    """A line of the history, as staff read it; as everybody does, where there are no words for them."""
    if entry.kind not in HISTORY:
        return rules.text_of(entry, currency, language)
    said = rules.Blank(entry.details)
    if "amount" in said:
        said["amount"] = shown(Money(int(said["amount"]), currency), language)
    if "reason" in said:
        said["reason"] = reason(said["reason"], language)
    if "provider" in said:
        said["provider"] = pages.translate(PROVIDERS.get(said["provider"], said["provider"]), language, "shop")
    text = pages.translate(HISTORY[entry.kind], language, "shop")
    return text.format_map(said).strip()


def reason(text: str, language: str) -> str:
    """Why money goes back: in a person's words as they are, in the house's own by the reader's language."""
    kind, _, id = text.partition(" ")
    if kind == "Return" and len(id) > 20 and " " not in id:
        return pages.translate("For what came back", language, "shop")
    return pages.translate(text, language, "shop")


def who(id: str, order: Order, names: Mapping[str, str], language: str) -> str:
    """Who did something; empty for what the house did by itself."""
    if id == rules.HOUSE:
        return pages.translate("the shop itself", language, "shop")
    if id and id == order.customer_id:
        return pages.translate("the buyer", language, "shop")
    return names.get(id, id)


def in_words(problem: Problem, order: Order, language: str) -> Problem:
    """The same problem, with the words of the page where it names a state, a line or a sum."""
    said = dict(problem.details)
    if isinstance(problem, (rules.NothingToRefund, RefundTooHigh)):
        return rules.NothingToRefund(left=shown(Money(said["left"], order.currency), language))
    if isinstance(problem, (rules.NotThere, rules.NotReturnable)):
        line = next(each for each in order.lines if each.id == said["line_id"])
        return type(problem)(**said | {"line_id": line.sku})
    if isinstance(problem, rules.NotInThisState):
        return rules.NotInThisState(state=ORDERS.get(said["state"], said["state"]))
    if isinstance(problem, rules.ReturnDecided):
        return rules.ReturnDecided(state=RETURNS[said["state"]], wanted=RETURNS[said["wanted"]])
    if isinstance(problem, NotWaiting):
        return NotWaiting(state=REFUNDS[said["state"]])
    return problem
