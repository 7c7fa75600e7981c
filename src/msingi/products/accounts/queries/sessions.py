"""One's own sessions."""

from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import NotFound
from msingi.products.accounts import rules
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.models.sessions import Session, sessions
from msingi.products.accounts.queries.people import me


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
    if not rules.sessions.is_alive(session, account, now()):
        raise NotFound
    return session, account


def _alive(account: Account) -> Where:
    """The filter of sessions that are alive; shorter lives of some roles are kept by asking for recent use."""
    at = now()
    idle, longest = rules.sessions.lifetimes(account.roles)
    return {
        "account": account.id,
        "epoch": account.epoch,
        "ended_at": None,
        "idle_at": {"$gt": at},
        "ends_at": {"$gt": at},
        "last_used_at": {"$gt": at - idle},
        "created_at": {"$gt": at - longest},
    }
