"""The chain of the audit log: each entry is linked to the one before it, so that none is changed or taken out unseen.

A link is an HMAC over the link before it, the entry's place and its mark: who has the database alone can make none. The
last link is kept in a point of its own, and once a day goes to the log of the process: with that, which somebody else
keeps, it also shows when all of the database was set back to an earlier state.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest, digest

import structlog
from msgspec import Struct
from pymongo import UpdateOne

from msingi.kit import leases, sealing, state
from msingi.kit.audit import Entry, Point, entries, mark_of, points
from msingi.kit.clock import now
from msingi.kit.db import session
from msingi.kit.errors import AlreadyExists, Stale
from msingi.kit.unit import atomic

HEAD, FLOOR = "head", "floor"
BATCH = 500
PAUSE = 0.25  # seconds between two looks for what is not yet linked
RETIRED = 3600.0  # seconds between two looks for what is too old
ORIGIN = bytes(32)
log = structlog.get_logger("audit")


# ---- linking


async def run() -> None:
    """Link what comes, as long as the process lives; of several workers one does."""
    while True:
        await leases.holding("audit", _keep_linking)
        await asyncio.sleep(1)


async def _keep_linking() -> None:
    loop = asyncio.get_running_loop()
    retired_at = loop.time() - RETIRED
    while True:
        while await link_some():
            pass
        if loop.time() - retired_at >= RETIRED:
            await retire()
            retired_at = loop.time()
        await asyncio.sleep(PAUSE)


async def link_some() -> int:
    """Link a batch of what is not yet linked; returns how many. Whoever did it meanwhile did it."""
    found = await entries.many({"seq": 0}, sort=[("_id", 1)], limit=BATCH)
    if not found:
        return 0
    try:
        head = await _link(found)
    except (Stale, AlreadyExists):
        return 0
    await _anchor(head)
    return len(found)


@atomic
async def _link(found: Sequence[Entry]) -> Point:
    head = await points.find({"_id": HEAD})
    seq, link = (head.seq, head.link) if head else (0, ORIGIN)
    changes = []
    for entry in found:
        if compare_digest(entry.mark, mark_of(entry)):
            seq, link = seq + 1, _linked(link, seq + 1, entry.mark)
            changes.append(UpdateOne({"_id": entry.id, "seq": 0}, {"$set": {"seq": seq, "link": link}}))
        else:
            log.error("audit_entry_forged", entry=entry.id)
            changes.append(UpdateOne({"_id": entry.id, "seq": 0}, {"$set": {"seq": -1}}))
    done = await entries.raw.bulk_write(changes, session=session())
    if done.modified_count != len(found):
        raise Stale
    point = _point(HEAD, seq, link)
    if head is None:
        return await points.add(point)
    return await points.change(
        HEAD, {"$set": {"seq": seq, "link": link, "mark": point.mark}}, {"seq": head.seq, "link": head.link}
    )


async def _anchor(head: Point) -> None:
    """Note once a day where the chain stands."""
    day = f"{now():%Y-%m-%d}"
    if await points.exists({"_id": day}):
        return
    try:
        await _keep(_point(day, head.seq, head.link))
    except AlreadyExists:
        return
    log.info("audit_anchor", day=day, anchor=f"{head.seq}:{head.link.hex()}")


@atomic
async def _keep(point: Point) -> None:
    await points.add(point)


# ---- letting go of the oldest


async def retire() -> int:
    """Remove what is older than MSINGI_AUDIT_DAYS, and note where the chain begins now; returns how many."""
    youngest = now() - timedelta(days=state.settings().audit_days)
    kept = await entries.find({"seq": {"$gt": 0}, "created_at": {"$gte": youngest}}, sort=[("seq", 1)])
    last = await entries.find({"seq": {"$gt": 0, **({"$lt": kept.seq} if kept else {})}}, sort=[("seq", -1)])
    return await _remove_to(last) if last else 0


@atomic
async def _remove_to(last: Entry) -> int:
    point = _point(FLOOR, last.seq, last.link)
    if await points.exists({"_id": FLOOR}):
        await points.change(FLOOR, {"$set": {"seq": point.seq, "link": point.link, "mark": point.mark}})
    else:
        await points.add(point)
    await points.remove_many({"_id": {"$nin": [HEAD, FLOOR]}, "seq": {"$lt": last.seq}})
    return await entries.remove_many({"seq": {"$gt": 0, "$lte": last.seq}})


# ---- verifying


class Verdict(Struct, frozen=True):
    """What `verify` found: how many entries are whole, and the first thing that is not as it was written, if any is."""

    checked: int
    anchor: str  # `<seq>:<link>` of the last entry
    fault: str = ""


async def verify(anchor: str = "") -> Verdict:
    """Walk the chain from its beginning. `anchor` is one that was kept elsewhere, as `audit_anchor` in the log told it.

    What is not yet linked, which is younger than a second, is only looked at for its mark.
    """
    floor = await points.find({"_id": FLOOR})
    verdict = await _walk(floor, anchor)
    now_floor = await points.find({"_id": FLOOR})
    if verdict.fault and now_floor != floor:  # what was too old was removed meanwhile
        return await _walk(now_floor, anchor)
    return verdict


async def _walk(floor: Point | None, anchor: str) -> Verdict:
    head = await points.find({"_id": HEAD})
    days = await points.many({"_id": {"$nin": [HEAD, FLOOR]}}, limit=10_000)
    for point in (floor, head, *days):
        if point and not compare_digest(point.mark, _point(point.id, point.seq, point.link).mark):
            return Verdict(0, "", f"the point {point.id} was edited")
    seq, link = (floor.seq, floor.link) if floor else (0, ORIGIN)
    began = seq
    known = {each.seq: each.link for each in (*days, *((head,) if head else ()))}
    reached = max(known, default=0)  # the head of an earlier hour, put back, does not hide what a day's point names
    wanted, wanted_link = _read(anchor)
    async for entry in entries.each({"seq": {"$gt": seq, "$lte": reached}}, sort=[("seq", 1)]):
        fault = _fault_of(entry, seq, link)
        seq, link = entry.seq, entry.link
        if not fault and seq in known and known[seq] != link:
            fault = f"entry {seq} ({entry.id}) is not the one that a point of the chain names"
        if not fault and seq == wanted and link != wanted_link:
            fault = f"entry {seq} ({entry.id}) is not the one that the anchor names"
        if fault:
            return Verdict(seq - began - 1, f"{seq - 1}", fault)
    told = f"{seq}:{link.hex()}"
    if reached > seq:
        return Verdict(seq - began, told, f"the entries after {seq} were deleted: the chain reached {reached}")
    if wanted > seq:
        return Verdict(seq - began, told, f"the entries after {seq} were deleted: the anchor names {wanted}")
    return Verdict(seq - began, told, await _foreign(reached))


def _fault_of(entry: Entry, seq: int, link: bytes) -> str:
    """What is wrong with the entry that follows a link, if anything is."""
    if entry.seq != seq + 1:
        return f"entry {seq + 1} was deleted"
    if not compare_digest(entry.mark, mark_of(entry)):
        return f"entry {entry.seq} ({entry.id}) was edited"
    if not compare_digest(entry.link, _linked(link, entry.seq, entry.mark)):
        return f"entry {entry.seq} ({entry.id}) stands where another stood"
    return ""


async def _foreign(reached: int) -> str:
    """An entry that is in the collection and neither the chain's nor waiting for its link, if there is one."""
    head = await points.find({"_id": HEAD})  # the chain may have grown meanwhile
    beyond = await entries.find({"seq": {"$gt": max(reached, head.seq if head else 0)}}, sort=[("seq", 1)])
    if beyond is not None:
        return f"entry {beyond.seq} ({beyond.id}) was inserted"
    async for entry in entries.each({"seq": {"$lte": 0}}, sort=[("seq", 1), ("_id", 1)]):
        if not compare_digest(entry.mark, mark_of(entry)):
            return f"entry {entry.id} was inserted, or edited before it was linked"
        if entry.seq < 0:
            return f"entry {entry.id} was kept out of the chain"
    return ""


def _read(anchor: str) -> tuple[int, bytes]:
    seq, _, link = anchor.partition(":")
    return (int(seq), bytes.fromhex(link)) if anchor else (0, b"")


def _linked(before: bytes, seq: int, mark: bytes) -> bytes:
    return _keyed(before + seq.to_bytes(8, "big") + mark)


def _point(id: str, seq: int, link: bytes) -> Point:
    return Point(id=id, seq=seq, link=link, mark=_keyed(f"point {id} {seq} ".encode() + link))


def _keyed(said: bytes) -> bytes:
    return digest(sealing.key_for("kit.audit_chain").raw, said, sha256)
