"""What those who follow an order, or the board of all orders, are told at once."""

from collections.abc import Sequence

from msingi.kit import live
from msingi.products.shop.models.orders import Entry, Order

BOARD = "shop/board"


def topic_of(order_id: str) -> str:
    """Where one order is followed."""
    return f"shop/orders/{order_id}"


async def tell_of(order: Order, said: Sequence[Entry]) -> None:
    """Say what was written into an order's history, once it is committed: to who ordered what they may read of it."""
    for each in said:
        data = {"order_id": order.id, "state": order.state, "version": order.version, "entry": each.kind}
        if each.public:
            await live.tell(topic_of(order.id), "order_changed", data)
        await live.tell(BOARD, "order_changed", {**data, "number": order.number})


async def recheck_of(order_id: str) -> None:
    """Let who follows an order prove anew that they may: it has become nobody's."""
    await live.recheck(topic_of(order_id))


async def tell_placed(order: Order) -> None:
    """Say that there is one more."""
    data = {"order_id": order.id, "state": order.state, "version": order.version, "number": order.number}
    await live.tell(BOARD, "order_placed", data)
