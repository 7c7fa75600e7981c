"""Work without a request: the trash empties itself, old tombstones go, and an erased person's notes with them."""

from msingi.kit.clock import now
from msingi.kit.events import on
from msingi.kit.jobs import cron
from msingi.products.accounts.contract import UserErased
from msingi.products.notes import actions


@cron("23 * * * *")
async def empty_trash() -> None:
    while await actions.empty_trash(now()):
        pass


@cron("41 2 * * *")
async def forget_tombstones() -> None:
    while await actions.forget_tombstones(now()):
        pass


@on(UserErased)
async def erase_notes(event: UserErased) -> None:
    await actions.erase(event.user_id)
