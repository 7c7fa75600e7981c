"""The first admin, whom nobody can make but who runs the house: from the command line."""

from msingi.kit import audit
from msingi.kit.errors import AlreadyExists, InvalidFields
from msingi.kit.reading import field_errors
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import people
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.schemas.people import NewUser, UserPatch


async def has_account(email: str) -> bool:
    """Whether somebody has an account with this address. Raises InvalidFields."""
    return await queries.people.account_by_email(rules.people.email_of(email)) is not None


async def add(email: str, name: str, password: str) -> Account:
    """A new admin, whose address counts as proved: who runs the house gave it.

    Raises InvalidFields, EmailTaken, WeakPassword.
    """
    given = {"email": email, "name": name, "password": password}
    if faults := field_errors(NewUser, given):
        raise InvalidFields(errors=faults)
    await people.guard_admins()
    account = await people.drawn_up(NewUser(email=email, name=name, password=password))
    account.roles, account.email_verified = rules.people.roles_of([rules.roles.ADMIN]), True
    try:
        return await people.add_with_roles(account, None)
    except AlreadyExists:
        raise rules.people.EmailTaken from None


async def grant(email: str) -> Account:
    """An admin of somebody who has an account, whether or not it was disabled. Raises NotFound."""
    await people.guard_admins()
    found = await queries.people.account_by_email(rules.people.email_of(email))
    if found is None:
        raise rules.people.NobodyOfThisAddress
    return await _grant(found)


@atomic
async def _grant(account: Account) -> Account:
    roles = [*account.roles, rules.roles.ADMIN]
    await people.edit_user(account.id, UserPatch(roles=roles, disabled=False), account.version)
    await audit.note("accounts.admin_granted", actor=None, about=account.id, by="command line")
    return await accounts.get(account.id)
