"""API keys: made in person, shown once, used by programs, and gone for every process at once."""

from contextlib import suppress
from datetime import timedelta

import structlog
from msgspec import Struct

from msingi.kit import audit, revocations, state, tokens
from msingi.kit.auth import Actor, SecondFactorRequired, lacks_second_factor, permissions_of
from msingi.kit.clock import now, seconds
from msingi.kit.errors import NotFound, SignInFirst, Stale
from msingi.kit.ids import new_id
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import letters, signing_keys
from msingi.products.accounts.believed import Believed
from msingi.products.accounts.key_secrets import KeySecret, new_secret, read_secret
from msingi.products.accounts.models.api_keys import ApiKey, api_keys
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.schemas.api_keys import KeyPatch, NewKey

NOTED = timedelta(minutes=1)  # the use of a key is noted once in this time
WARNED = timedelta(days=7)  # how long before its end the owner is told
CLIENT = "key:"  # what the client of an actor begins with who comes with a key
log = structlog.get_logger("accounts")


class Made(Struct, frozen=True):
    """A key with its secret in the clear, which nobody can tell a second time."""

    key: ApiKey
    secret: str


# ---- by the person


@atomic
async def make(form: NewKey, actor: Actor) -> Made:
    """A new key of the actor's; a letter tells them, so that nobody makes one for them unseen.

    Raises UnknownScope, SecondFactorRequired, TooManyKeys.
    """
    rules.api_keys.check_scopes(form.scopes, queries.api_keys.my_scopes(actor))
    if lacks_second_factor(actor) and not permissions_of(actor.roles).isdisjoint(form.scopes):
        raise SecondFactorRequired  # else a password alone would make a key that does what it may not do itself
    if await queries.api_keys.count_mine(actor) >= rules.api_keys.MOST_KEYS:
        raise rules.api_keys.TooManyKeys(most=rules.api_keys.MOST_KEYS)
    id, account = new_id(), await queries.people.me(actor)
    secret = new_secret(id)
    key = ApiKey(
        id=id,
        account=actor.id,
        name=form.name.strip(),
        secret=secret.hash,
        scopes=sorted(set(form.scopes)),
        expires_at=now() + timedelta(days=form.expires_in_days),
    )
    await api_keys.add(key)
    await audit.note("accounts.key_made", actor=actor, about=id, scopes=key.scopes)
    await _write("key_made", account, key)
    return Made(key, secret.text)


@guarded
async def rename(key: ApiKey, patch: KeyPatch, if_match: int | None) -> ApiKey:
    """Call a key something else. Raises Stale if it is not the version that was meant."""
    if if_match not in (None, key.version):
        raise Stale
    given = {name: value.strip() for name, value in patch.given().items()}
    return await api_keys.change(key.id, {"$set": given}, {"version": key.version}) if given else key


@atomic
async def revoke(key: ApiKey, actor: Actor) -> None:
    """End a key: within a second no process lets anybody in with it. Twice is once."""
    with suppress(Stale):
        await api_keys.change(key.id, {"$set": {"revoked_at": now()}}, {"revoked_at": None})
    await revocations.revoke(actor=key.account, session=key.id)
    await audit.note("accounts.key_revoked", actor=actor, about=key.id)


# ---- by programs


class _Believed(Believed):
    """Keys that this process looked up a moment ago."""


async def identify_key(shown: str) -> Actor | None:
    """Who shows this API key: its owner, as far as the scopes reach. What was revoked is looked up again."""
    secret = read_secret(shown)
    if secret is None:
        return None
    believed = state.part(_Believed)
    actor = believed.find(secret.hash)
    if actor is None:
        actor = await _looked_up(secret)
        if actor is not None:
            believed.keep(secret.hash, actor)
    return actor


async def _looked_up(secret: KeySecret) -> Actor | None:
    key = await api_keys.find({"_id": secret.key, "secret": secret.hash})
    account = await accounts.find({"_id": key.account}) if key is not None else None
    if key is None or account is None or not rules.api_keys.is_good(key, account, now()):
        return None
    await _note_use(key)
    return _actor_of(key, account)


def _actor_of(key: ApiKey, account: Account) -> Actor:
    return Actor(
        id=account.id,
        name=account.name,
        roles=frozenset(account.roles),
        session=key.id,
        version=account.token_version,
        expires_at=int(key.expires_at.timestamp()),
        client=f"{CLIENT}{key.id}",
        scopes=frozenset(key.scopes),
    )


async def _note_use(key: ApiKey) -> None:
    if key.last_used_at is None or now() - key.last_used_at >= NOTED:
        with suppress(Stale):  # another process has just noted it
            await _note(key)


@guarded
async def _note(key: ApiKey) -> None:
    await api_keys.change(key.id, {"$set": {"last_used_at": now()}}, {"last_used_at": key.last_used_at})


class Swapped(Struct, frozen=True):
    """An access token that a key was swapped for, and how many seconds it is good."""

    token: str
    expires_in: int


async def swap(actor: Actor | None) -> Swapped:
    """An access token for who comes with a key, with its scopes: for products that run where accounts does not.

    Raises SignInFirst, KeyOnly.
    """
    if actor is None:
        raise SignInFirst
    if not actor.client.startswith(CLIENT) or not await api_keys.exists({"_id": actor.session}):
        raise rules.api_keys.KeyOnly
    lifetime = min(tokens.LIFETIME, int(actor.expires_at - seconds()))
    return Swapped(tokens.token_for(actor, await signing_keys.signing_key(), lifetime=lifetime), lifetime)


# ---- before it ends


async def warn() -> None:
    """Tell the owners of keys that end soon, each once."""
    soon = {"expires_at": {"$gt": now(), "$lte": now() + WARNED}, "revoked_at": None, "warned_at": None}
    async for key in api_keys.each(soon):
        with suppress(Stale, NotFound):
            await _warn_of(key)


@atomic
async def _warn_of(key: ApiKey) -> None:
    account = await accounts.get(key.account)
    await api_keys.change(key.id, {"$set": {"warned_at": now()}}, {"warned_at": None, "revoked_at": None})
    if not account.disabled:
        await _write("key_expires", account, key)


async def _write(letter: str, account: Account, key: ApiKey) -> None:
    await letters.write(letter, account, key=key.name, ends=f"{key.expires_at:%Y-%m-%d}")
