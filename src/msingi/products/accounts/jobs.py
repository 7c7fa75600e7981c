"""Work without a request: keys that sign tokens are renewed in time, letters follow what happened to an account."""

from msingi.kit.events import on
from msingi.kit.jobs import cron, job
from msingi.products.accounts import queries
from msingi.products.accounts.actions import api_keys, organisations, resets, signing_keys, verification
from msingi.products.accounts.actions.arrivals import answer
from msingi.products.accounts.actions.exports import put_together
from msingi.products.accounts.contract import OrganisationRemoved, PasswordChanged, UserRegistered

__all__ = ["answer", "put_together"]


@cron("17 * * * *")
async def renew_signing_key() -> None:
    await signing_keys.renew()


@cron("7 * * * *")
async def warn_of_keys_that_end() -> None:
    await api_keys.warn()


@on(UserRegistered)
async def have_address_verified(event: UserRegistered) -> None:
    await verification.ask(await queries.people.account_by_id(event.user_id))


@on(PasswordChanged)
async def tell_of_new_password(event: PasswordChanged) -> None:
    account = await queries.people.account_by_id(event.user_id)
    if account is not None:
        await resets.tell_of_new_password(account)


@job(retries=10, timeout=120, unique=lambda organisation_id: organisation_id)
async def clear_organisation(organisation_id: str) -> None:
    await organisations.clear(organisation_id)


@on(OrganisationRemoved)
async def clear_removed_organisation(event: OrganisationRemoved) -> None:
    await clear_organisation.later(event.organisation_id)
