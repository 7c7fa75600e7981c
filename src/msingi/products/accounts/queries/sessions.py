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


async def sessions_of(account: Account, limit: int) -> list[Session]:
    """The newest of somebody's that are alive: for those who may look after others."""
    return await sessions.many(_alive(account), sort=[("_id", -1)], limit=limit)


async def sessions_page(account: Account, page: Paging) -> Page[Session]:
    """A page of somebody's that are alive, newest first: for those who may look after others."""
    return await sessions.page(_alive(account), page, sorts=("-_id",))


async def session_of_account(session_id: str, account: Account) -> Session:
    """One of them. Raises NotFound."""
    return await sessions.get(session_id, when=_alive(account))


async def other_sessions(actor: Actor, limit: int) -> list[Session]:
    """Some of them, without the one under way."""
    return await sessions.many({**_alive(await me(actor)), "_id": {"$ne": actor.session}}, limit=limit)


async def session_and_account(session_id: str) -> tuple[Session, Account]:
    """A session that is alive, and whose it is. Raises NotFound."""
    session = await sessions.get(session_id)
    account = await accounts.get(session.account)
    if not rules.sessions.is_alive(session, account, now()) or not await may_go_on(session):
        raise NotFound
    return session, account


async def may_go_on(session: Session) -> bool:
    """Whether whoever acts in this session, if somebody else than its person does, still may."""
    return not session.acting or rules.impersonation.may_act(await accounts.find({"_id": session.acting}))


async def impersonations(where: Where) -> list[Session]:
    """Sessions that have not ended in which somebody acts for somebody else."""
    return await sessions.many({**where, "ended_at": None}, limit=0)


async def session_of(actor: Actor) -> Session | None:
    """The session that an actor's token belongs to, if it is kept."""
    return await sessions.find({"_id": actor.session, "account": actor.id})


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
