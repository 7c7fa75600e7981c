"""One's own API keys."""

from msingi.kit import state
from msingi.kit.auth import Actor, permissions_of
from msingi.kit.clock import now
from msingi.kit.db import Page, Paging, Where
from msingi.kit.roles import HOUSE
from msingi.products.accounts import rules
from msingi.products.accounts.models.api_keys import ApiKey, api_keys


async def my_keys(actor: Actor, page: Paging) -> Page[ApiKey]:
    """The actor's keys that are good, newest first."""
    return await api_keys.page(_good(actor.id), page, sorts=("-_id",))


async def keys_of(account_id: str) -> list[ApiKey]:
    """Somebody's that are good, newest first: for those who may look after others."""
    return await api_keys.many(_good(account_id), sort=[("_id", -1)])


async def my_key(key_id: str, actor: Actor) -> ApiKey:
    """One of them."""
    return await api_keys.get(key_id, when=_good(actor.id))


async def count_mine(actor: Actor) -> int:
    """How many of them there are."""
    return await api_keys.count(_good(actor.id), limit=rules.api_keys.MOST_KEYS)


def my_scopes(actor: Actor) -> list[str]:
    """What the actor's keys may be for."""
    products = [product.name for product in state.current().products]
    return rules.api_keys.known_scopes([HOUSE, *products], permissions_of(actor.roles))


def _good(account_id: str) -> Where:
    return {"account": account_id, "revoked_at": None, "expires_at": {"$gt": now()}}
