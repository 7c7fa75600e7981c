"""Erasing a person: all of theirs goes in one transaction; what happened remains under an id that is nobody's."""

from typing import Any

from msingi.kit import audit, mail, revocations
from msingi.kit.auth import Actor
from msingi.kit.db import Collection
from msingi.kit.events import emit
from msingi.kit.unit import atomic
from msingi.products.accounts import rules
from msingi.products.accounts.actions import factors, letters, organisations, people
from msingi.products.accounts.contract import UserErased
from msingi.products.accounts.models.api_keys import api_keys
from msingi.products.accounts.models.clients import consents, device_grants
from msingi.products.accounts.models.codes import codes
from msingi.products.accounts.models.defence import doors, known_devices
from msingi.products.accounts.models.exports import exports, parts
from msingi.products.accounts.models.identities import identities
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.models.sessions import sessions
from msingi.products.accounts.models.tickets import tickets

OF_ACCOUNT: list[Collection[Any]] = [
    *(sessions, api_keys, identities, tickets, consents, device_grants, exports, parts, doors, known_devices),
]


@atomic
async def erase(user_id: str, actor: Actor, *, pass_on: bool = False) -> None:
    """Erase a person. With `pass_on` organisations that only they own get another owner.

    Raises NotFound, AboveYou, LastAdmin; LastOwner where others would be left without an owner.
    """
    account = await accounts.get(user_id)
    if user_id != actor.id:
        rules.roles.check_reach(actor, *account.roles)
    if rules.people.is_acting_admin(account):
        await people.let_go(account)
    await organisations.let_go_of(user_id, pass_on=pass_on)
    await factors.forget(user_id)
    await codes.remove_many({"whose": user_id})
    for store in OF_ACCOUNT:
        await store.remove_many({"account": user_id})
    await mail.forget(account.email)
    await accounts.remove(await accounts.get(user_id))
    await revocations.revoke(actor=user_id, below=account.token_version + 1)
    await emit(UserErased(user_id=user_id))
    await audit.note("accounts.user_erased", actor=actor, about=user_id, by_oneself=user_id == actor.id)
    await letters.write("erased", account)
