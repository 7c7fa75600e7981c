"""Pages for those who work in the shop."""

from litestar.types import ControllerRouterHandler

from msingi.kit import pages
from msingi.products.shop.pages import board, dashboard, invoices, order, refunds, sheets, stock, webhooks

page_routes: list[ControllerRouterHandler] = [
    *dashboard.routes,
    *board.routes,
    *order.routes,
    *refunds.routes,
    *invoices.routes,
    *stock.routes,
    *sheets.routes,
    *webhooks.routes,
    pages.static("shop"),
]
