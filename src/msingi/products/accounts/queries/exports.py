"""What a person asked to take away, and what accounts itself has of them."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from msingi.kit import audit, mail
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.db import Collection, Page, Paging
from msingi.products.accounts import rules
from msingi.products.accounts.models.api_keys import api_keys
from msingi.products.accounts.models.clients import consents
from msingi.products.accounts.models.defence import known_devices
from msingi.products.accounts.models.exports import Export, exports, parts
from msingi.products.accounts.models.factors import factors, passkeys
from msingi.products.accounts.models.identities import identities
from msingi.products.accounts.models.organisations import invitations, memberships, organisations
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.models.sessions import sessions

# What is no information about the person, but a secret, or the house's own bookkeeping.
WITHHELD = {"password", "secret", "current", "previous", "child", "totp", "totp_new", "codes", "credential"}
WITHHELD |= {
    "public_key",
    "words",
    "email_key",
    "phone_key",
    "epoch",
    "token_version",
    "misses",
    "device",
    "like",
    "mark",
    "link",
    "seq",
}
OF_ACCOUNT: dict[str, Collection[Any]] = {
    "sessions": sessions,
    "api_keys": api_keys,
    "passkeys": passkeys,
    "identities": identities,
    "consents": consents,
    "known_devices": known_devices,
    "exports": exports,
}
OF_LETTER = ("template", "language", "state", "created_at")  # what it says may hold a link that is still good


async def my_exports(actor: Actor, page: Paging) -> Page[Export]:
    """One's own that can still be fetched, newest first."""
    return await exports.page({"account": actor.id, "expires_at": {"$gt": now()}}, page, sorts=("-_id",))


async def my_export(export_id: str, actor: Actor) -> Export:
    """One of them, ready. Raises NotFound, ExportNotReady."""
    found = await exports.get(export_id, {"account": actor.id, "expires_at": {"$gt": now()}})
    if found.state != "ready":
        raise rules.exports.ExportNotReady
    return found


async def content(export: Export) -> AsyncIterator[bytes]:
    """Its bytes, in pieces."""
    async for part in parts.each({"export": export.id}, sort=[("_id", 1)]):
        yield part.content


async def person(user_id: str) -> Any:
    """All that accounts has of somebody, without what is a secret."""
    account = await accounts.find({"_id": user_id})
    if account is None:
        return {}
    told: dict[str, Any] = {"account": _shown(account)}
    for name, store in OF_ACCOUNT.items():
        told[name] = [_shown(each) async for each in store.each({"account": user_id}, sort=[("_id", 1)])]
    told["memberships"] = await _memberships(user_id)
    asked = await invitations.many({"email_key": account.email_key}, sort=[("_id", 1)])
    told["invitations"] = [_shown(each, "organisation", "email", "role", "created_at", "expires_at") for each in asked]
    told["letters"] = [_shown(each, *OF_LETTER) for each in await mail.written_to(account.email)]
    kept = await factors.find({"_id": user_id})
    told["second_factor"] = {"totp": kept.totp is not None, "recovery_codes": len(kept.codes)} if kept else None
    mine = {"$or": [{"actor": user_id}, {"about": user_id}]}
    told["audit"] = [_shown(each) async for each in audit.entries.each(mine, sort=[("_id", 1)])]
    return told


async def _memberships(user_id: str) -> list[Any]:
    found = await memberships.many({"account": user_id}, sort=[("_id", 1)])
    ids = [each.organisation for each in found]
    there = {each.id: each for each in await organisations.many({"_id": {"$in": ids}})}
    known = [(each, there[each.organisation]) for each in found if each.organisation in there]
    return [{**_shown(each), "name": where.name, "slug": where.slug} for each, where in known]


def _shown(doc: msgspec.Struct, *only: str) -> Any:
    names = [name for name in only or doc.__struct_fields__ if name not in WITHHELD]
    return msgspec.to_builtins({name: getattr(doc, name) for name in names})
