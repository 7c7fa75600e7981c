"""The shop: goods, carts, orders, and money that is never lost."""
