"""The first page of whoever works in the shop: what they need first, by what they may do."""

from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from functools import partial
from typing import Any
from urllib.parse import urlencode

from babel.dates import format_date
from babel.numbers import format_compact_decimal
from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages, state
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.http import Given, page_at
from msingi.kit.money import LOCALES, decimals
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.pages import wording
from msingi.products.shop.pages.charts import Drawing, Series, drawings
from msingi.products.shop.pages.shell import HOME, STAFF, AnyRequest, money, show
from msingi.products.shop.queries import board, desk, reports
from msingi.products.shop.queries.reports import Funnel, SalesPoint, SalesReport
from msingi.products.shop.rules import charts, spans
from msingi.products.shop.rules.reports import Step
from msingi.products.shop.rules.spans import Span

TOP = 8  # products that are named
ALERTS = 8
STEPS: dict[Step, str] = {"day": "Day", "week": "Week", "month": "Month"}
NAMES: dict[Step, str] = {"day": "d MMM", "week": "d MMM", "month": "MMM y"}
FULL_NAMES: dict[Step, str] = {"day": "EEE d MMM y", "week": "d MMM y", "month": "MMMM y"}
STAGES = {"carts": "Carts", "ordered": "Ordered", "paid": "Paid", "sent": "Sent", "delivered": "Delivered"}


class Tile(Struct, frozen=True):
    """A number that says how much waits, and where it leads to."""

    title: str
    count: int
    path: str
    is_urgent: bool = False


class Row(Struct, frozen=True):
    """One step of the report in the table below the chart."""

    name: str
    point: SalesPoint
    before: int | None


class Stage(Struct, frozen=True):
    """One stage of the funnel: how many came so far, and how many percent of the one before."""

    title: str
    count: int
    share: float
    of_last: int | None


class Sales(Struct, frozen=True):
    """All that is shown of what was sold in a span."""

    report: SalesReport
    span: Span
    preset: str
    currencies: Sequence[str]
    charts: Sequence[Drawing]
    rows: Sequence[Row]
    funnel: Sequence[Stage]
    top: Sequence[tuple[reports.TopProduct, float]]
    average: int
    average_before: int


