"""Second factors: one's own, and what signing in has to know of them."""

import asyncio

from msingi.kit.auth import Actor
from msingi.products.accounts import rules
from msingi.products.accounts.models.factors import Factors, Passkey, factors, passkeys


async def ways(account_id: str) -> list[str]:
    """How somebody can show a second factor; nothing if they have none."""
    kept, has_passkeys = await asyncio.gather(
        factors.find({"_id": account_id}), passkeys.exists({"account": account_id})
    )
    return rules.factors.ways_of(kept, has_passkeys)


async def my_factors(actor: Actor) -> Factors:
    """What the actor has beside passkeys; an empty one if that is nothing."""
    return await factors.find({"_id": actor.id}) or Factors(id=actor.id)


async def my_passkeys(actor: Actor) -> list[Passkey]:
    """The actor's passkeys, newest first."""
    return await passkeys_of(actor.id)


async def my_passkey(passkey_id: str, actor: Actor) -> Passkey:
    """One of them."""
    return await passkeys.get(passkey_id, when={"account": actor.id})


async def passkeys_of(account_id: str) -> list[Passkey]:
    return await passkeys.many({"account": account_id}, sort=[("_id", -1)], limit=rules.factors.PASSKEYS)


async def passkey_of_credential(credential: bytes) -> Passkey | None:
    return await passkeys.find({"credential": credential})
