"""Letters and text messages about an account: to whom, how many in a while, and the links in them."""

from typing import Any
from urllib.parse import urlencode

import structlog

from msingi.kit import limits, mail, sealing, state
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.rules.visitors import Visitor

log = structlog.get_logger("accounts")


def mark_of(address: str) -> str:
    """What stands for an address where it is only compared: without our secret it tells nothing of the address."""
    return sealing.blind("accounts.addresses", address)


def link_to(page: str, secret: str = "") -> str:
    """The address of a page, with a ticket. Its host is the one in the settings, whatever a request says of it."""
    query = f"?{urlencode({'ticket': secret})}" if secret else ""
    return f"{state.settings().base_url}{page}{query}"


async def write(template: str, account: Account, /, *, to: str = "", **context: Any) -> None:
    """Write to the account's address, or to another that is told of it, in its language and by its name."""
    await mail.send(
        template,
        to=to or account.email,
        language=account.language,
        product="accounts",
        name=account.name,
        **context,
    )


async def may_write_to(address: str) -> bool:
    """Whether one more letter may go there: nobody's box is filled by strangers who ask for letters to it."""
    quota = limits.parse(state.part(AccountsSettings).letters_to_address)
    taken = await limits.take(f"accounts letters to:{mark_of(address)}", quota)
    if not taken.allowed:
        log.info("letter_withheld", reason="many went there lately")
    return taken.allowed


async def check_caller(visitor: Visitor) -> None:
    """Raise QuotaExceeded (429) for who has had letters written to many addresses lately."""
    await refuse_beyond(f"accounts letters from:{visitor.address}", state.part(AccountsSettings).letters_from_caller)


async def refuse_beyond(key: str, limit: str) -> None:
    """Raise QuotaExceeded (429) when more was asked under a key than a limit such as `5/hour` allows."""
    await limits.check(key, [limits.parse(limit)])
