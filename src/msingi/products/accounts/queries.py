"""What may be read: one's own account and sessions; of others' only what a role or a contract allows."""

from datetime import timedelta

from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import NotFound
from msingi.kit.peers import answers
from msingi.kit.search import words_of
from msingi.kit.tokens import LIFETIME, PublicKey
from msingi.products.accounts import rules
from msingi.products.accounts.contract import PEOPLE, PeopleAsked, Person
from msingi.products.accounts.models import (
    Account,
    Session,
    StoredKey,
    accounts,
    sessions,
    stored_keys,
)

AFTER_USE = timedelta(seconds=LIFETIME + 60)  # how long a key is published after it signed for the last time


async def me(actor: Actor) -> Account:
    """The actor's own account."""
    return await accounts.get(actor.id)


async def user(user_id: str) -> Account:
    """Anybody's account: for those who may look after others, which the route sees to."""
    return await accounts.get(user_id)


async def users(where: Where, q: str, page: Paging) -> Page[Account]:
    """Everybody, filtered and searched: for those who may look after others."""
    found = {"words": {"$all": words_of(q) or [""]}} if q.strip() else {}
    return await accounts.page(found, page, sorts=("-created_at", "email", "name"), also=where)


async def account_by_email(email: str) -> Account | None:
    return await accounts.find({"email": email})


async def my_sessions(actor: Actor, page: Paging) -> Page[Session]:
    """The actor's sessions that are alive, newest first."""
    return await sessions.page(_alive(await me(actor)), page, sorts=("-_id",))


async def my_session(session_id: str, actor: Actor) -> Session:
    """One of them."""
    return await sessions.get(session_id, when=_alive(await me(actor)))


async def other_sessions(actor: Actor) -> list[Session]:
    """All of them but the one under way."""
    return await sessions.many({**_alive(await me(actor)), "_id": {"$ne": actor.session}})


async def session_and_account(session_id: str) -> tuple[Session, Account]:
    """A session that is alive, and whose it is. Raises NotFound."""
    session = await sessions.get(session_id)
    account = await accounts.get(session.account)
    if not rules.is_alive(session, account, now()):
        raise NotFound
    return session, account


async def published_keys() -> list[PublicKey]:
    """The keys that tokens may be signed with, now or soon, and those that signed what is still good."""
    keys = await _keys()
    at = now()
    newer = [key.signs_from for key in keys[1:]]
    gone = sum(at >= next_at + AFTER_USE for next_at in newer)
    return [PublicKey.of(key.public) for key in keys[gone:]]


async def newest_key() -> StoredKey | None:
    """The key that signs last of all those there are."""
    keys = await _keys()
    return keys[-1] if keys else None


async def key_in_use() -> StoredKey | None:
    """The key that signs now."""
    at = now()
    return next((key for key in reversed(await _keys()) if key.signs_from <= at), None)


@answers(PEOPLE)
async def people(asked: PeopleAsked) -> list[Person]:
    """Names and addresses, for other products."""
    found = await accounts.many({"_id": {"$in": asked.ids}})
    return [Person(id=each.id, name=each.name, email=each.email) for each in found]


async def _keys() -> list[StoredKey]:
    return await stored_keys.many({}, sort=[("_id", 1)])


def _alive(account: Account) -> Where:
    """The filter of sessions that are alive; shorter lives of some roles are kept by asking for recent use."""
    at = now()
    idle, longest = rules.lifetimes(account.roles)
    return {
        "account": account.id,
        "epoch": account.epoch,
        "ended_at": None,
        "idle_at": {"$gt": at},
        "ends_at": {"$gt": at},
        "last_used_at": {"$gt": at - idle},
        "created_at": {"$gt": at - longest},
    }
