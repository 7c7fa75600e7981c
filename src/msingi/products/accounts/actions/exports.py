"""Taking away all that the house has of oneself: asked for, put together by a job, kept for a week."""

import asyncio
import io
import zipfile
from datetime import timedelta
from typing import Any

import msgspec

from msingi.kit import audit, exports
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import NotFound, Stale
from msingi.kit.jobs import job
from msingi.kit.unit import atomic
from msingi.products.accounts.actions import letters
from msingi.products.accounts.models.exports import Export, Part, parts
from msingi.products.accounts.models.exports import exports as kept
from msingi.products.accounts.models.people import accounts

KEPT = timedelta(days=7)
MOST = 3  # files of one person
PART = 4_000_000  # bytes of one document


@atomic
async def ask(actor: Actor) -> Export:
    """Ask for it. Who asks while one is being put together gets that one; of those before MOST are kept."""
    account = await accounts.get(actor.id)
    under_way = await kept.find({"account": actor.id, "state": "waiting", "expires_at": {"$gt": now()}})
    if under_way is not None:
        await put_together.later(under_way.id)  # the job of it may have been given up meanwhile
        return under_way
    for old in (await kept.many({"account": actor.id}, sort=[("_id", -1)]))[MOST - 1 :]:
        await parts.remove_many({"export": old.id})
        await kept.remove(old)
    export = await kept.add(Export(account=actor.id, language=account.language, expires_at=now() + KEPT))
    await audit.note("accounts.export_asked", actor=actor, about=actor.id, export=export.id)
    await put_together.later(export.id)
    return export


@job(retries=10, timeout=600, unique=lambda export_id: export_id)
async def put_together(export_id: str) -> None:
    """Ask every product, and keep what they say. Doing it again makes it anew."""
    export = await kept.find({"_id": export_id, "state": "waiting"})
    if export is None or await accounts.find({"_id": export.account}) is None:
        return
    told = await exports.gather(export.account)
    await _keep(export, await asyncio.to_thread(_zipped, told))


def _zipped(told: dict[str, Any]) -> bytes:
    """A file for each product."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, said in told.items():
            archive.writestr(f"{name}.json", msgspec.json.format(msgspec.json.encode(said), indent=2))
    return file.getvalue()


@atomic
async def _keep(export: Export, file: bytes) -> None:
    pieces = [file[at : at + PART] for at in range(0, len(file), PART)]
    try:
        await kept.change(
            export.id,
            {"$set": {"state": "ready", "ready_at": now(), "parts": len(pieces), "size": len(file)}},
            {"state": "waiting"},
        )
        account = await accounts.get(export.account)
    except (Stale, NotFound):  # somebody was faster, or the person is gone
        return
    for number, piece in enumerate(pieces):
        id = f"{export.id}/{number:06d}"
        await parts.add(
            Part(id=id, export=export.id, account=export.account, content=piece, expires_at=export.expires_at)
        )
    await letters.write("export_ready", account, link=letters.link_to(f"/v1/accounts/me/exports/{export.id}"))
    await audit.note("accounts.export_ready", actor=None, about=export.account, export=export.id)
