"""The shop over HTTP."""

from msingi.products.shop.routes import cart, catalogue, checkout, orders, payments, pictures, pricing, stock

routes = [
    *catalogue.routes,
    *pictures.routes,
    *stock.routes,
    *cart.routes,
    *pricing.routes,
    *checkout.routes,
    *orders.routes,
    *payments.routes,
]
