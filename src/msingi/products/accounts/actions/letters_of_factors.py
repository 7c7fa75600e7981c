"""The letter that tells somebody what happened to their second factors."""

from typing import Any

from msingi.kit import mail
from msingi.products.accounts.models.people import Account


async def tell(account: Account, what: str, **context: Any) -> None:
    """Write it, in the unit under way. `what` is one of those that the letter has words for."""
    await mail.send(
        "factors_changed",
        to=account.email,
        language=account.language,
        product="accounts",
        name=account.name,
        what=what,
        **context,
    )
