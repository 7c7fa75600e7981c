"""Work without a request: the clock, reactions to events, letters."""

from msingi.products.shop.jobs import carts, orders, payments, pictures, reports, stock, webhooks

MODULES = [carts, orders, payments, pictures, reports, stock, webhooks]
