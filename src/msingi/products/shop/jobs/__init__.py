"""Work without a request: the clock, reactions to events, letters."""

from msingi.products.shop.jobs import carts, orders, payments, pictures, stock

MODULES = [carts, orders, payments, pictures, stock]
