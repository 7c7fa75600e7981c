"""What is stored."""

from typing import Any

from msingi.kit.db import Collection
from msingi.products.shop.models.carts import carts
from msingi.products.shop.models.catalogue import categories, products, synonyms
from msingi.products.shop.models.credit_notes import credit_notes
from msingi.products.shop.models.orders import invoices, orders
from msingi.products.shop.models.pictures import pictures
from msingi.products.shop.models.pricing import coupons, personal_uses, shipping_methods, tax_rates
from msingi.products.shop.models.reports import product_days, sales, sales_days, sheets
from msingi.products.shop.models.stock import locations, movements, stocks

STORES: list[Collection[Any]] = [
    products,
    categories,
    synonyms,
    pictures,
    locations,
    stocks,
    movements,
    carts,
    coupons,
    personal_uses,
    tax_rates,
    shipping_methods,
    orders,
    invoices,
    credit_notes,
    sales,
    sales_days,
    product_days,
    sheets,
]
