"""Programs: registered, changed, given secrets, and asked to prove that they are the ones they say."""

import secrets
from datetime import timedelta
from hmac import compare_digest

from msgspec import Struct

from msingi.kit import audit, revocations
from msingi.kit import roles as kept_roles
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import sessions
from msingi.products.accounts.models.clients import Client, ClientSecret, clients, consents
from msingi.products.accounts.models.sessions import sessions as kept_sessions
from msingi.products.accounts.schemas.clients import ClientPatch, NewClient
from msingi.products.accounts.session_secrets import hash_of

PREFIX = "cs1_"
OVERLAP = timedelta(hours=24)  # for which the secret before the newest is good


class Registered(Struct, frozen=True):
    """A program with its secret in the clear, which nobody can tell a second time."""

    client: Client
    secret: str | None


@atomic
async def register(form: NewClient, by: Actor) -> Registered:
    """Make a program known. Raises InvalidFields, AboveYou."""
    secret = _new_secret() if form.kind == "confidential" else None
    kept = [ClientSecret(hash_of(secret))] if secret else []
    client = Client(**{**form.given(), "secrets": kept, "scopes": sorted(set(form.scopes))})
    _check(client)
    _check_reach(by, client)
    await clients.add(client)
    await audit.note("accounts.client_registered", actor=by, about=client.id, scopes=client.scopes)
    return Registered(client, secret)


def _check(client: Client) -> None:
    rules.openid.check_kind(client)
    rules.openid.check_redirect_uris(client.redirect_uris, "/redirect_uris")
    rules.openid.check_redirect_uris(client.post_logout_redirect_uris, "/post_logout_redirect_uris")
    rules.openid.check_scopes(client.scopes, kept_roles.known_permissions(), service=client.service)


def _check_reach(by: Actor, *given: Client) -> None:
    """Raise AboveYou for who is no admin, and has to do with a program that could do more than its people let it."""
    if not rules.roles.is_admin(by) and any(rules.openid.is_powerful(each) for each in given):
        raise rules.roles.AboveYou


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


@atomic
async def change(client: Client, form: ClientPatch, by: Actor, if_match: int | None) -> Client:
    """Change what is known of it. What it may no longer ask for, its sessions lose at their next refresh.

    Raises InvalidFields, AboveYou, Stale.
    """
    given = form.given()
    if "scopes" in given:
        given["scopes"] = sorted(set(given["scopes"]))
    if not given:
        return client
    version = client.version if if_match is None else if_match
    after = await clients.change(client.id, {"$set": given}, {"version": version})
    _check(after)
    _check_reach(by, client, after)
    await audit.note("accounts.client_changed", actor=by, about=client.id, fields=sorted(given))
    return after


@atomic
async def renew_secret(client: Client, by: Actor) -> Registered:
    """A new secret; the one before stays good for a day, any older one for no time.

    Raises PublicClient, AboveYou, Stale.
    """
    _check_reach(by, client)
    if client.kind == "public":
        raise rules.clients.PublicClient
    secret, until = _new_secret(), now() + OVERLAP
    before = [ClientSecret(each.digest, until) for each in client.secrets if each.good_until is None]
    kept = [{"digest": each.digest, "good_until": each.good_until} for each in [ClientSecret(hash_of(secret)), *before]]
    after = await clients.change(client.id, {"$set": {"secrets": kept}}, {"version": client.version})
    await audit.note("accounts.client_secret_renewed", actor=by, about=client.id)
    return Registered(after, secret)


async def remove(client: Client, by: Actor) -> None:
    """Forget a program: it gets nothing more, what it was granted is void, and all that it opened ends.

    Raises AboveYou.
    """
    _check_reach(by, client)
    await _remove(client, by)
    async for session in kept_sessions.each({"client": client.id, "ended_at": None}):
        await sessions.end(session)


@atomic
async def _remove(client: Client, by: Actor) -> None:
    await clients.remove(await queries.clients.client(client.id))
    await consents.remove_many({"client": client.id})
    await revocations.revoke(actor=client.id, below=client.token_version + 1)
    await audit.note("accounts.client_removed", actor=by, about=client.id)


async def prove(client_id: str, secret: str | None) -> Client:
    """The program, if it is who it says. A public one has nothing to prove it with. Raises InvalidClient."""
    client = await queries.clients.known_client(client_id)
    if client is None or (secret is None) is not (client.kind == "public"):
        raise rules.openid.InvalidClient
    if secret is not None and not _is_its(client, secret):
        raise rules.openid.InvalidClient
    return client


def _is_its(client: Client, secret: str) -> bool:
    at, digest = now(), hash_of(secret)
    good = [each.digest for each in client.secrets if each.good_until is None or at < each.good_until]
    return any([compare_digest(each, digest) for each in good])  # noqa: C419  (all of them, in the same time)
