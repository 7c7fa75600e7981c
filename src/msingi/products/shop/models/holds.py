"""Things set aside for an order until some time, as the database computes with them: by its own clock.

A hold has an `order_id` and an `until`. One that has ended counts for nothing even while it is still written there.
"""

from typing import Any

Expression = dict[str, Any]


def live(holds: str, but: str = "") -> Expression:
    """Those of a field (`"$holds"`) that have not ended, without those of the order `but`."""
    lives: Expression = {"$gt": ["$$this.until", "$$NOW"]}
    others: Expression = {"$ne": ["$$this.order_id", {"$literal": but}]}
    return {"$filter": {"input": holds, "cond": {"$and": [others, lives]} if but else lives}}


def until_in(seconds: int) -> Expression:
    """So many seconds from now."""
    return {"$add": ["$$NOW", seconds * 1000]}
