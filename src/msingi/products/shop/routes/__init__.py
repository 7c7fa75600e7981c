"""The shop over HTTP."""

from msingi.products.shop.routes import (
    cart,
    catalogue,
    checkout,
    invoices,
    orders,
    payments,
    pictures,
    pricing,
    reports,
    stock,
    webhooks,
)

routes = [
    *catalogue.routes,
    *pictures.routes,
    *stock.routes,
    *cart.routes,
    *pricing.routes,
    *checkout.routes,
    *orders.routes,
    *invoices.routes,
    *payments.routes,
    *reports.routes,
    *webhooks.routes,
]
