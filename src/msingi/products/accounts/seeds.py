"""The people of the demo: two members, one more for tests, and an admin, all with one password."""

import secrets
from functools import lru_cache

import structlog

from msingi.kit import state
from msingi.kit.search import words_of
from msingi.kit.unit import atomic
from msingi.products.accounts import hashing
from msingi.products.accounts.actions import people
from msingi.products.accounts.models.organisations import Membership, Organisation, memberships, organisations
from msingi.products.accounts.models.people import Account, Role, accounts, words_to_find
from msingi.products.accounts.models.settings import AccountsSettings

TEST_PASSWORD = "correct horse battery msingi"  # noqa: S105  (the one that msingi.kit.testing tells its people)
log = structlog.get_logger("accounts")


async def plant() -> None:
    """Ann, Bob, Eve and the admin."""
    password = await _kept_password(_password())
    await people.guard_admins()
    await _plant(password)


@atomic
async def _plant(password: str) -> None:
    await accounts.add_many([_person(id, password) for id in ("ann", "bob", "eve")])
    await people.let_in(await accounts.add(_person("admin", password, ["user", "admin"])))
    await _plant_farm()


async def _plant_farm() -> None:
    """An organisation that Ann owns and Bob is in."""
    name, slug = "Shamba la Mfano", "shamba-la-mfano"
    await organisations.add(
        Organisation(id="farm", name=name, slug=slug, owners=["ann"], members=2, words=words_of(name, slug))
    )
    await memberships.add(Membership(id="farm:ann", organisation="farm", account="ann", role="owner"))
    await memberships.add(Membership(id="farm:bob", organisation="farm", account="bob", role="member"))


def _person(id: str, password: str, roles: list[Role] | None = None) -> Account:
    name, email = id.capitalize(), f"{id}@msingi.test"
    return Account(
        id=id,
        email=email,
        email_verified=True,
        name=name,
        password=password,
        roles=roles or ["user"],
        organisations=1 if id in ("ann", "bob") else 0,
        words=words_to_find(name, email),
    )


def _password() -> str:
    told = state.part(AccountsSettings).demo_password
    if told:
        return told
    if state.settings().env == "test":
        return TEST_PASSWORD
    log.warning("demo_password_missing", hint="set MSINGI_DEMO_PASSWORD to sign in as one of them")
    return secrets.token_urlsafe(24)


async def _kept_password(password: str) -> str:
    """Hashed once a process, since tests plant these people before each of them."""
    known = _hashes()
    if password not in known or hashing.is_outdated(known[password]):  # another house has another pepper
        known[password] = await hashing.hashed(password)
    return known[password]


@lru_cache(maxsize=1)
def _hashes() -> dict[str, str]:
    return {}