@page_at(HOME, permission=STAFF)
async def show_dashboard(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """What is to be done, and how it goes. The reports are of the days that are asked for, without any of 30."""
    sees = {
        "reports": actor.may("shop:reports"),
        "orders": actor.may("shop:orders"),
        "sending": actor.may("shop:fulfil"),
        "stock": actor.may("shop:stock"),
        "refunds": actor.may("shop:refund") or actor.may("shop:approve"),
    }
    some_orders = sees["orders"] or sees["sending"]
    sending, short, back, refunds, alerts, sales = await gather(
        _if(some_orders, desk.to_send),
        _if(sees["orders"], desk.short),
        _if(sees["orders"], desk.coming_back),
        _if(sees["refunds"] and sees["orders"], partial(board.waiting, Paging(limit=desk.SHOWN))),
        _if(sees["stock"], reports.stock_alerts),
        _if(sees["reports"], partial(_sales, request)),
    )
    tiles = [
        Tile("Orders to send", sending.count, f"{HOME}/orders?state=confirmed") if sending else None,
        Tile("Paid, but the goods are gone", short.count, f"{HOME}/orders?state=short", True) if short else None,
        Tile("To come back", back.count, f"{HOME}/orders") if back else None,
        Tile("Refunds to approve", len(refunds.items), f"{HOME}/refunds", True) if refunds else None,
        Tile("Low stock", len(alerts), f"{HOME}/stock?low=true") if alerts is not None else None,
    ]
    return show(
        "dashboard",
        request,
        tiles=[each for each in tiles if each],
        sending=sending,
        short=short,
        back=back,
        refunds=refunds.items if refunds else [],
        alerts=alerts[:ALERTS] if alerts is not None else None,
        sales=sales,
        presets=spans.PRESETS,
        steps=STEPS,
        is_stuck=desk.is_stuck,
        waits_since=desk.waits_since,
        reason=lambda text: wording.reason(text, pages.language_of(request)),
        change=charts.change,
        choice=lambda **changed: _choice(sales, changed),
    )


async def _if(is_seen: bool, ask: Callable[[], Awaitable[Any]]) -> Any:
    """What somebody may see; None of what they may not, which is not asked."""
    return await ask() if is_seen else None


# ---- what was sold


async def _sales(request: AnyRequest) -> Sales:
    asked = request.query_params
    sold_in = await reports.currencies()
    usual = sold_in[0] if sold_in else state.part(ShopSettings).currency
    currency = asked.get("currency", "") if asked.get("currency") in sold_in else usual
    span, preset = _span(asked.get("since", ""), asked.get("until", ""), asked.get("span", ""), asked.get("step", ""))
    report, past, top, funnel = await gather(
        reports.sales(span.since, span.until, currency, span.step),
        reports.sales(span.before.since, span.before.until, currency, span.step),
        reports.top_products(span.since, span.until, currency, TOP),
        reports.funnel(span.since, span.until),
    )
    before = _beside(past.points, len(report.points))
    most = max((each.revenue for each in top), default=0)
    return Sales(
        report=report,
        span=span,
        preset=preset,
        currencies=sold_in or [usual],
        charts=_charts(report, before, request),
        rows=[
            Row(_full_name(point.day, span.step, _locale(request)), point, past)
            for point, past in zip(report.points, before, strict=True)
        ],
        funnel=stages(funnel),
        top=[(each, charts.share(each.revenue, most)) for each in top],
        average=_average(report.total),
        average_before=_average(report.before),
    )


def _span(since: str, until: str, preset: str, step: str) -> tuple[Span, str]:
    """The days of the report, and which preset they are; empty: they are somebody's own."""
    today = reports.today()
    found = spans.own(since, until, today)
    name = "" if found else preset if preset in spans.PRESETS else spans.USUAL
    span = found or spans.preset(name, today)
    return (Span(span.since, span.until, spans.finest(span.days, step)), name) if step in STEPS else (span, name)


def _beside(points: Sequence[SalesPoint], count: int) -> list[int | None]:
    """What was before, step by step, the last of it beside the last; None where there is no such step."""
    nets = [each.net for each in points][-count:]
    return [*[None] * (count - len(nets)), *nets]


def _average(point: SalesPoint) -> int:
    return point.net // point.orders if point.orders else 0


def stages(funnel: Funnel) -> list[Stage]:
    """The stages of the funnel as they are drawn."""
    counts = [getattr(funnel, name) for name in STAGES]
    return [
        Stage(
            title,
            count,
            charts.share(count, max(counts)),
            charts.percent(count, counts[number - 1]) if number else None,
        )
        for number, (title, count) in enumerate(zip(STAGES.values(), counts, strict=True))
    ]


def _choice(sales: Sales, changed: dict[str, str]) -> str:
    """The query of this report with another choice."""
    whole = sales.preset
    days = {"span": whole} if whole else {"since": f"{sales.span.since}", "until": f"{sales.span.until}"}
    return urlencode({**days, "currency": sales.report.currency, **changed})


# ---- the chart


def _charts(report: SalesReport, before: Sequence[int | None], request: AnyRequest) -> list[Drawing]:
    locale, unit = _locale(request), 10 ** decimals(report.currency)
    series = Series(
        values=[each.net for each in report.points],
        before=before,
        names=[_name(each.day, report.step, locale) for each in report.points],
        titles=[_tooltip(each, past, report, request) for each, past in zip(report.points, before, strict=True)],
    )
    return drawings(series, unit, lambda tick: format_compact_decimal(tick // unit, locale=locale, fraction_digits=1))


def _tooltip(point: SalesPoint, before: int | None, report: SalesReport, request: AnyRequest) -> str:
    language = pages.language_of(request)

    def said(text: str) -> str:
        return pages.translate(text, language, "shop")

    told = [
        _full_name(point.day, report.step, LOCALES[language]),
        f"{said('Net sales')}: {money(point.net, report.currency, language=language)}",
        f"{said('Orders')}: {point.orders}",
    ]
    if before is not None:
        told.append(f"{said('Before')}: {money(before, report.currency, language=language)}")
    return "\n".join(told)


def _locale(request: AnyRequest) -> str:
    return LOCALES[pages.language_of(request)]


def _name(day: date, step: Step, locale: str) -> str:
    return str(format_date(day, NAMES[step], locale=locale))


def _full_name(day: date, step: Step, locale: str) -> str:
    return str(format_date(day, FULL_NAMES[step], locale=locale))


routes: list[ControllerRouterHandler] = [show_dashboard]
