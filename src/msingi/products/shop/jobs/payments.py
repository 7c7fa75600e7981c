"""What is done about payments by the clock. (Asking about those that are not known stands with the orders.)"""

from msingi.kit.jobs import cron
from msingi.products.shop.till import till


@cron("23 3 * * *")
async def forget_raw_facts() -> None:
    """What providers sent is kept word by word for ninety days; what it says is kept for good."""
    await till().forget_raw()
