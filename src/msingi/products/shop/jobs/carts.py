"""Carts without a request: a letter about one that was left, and an end to those of people who are no more."""

import structlog

from msingi.kit.events import on
from msingi.kit.jobs import cron, job
from msingi.kit.mail import BadAddress
from msingi.products.accounts.contract import Person, UserErased, known_people
from msingi.products.shop.actions import carts
from msingi.products.shop.queries.carts import abandoned

log = structlog.get_logger("shop")


@cron("*/10 * * * *")
async def remind_of_carts() -> None:
    """Write to people about carts that they left a day ago. Run twice, or at once, it writes of each once."""
    while found := await abandoned():
        known = await known_people([each.owner_id for each in found if each.owner_id])
        if known is None:
            log.warning("cart_letters_wait", reason="accounts is not running here", waiting=len(found))
            return
        people = {each.id: each for each in known}
        for each in found:
            await _remind(each.id, people.get(each.owner_id or ""))


async def _remind(cart_id: str, person: Person | None) -> None:
    try:
        await carts.remind(cart_id, person)
    except BadAddress:
        await carts.remind(cart_id, None)


@job(retries=10, timeout=120, unique=lambda person: person)
async def forget_shopper(person: str) -> None:
    await carts.forget(person)


@on(UserErased)
async def forget_erased_shopper(event: UserErased) -> None:
    await forget_shopper.later(event.user_id)
