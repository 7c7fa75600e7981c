"""Whom providers vouch for: one's own connections, and whose an identity is."""

from msingi.kit.auth import Actor
from msingi.products.accounts.models.identities import Identity, identities, identity_key


async def my_connections(actor: Actor) -> list[Identity]:
    """The actor's, oldest first."""
    return await identities.many({"account": actor.id}, sort=[("_id", 1)])


async def connections_of(account_id: str) -> list[Identity]:
    """Somebody's: for those who may look after others."""
    return await identities.many({"account": account_id}, sort=[("_id", 1)])


async def my_connection(connection_id: str, actor: Actor) -> Identity:
    """One of them."""
    return await identities.get(connection_id, when={"account": actor.id})


async def identity_of(issuer: str, subject: str) -> Identity | None:
    """Who that is here, if it is anybody."""
    return await identities.find({"key": identity_key(issuer, subject)})
