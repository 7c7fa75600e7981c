"""Acting in somebody's name: an admin sees what a person sees, for half an hour, and it is told and noted."""

from msingi.kit import audit, revocations, roles, state
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import letters, sessions
from msingi.products.accounts.actions.sessions import Opened
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.models.sessions import Session
from msingi.products.accounts.models.sessions import sessions as kept_sessions
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.impersonation import Impersonation


@atomic
async def begin(user_id: str, form: Impersonation, actor: Actor, visitor: Visitor) -> Opened:
    """Open a session of somebody else's, in which the actor acts. Raises NotInTheirName, NotFound."""
    account = await accounts.get(user_id)
    rules.impersonation.check_may_act_for(actor, account)
    ends_at, reason = now() + rules.impersonation.LONGEST, form.reason.strip()
    opened = await sessions.open_session(
        account,
        form.session,
        visitor,
        ["imp"],
        acting=actor.id,
        acting_session=actor.session,
        idle_at=ends_at,
        ends_at=ends_at,
    )
    await audit.note(
        "accounts.impersonation_began", actor=actor, about=account.id, opened=opened.session.id, reason=reason
    )
    if state.part(AccountsSettings).tells_of_impersonation:
        await letters.write(
            "impersonated", account, admin=actor.name or actor.id, at=f"{now():%Y-%m-%d %H:%M} UTC", reason=reason
        )
    return opened


# ---- it ends with what it rests on


@revocations.on_revoked
async def end_with_the_admin(actor: str, session: str) -> None:
    """When a session of an admin ends, so does what was begun in it; when all their tokens do, so does everything."""
    theirs = {"acting": actor, **({"acting_session": session} if session else {})}
    for each in await queries.sessions.impersonations(theirs):
        await _end(each)


@roles.on_change
async def end_without_the_permission() -> None:
    """Roles carry something else now: end what admins began who may not do so any more."""
    for each in await queries.sessions.impersonations({"acting": {"$gt": ""}}):
        if not await queries.sessions.may_go_on(each):
            await _end(each)


@atomic
async def _end(session: Session) -> None:
    """Every process comes here at the same time: whoever is first ends it, and only they note it."""
    if await kept_sessions.exists({"_id": session.id, "ended_at": None}):
        await sessions.end(session)
        await audit.note("accounts.impersonation_ended", actor=None, about=session.account, session_id=session.id)
