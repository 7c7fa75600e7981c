"""The keys that sign access tokens: made once for all processes, announced a day before they sign, renewed in time."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic

import structlog

from msingi.kit import sealing, state, tokens
from msingi.kit.clock import now
from msingi.kit.errors import AlreadyExists
from msingi.kit.tokens import SigningKey
from msingi.kit.unit import guarded
from msingi.products.accounts import queries
from msingi.products.accounts.models.signing_keys import StoredKey, stored_keys

SIGNS_FOR = timedelta(days=90)
ANNOUNCED = timedelta(hours=24)  # before it signs, so that everybody who keeps a copy of the keys has it by then
LOOKED_AT = 60.0  # seconds for which a process goes on with the key that it knows
log = structlog.get_logger("accounts")


class _Signer:
    """The key that this process signs with, and when it last looked whether that is still the one."""

    def __init__(self) -> None:
        self.key: SigningKey | None = None
        self.looked_at = -LOOKED_AT

    def start_over(self) -> None:
        """Look again: for tests, which empty the collections."""
        self.key = None


async def signing_key() -> SigningKey:
    """The key to sign with now."""
    signer = state.part(_Signer)
    if signer.key is None or monotonic() - signer.looked_at > LOOKED_AT:
        signer.key, signer.looked_at = await _key_in_use(), monotonic()
        tokens.ring().add(signer.key.public)
    return signer.key


async def _key_in_use() -> SigningKey:
    """The stored key whose time it is; a new one, at once, if there is none that this house's secret opens."""
    while True:
        newest = (
            await queries.signing_keys.newest_key()
        )  # read first: who finds none in use then makes its successor, or loses
        stored = await queries.signing_keys.key_in_use()
        if stored is not None:
            try:
                return _opened(stored)
            except sealing.CannotOpen:
                log.error("signing_key_unreadable", key=stored.id, hint="was MSINGI_SECRET changed?")
        await _succeed(newest, now())


async def renew() -> None:
    """Make the next key when the newest has but a day left to sign. Doing it again, or twice at once, is harmless."""
    newest = await queries.signing_keys.newest_key()
    if newest is not None and now() >= newest.signs_from + SIGNS_FOR - ANNOUNCED:
        await _succeed(newest, now() + ANNOUNCED)


async def run_watch() -> None:
    """Have a key from the start, and know within a minute which keys there are."""
    while True:
        await signing_key()
        await tokens.ring().reload()
        await asyncio.sleep(LOOKED_AT)


async def _succeed(newest: StoredKey | None, signs_from: datetime) -> None:
    """Add the key after `newest`. Of several processes that do so at once one succeeds, and the others use its key."""
    id = f"{int(newest.id) + 1 if newest else 1:06d}"
    with suppress(AlreadyExists):
        await _add(id, SigningKey.generate(), signs_from)


@guarded
async def _add(id: str, key: SigningKey, signs_from: datetime) -> None:
    private = sealing.seal(sealing.key_for("accounts.signing"), key.private_bytes(), _place(id))
    await stored_keys.add(StoredKey(id=id, public=key.public.raw, private=private, signs_from=signs_from))


def _opened(stored: StoredKey) -> SigningKey:
    return SigningKey.from_bytes(sealing.unseal(sealing.key_for("accounts.signing"), stored.private, _place(stored.id)))


def _place(id: str) -> str:
    return f"accounts/signing_keys/{id}/private"
