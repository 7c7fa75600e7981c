"""Every route of the shop against nobody, a member and an admin: the tables of `access/`, which lack no route."""

from importlib import import_module
from pkgutil import iter_modules

from msingi.kit.testing import access_table
from msingi.products.shop.product import product
from msingi.products.shop.tests import access

parts = [import_module(f"{access.__name__}.{each.name}") for each in iter_modules(access.__path__)]

test_access = access_table(
    product,
    "nobody  ann  admin\n" + "\n".join(part.TABLE for part in parts),
    body={route: sent for part in parts for route, sent in part.BODY.items()},
)
