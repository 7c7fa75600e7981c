"""Goods by the clock: how well they sell."""

from msingi.kit.jobs import cron
from msingi.products.shop.actions.catalogue import rank_by_sold


@cron("* * * * *")
async def follow_what_is_sold() -> None:
    """Sort goods by what was sold of them until now. First pages by it are kept for four minutes, whatever was sold."""
    await rank_by_sold()
