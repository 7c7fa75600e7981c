"""What the staff's pages share: the places at their side, what came of the last form, and how figures are written."""

from collections.abc import Iterator
from datetime import date, datetime
from fractions import Fraction
from functools import partial
from typing import Any

from babel import Locale
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal
from litestar import Request, Response
from msgspec import Struct

from msingi.kit import audit, pages
from msingi.kit.actors import Actor
from msingi.kit.errors import Problem
from msingi.kit.money import LOCALES, Money, decimals, rounded, shown
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.queries.sales import zone

AnyRequest = Request[Any, Any, Any]
HOME = "/shop/admin"
STAFF = "shop:read"
# Where one can go, and what that takes: one of these permissions.
PLACES: list[tuple[str, str, tuple[str, ...]]] = [
    ("/shop/admin", "Overview", (STAFF,)),
    ("/shop/admin/orders", "Orders", ("shop:orders", "shop:fulfil")),
    ("/shop/admin/refunds", "Refunds", ("shop:refund", "shop:approve")),
    ("/shop/admin/stock", "Stock", (STAFF,)),
    ("/shop/admin/import", "Import", ("shop:catalogue",)),
    ("/shop/admin/exports", "Exports", ("shop:reports",)),
    ("/shop/admin/webhooks", "Webhooks", ("shop:webhooks",)),
]
# What a page says of the form that led to it: `/shop/admin/stock?done=received`.
DONE = {
    "counted": "It is noted.",
    "moved": "It is moved.",
    "export_asked": "It is being written. It stands below.",
    "order_cancelled": "It is cancelled.",
    "order_delivered": "It has arrived.",
    "order_filled": "It is filled, and can be sent.",
    "order_sent": "It is on its way.",
    "received": "It is there.",
    "pinged": "It is sent. What became of it stands below.",
    "payment_asked": "The provider was asked. What it says stands below.",
    "refund_approved": "It is approved, and on its way back.",
    "refund_asked": "It is asked for. Another person has to approve it.",
    "refund_refused": "It is not approved.",
    "return_asked": "The return is noted.",
    "return_decided": "It is decided.",
    "return_received": "It is back. Its part of the money follows.",
    "saved": "Saved.",
    "sent_again": "It is sent again. What became of it stands below.",
    "webhook_removed": "It is told no more.",
}
# What the fields of forms are called in the labels before them.
FIELDS: dict[str, str] = {
    "amount": "Amount",
    "carrier": "Carrier",
    "code": "Code of the receiver",
    "events": "Is told of",
    "counted": "How many lie there",
    "lines": "Articles",
    "low_at": "Alert at",
    "note": "Note",
    "overlap_hours": "Hours",
    "quantity": "Quantity",
    "reason": "Reason",
    "since": "From",
    "sure": "Yes",
    "to": "To which place",
    "tracking": "Tracking number",
    "until": "Until",
    "url": "Address",
}


class Nothing(Struct):
    """A form with nothing but its token."""


def show(name: str, request: AnyRequest, problem: Problem | None = None, **context: Any) -> Response[str]:
    """The page of `templates/<name>.html`, which extends `shop/frame.html`; with a problem, what went wrong.

    Beside the context, templates write with `money(amount, currency)`, `about(amount, currency)`, `number(count)`,
    `day(date)`, `when(datetime)` and `named(words)`, in the reader's language and by the clock of the shop.
    """
    if problem is not None:  # it was caught on its way to where refusals are noted
        audit.refused(request.scope, problem)
    language = pages.language_of(request)
    here = request.scope["path"]
    return pages.page(
        f"shop/{name}.html",
        request,
        status=problem.status if problem else 200,
        side=places_of(request.user),
        place=max((path for path, _, _ in PLACES if f"{here}/".startswith(f"{path}/")), key=len, default=""),
        problem=problem,
        faults=[*faults_of(problem, language)],
        done=DONE.get(request.query_params.get("done", "")),
        **_writing(language),
        **context,
    )


def show_to_anybody(name: str, request: AnyRequest, **context: Any) -> Response[str]:
    """A page that stands alone, for whoever opens it: without the staff's places, but with how figures are written."""
    return pages.page(f"shop/{name}.html", request, **_writing(pages.language_of(request)), **context)


def _writing(language: str) -> dict[str, Any]:
    return {each.__name__: partial(each, language=language) for each in (money, about, number, day, when, named)}


def places_of(actor: Actor) -> list[tuple[str, str]]:
    """Where somebody may go: the path, and its name."""
    return [(path, title) for path, title, needs in PLACES if any(map(actor.may, needs))]


def faults_of(problem: Problem | None, language: str) -> Iterator[tuple[str, str]]:
    """What is wrong with which field of the form, as a person says it."""
    for error in problem.details.get("errors", []) if problem else []:
        field = error["pointer"].strip("/").partition("/")[0]
        yield pages.translate(FIELDS.get(field, ""), language, "shop"), plain(error["message"], language)


def plain(message: str, language: str) -> str:
    """What is wrong with a value, as a person says it."""
    if "`" in message:
        message = "This is required" if message.endswith("of length >= 1") else "This will not do"
    return pages.translate(message, language, "shop")


# ---- how figures are written


def money(amount: int, currency: str, *, language: str = "en") -> str:
    """An amount in minor units, as people of the language write it."""
    return shown(Money(amount, currency), language)


def about(amount: int, currency: str, *, language: str = "en") -> str:
    """An amount in minor units without them, for where there is no room and no need: `Ksh1,299`."""
    locale = Locale.parse(LOCALES[language])
    whole = rounded(Fraction(amount, 10 ** decimals(currency)))
    pattern = locale.currency_formats["standard"].pattern.replace(".00", "")
    return str(format_currency(whole, currency, pattern, locale=locale, currency_digits=False))


def number(count: int, *, language: str = "en") -> str:
    """`12,345`."""
    return str(format_decimal(count, locale=LOCALES[language]))


def day(at: date | datetime, *, language: str = "en") -> str:
    """`21 Nov 2026`, by the clock of the shop."""
    on = at.astimezone(zone()).date() if isinstance(at, datetime) else at
    return str(format_date(on, "medium", locale=LOCALES[language]))


def when(at: datetime, *, language: str = "en") -> str:
    """`21 Nov 2026, 14:05`, by the clock of the shop."""
    return str(format_datetime(at.astimezone(zone()), "d MMM y, HH:mm", locale=LOCALES[language]))


def named(words: Words, *, language: str = "en") -> str:
    """A text of the catalogue: in English where Swahili is missing."""
    return words.said_in(language)
