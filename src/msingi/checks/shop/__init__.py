"""The shop suite: docs/contracts/shop*.md, held against a server; a file for each page."""

from msingi.checks.shop import (  # isort: skip  (checks run in this order)
    catalogue,
    cart,
    prices,
    stock,
    checkout,
    orders,
    payments,
    access,
)

__all__ = ["access", "cart", "catalogue", "checkout", "orders", "payments", "prices", "stock"]
