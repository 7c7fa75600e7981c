"""Devices without a keyboard: they show a code, their person types it here, they ask until it is done (RFC 8628)."""

import secrets
from datetime import timedelta
from hmac import digest
from typing import Literal

from msgspec import Struct

from msingi.kit import audit
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import NotFound, Stale
from msingi.kit.ids import new_id
from msingi.kit.sealing import key_for
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import authorizations, consents, sessions
from msingi.products.accounts.actions.authorizations import Login
from msingi.products.accounts.models.clients import Client, DeviceGrant, device_grants
from msingi.products.accounts.rules.openid import DEVICE_INTERVAL, DEVICE_LIVES, LETTERS
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.openid import TokenReply
from msingi.products.accounts.session_secrets import hash_of, new_cookie, session_in_cookie


class Begun(Struct, frozen=True):
    """What a device gets to show and to ask with, in the clear."""

    grant: DeviceGrant
    typed: str
    secret: str


# ---- the device


@guarded
async def begin(client: Client, scope: str) -> Begun:
    """Codes for a device. Raises UnauthorizedClient, InvalidScope."""
    if not client.device:
        raise rules.openid.UnauthorizedClient
    id, typed = new_id(), "".join(secrets.choice(LETTERS) for _ in range(8))
    secret = new_cookie(id)
    grant = DeviceGrant(
        id=id,
        client=client.id,
        scopes=rules.openid.scopes_of(client, scope),
        typed=_digest(typed),
        secret=hash_of(secret),
        interval=DEVICE_INTERVAL,
        expires_at=now() + timedelta(seconds=DEVICE_LIVES),
    )
    return Begun(await device_grants.add(grant), typed, secret)


def _digest(typed: str) -> bytes:
    return digest(key_for("accounts.device").raw, typed.encode(), "sha256")


async def collect(client: Client, secret: str, visitor: Visitor) -> TokenReply:
    """Tokens, once the person said yes.

    Raises AuthorizationPending, SlowDown, AccessDenied, ExpiredToken, InvalidGrant.
    """
    grant = await device_grants.find({"_id": session_in_cookie(secret), "secret": hash_of(secret)})
    if grant is None or grant.client != client.id or grant.state == "used":
        raise rules.openid.InvalidGrant
    if grant.expires_at <= now():
        raise rules.openid.ExpiredToken
    await _note_question(grant)
    if grant.state == "waiting":
        raise rules.openid.AuthorizationPending
    if grant.state == "denied":
        raise rules.openid.AccessDenied
    opened, login = await _open(client, grant, visitor)
    return await authorizations.reply_of(client, opened, login)


async def _note_question(grant: DeviceGrant) -> None:
    """Raise SlowDown for one who asks too soon, and want more patience of it from then on."""
    early = grant.asked_at is not None and now() - grant.asked_at < timedelta(seconds=grant.interval)
    try:
        await _asked(grant, DEVICE_INTERVAL if early else 0)
    except Stale:
        early = True  # two questions at the same moment
    if early:
        raise rules.openid.SlowDown


@guarded
async def _asked(grant: DeviceGrant, longer: int) -> None:
    to = {"$set": {"asked_at": now()}, "$inc": {"interval": longer}}
    await device_grants.change(grant.id, to, {"asked_at": grant.asked_at})


@atomic
async def _open(client: Client, grant: DeviceGrant, visitor: Visitor) -> tuple[sessions.Opened, Login]:
    used = {"$set": {"state": "used"}}
    grant = await device_grants.change(grant.id, used, {"state": "allowed"}, rules.openid.InvalidGrant)
    proven_at = int(grant.proven_at.timestamp()) if grant.proven_at else 0
    login = Login(grant.login, proven_at, grant.methods)
    return await authorizations.open_for(client, grant.scopes, login, visitor), login


# ---- the person


async def waiting(text: str) -> tuple[DeviceGrant, Client]:
    """The device that shows this code, and the program that it runs. Raises WrongDeviceCode."""
    typed = rules.openid.typed_code(text)
    where = {"typed": _digest(typed), "state": "waiting", "expires_at": {"$gt": now()}}
    grant = await device_grants.find(where)
    if grant is None:
        raise rules.openid.WrongDeviceCode
    return grant, await queries.clients.client_of_device(grant.client)


Answer = Literal["allow", "deny"]


@atomic
async def answer(text: str, answer: Answer, actor: Actor) -> Client:
    """What the person says to it. Raises WrongDeviceCode."""
    grant, client = await waiting(text)
    yes = answer == "allow"
    said = {
        "state": "allowed" if yes else "denied",
        "account": actor.id,
        "login": actor.session,
        "methods": sorted(actor.methods),
        "proven_at": await _proven_at(actor),
    }
    await device_grants.change(grant.id, {"$set": said}, {"state": "waiting"}, rules.openid.WrongDeviceCode)
    if yes and not client.first_party:
        await consents.remember(actor.id, client, grant.scopes, actor)
    outcome: Literal["done", "refused"] = "done" if yes else "refused"
    await audit.note("accounts.device_let_in", actor=actor, about=client.id, outcome=outcome, scopes=grant.scopes)
    return client


async def _proven_at(actor: Actor) -> object:
    try:
        session, _ = await queries.sessions.session_and_account(actor.session)
    except NotFound:
        raise rules.openid.WrongDeviceCode from None
    return session.proven_at
