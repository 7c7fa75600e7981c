"""What those who look after others do about somebody's ways in: end their sessions, send them a letter."""

from msingi.kit import audit
from msingi.kit.auth import Actor
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import resets, sessions
from msingi.products.accounts.models.people import accounts


@atomic
async def end_session(user_id: str, session_id: str, actor: Actor) -> None:
    """End one of somebody's sessions. Raises AboveYou, NotFound."""
    account = await accounts.get(user_id)
    rules.roles.check_reach(actor, *account.roles)
    await sessions.end(await queries.sessions.session_of_account(session_id, account), by=actor)


@atomic
async def end_sessions(user_id: str, actor: Actor) -> None:
    """End all of them, however many there are. Raises AboveYou, NotFound."""
    account = await accounts.get(user_id)
    rules.roles.check_reach(actor, *account.roles)
    await sessions.end_all(user_id, actor)


async def send_reset_letter(user_id: str, actor: Actor) -> None:
    """Write somebody a letter with a link to set a new password. Raises AccountDisabled, NotFound."""
    account = await accounts.get(user_id)
    if account.disabled:
        raise rules.people.AccountDisabled
    await resets.ask(account)
    await audit.note("accounts.reset_letter_sent", actor=actor, about=user_id)
