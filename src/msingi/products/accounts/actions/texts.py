"""Text messages cost money: how many go to a number, at the wish of one caller, to a country, and in all.

Whoever earns by messages to numbers of their own (pumping) asks for many of them: all four have their bounds, and
countries that nobody here lives in can be left out.
"""

from datetime import datetime

import structlog

from msingi.kit import limits, mail, sms, state
from msingi.products.accounts.actions.letters import mark_of, refuse_beyond
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.rules.visitors import Visitor

log = structlog.get_logger("accounts")


async def check_caller(visitor: Visitor) -> None:
    """Raise QuotaExceeded (429) for who has had many messages sent lately."""
    await refuse_beyond(f"accounts texts from:{visitor.address}", state.part(AccountsSettings).texts_from_caller)


async def may_text(phone: str) -> bool:
    """Whether one more message may go to this number, to its country, and at all."""
    told = state.part(AccountsSettings)
    country = sms.country_of(phone)
    if told.text_countries and country not in told.text_countries.replace(" ", "").split(","):
        log.info("text_withheld", reason="not to this country", country=country)
        return False
    for key, quota in (
        (f"number:{mark_of(phone)}", told.texts_to_number),
        (f"country:{country}", told.texts_to_country),
        ("all", told.texts_in_all),
    ):
        if not (await limits.take(f"accounts texts to {key}", limits.parse(quota))).allowed:
            log.warning("text_withheld", reason=key.partition(":")[0], country=country)
            return False
    return True


async def write_code(phone: str, digits: str, language: str, until: datetime) -> None:
    """Write the message with a code, which is of no use after `until`."""
    await mail.text("code", to=phone, language=language, product="accounts", until=until, code=digits)
