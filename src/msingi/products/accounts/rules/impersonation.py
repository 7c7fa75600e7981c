"""Decisions about acting in somebody's name: in whose, and for how long."""

from datetime import timedelta

from msingi.kit.actors import Actor, permissions_of
from msingi.kit.errors import Conflict
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.rules import roles

PERMISSION = "users:impersonate"
LONGEST = timedelta(minutes=30)


class NotInTheirName(Conflict):
    """Nobody acts in the name of this person: {reason}."""


def check_may_act_for(actor: Actor, account: Account) -> None:
    """Raise NotInTheirName for oneself, an admin, who is disabled, and who may do more than the actor."""
    if account.id == actor.id:
        raise NotInTheirName(reason="it is yourself")
    if roles.ADMIN in account.roles:
        raise NotInTheirName(reason="it is an admin")
    if account.disabled:
        raise NotInTheirName(reason="the account is disabled")
    if not roles.reaches(actor, permissions_of(frozenset(account.roles))):
        raise NotInTheirName(reason="they may do more than you")


def may_act(account: Account | None) -> bool:
    """Whether this account may (still) act in others' names."""
    return account is not None and not account.disabled and PERMISSION in permissions_of(frozenset(account.roles))
