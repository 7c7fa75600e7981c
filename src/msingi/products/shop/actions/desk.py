"""What staff do at a page is done to what they see there, and once however often the form is sent."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from msingi.kit.errors import Stale
from msingi.kit.unit import atomic
from msingi.products.shop.models.orders import orders
from msingi.products.shop.models.stock import stocks

R = TypeVar("R")


@atomic
async def on_what_was_seen(order_id: str, version: int, act: Callable[[], Awaitable[R]]) -> R:
    """Do it, if the order is still the one that was seen. `act` changes the order, in the same transaction.

    So of a form that is sent twice, one at a time or both at once, the second is refused. Raises Stale.
    """
    order = await orders.get(order_id)
    if order.version != version:
        raise Stale
    return await act()


@atomic
async def on_stock_as_seen(stock: str, on_hand: int, act: Callable[[], Awaitable[R]]) -> R:
    """The same, if as many lie there as were seen; none where there is no such stock. `act` changes how many.

    Buyers who have some of it held or pay for it meanwhile are in nobody's way: what lies there stays. Raises Stale.
    """
    found = await stocks.find({"_id": stock})
    if (found.on_hand if found else 0) != on_hand:
        raise Stale
    return await act()
