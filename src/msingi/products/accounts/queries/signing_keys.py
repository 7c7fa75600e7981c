"""The keys that sign access tokens, and those that are published."""

from datetime import timedelta

from msingi.kit.clock import now
from msingi.kit.tokens import LIFETIME, PublicKey
from msingi.products.accounts.models.signing_keys import StoredKey, stored_keys

AFTER_USE = timedelta(seconds=LIFETIME + 60)  # how long a key is published after it signed for the last time


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


async def _keys() -> list[StoredKey]:
    return await stored_keys.many({}, sort=[("_id", 1)])
