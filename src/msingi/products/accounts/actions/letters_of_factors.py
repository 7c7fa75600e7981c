"""The letter that tells somebody what happened to their second factors."""

from typing import Any

from msingi.products.accounts.actions import letters
from msingi.products.accounts.models.people import Account


async def tell(account: Account, what: str, **context: Any) -> None:
    """Write it, in the unit under way. `what` is one of those that the letter has words for."""
    await letters.write("factors_changed", account, what=what, **context)
