"""Work without a request: the clock, reactions to events, letters."""

from msingi.products.shop.jobs import carts, catalogue, orders, payments, pictures, reports, stock, webhooks

MODULES = [carts, catalogue, orders, payments, pictures, reports, stock, webhooks]
