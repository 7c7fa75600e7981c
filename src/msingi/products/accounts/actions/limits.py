"""Limits: made tighter or more generous while the house runs; every process knows within moments."""

from msingi.kit import audit, limits
from msingi.kit.auth import Actor
from msingi.kit.errors import AlreadyExists, Stale
from msingi.kit.limits import ChangedLimit, changed_limits
from msingi.kit.unit import atomic
from msingi.products.accounts import rules
from msingi.products.accounts.queries.limits import LimitNow


@atomic
async def put(before: LimitNow, limit: str, if_match: int | None, actor: Actor) -> None:
    """Let a limit be this from now on. Raises BadLimit, Stale."""
    if if_match not in (None, before.version):
        raise Stale
    rules.limits.limit_of(limit, general=before.general)
    if before.changed:
        await changed_limits.change(before.name, {"$set": {"limit": limit}}, {"version": before.version})
    else:
        await _add(ChangedLimit(id=before.name, limit=limit))
    limits.followed.changes()
    await audit.note("accounts.limit_changed", actor=actor, about=before.name, before=before.limit, limit=limit)


async def _add(changed: ChangedLimit) -> None:
    try:
        await changed_limits.add(changed)
    except AlreadyExists:
        raise Stale from None


@atomic
async def reset(before: LimitNow, actor: Actor) -> None:
    """Let a limit be what the code or a setting says. Twice is once."""
    if await changed_limits.remove_many({"_id": before.name}):
        limits.followed.changes()
        await audit.note("accounts.limit_reset", actor=actor, about=before.name, before=before.limit)
