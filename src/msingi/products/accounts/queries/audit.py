"""The audit log: all of it for those who may, one's own for everybody."""

from msingi.kit import audit
from msingi.kit.audit import Entry
from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where


async def entries(where: Where, page: Paging) -> Page[Entry]:
    """Everything, newest first: for those who may read it, which the route sees to."""
    return await audit.entries.page(where, page, sorts=("-_id",))


async def my_entries(actor: Actor, where: Where, page: Paging) -> Page[Entry]:
    """What the actor did, and what was done to their account."""
    mine: Where = {"$or": [{"actor": actor.id}, {"about": actor.id}]}
    return await audit.entries.page(mine, page, sorts=("-_id",), also=where)
