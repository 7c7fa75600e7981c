"""What may be done with pictures: they are sent in, put on products, removed.

The document decides. It is there before its files are and goes after them, so no file is ever without one; and while
it is `coming` or `going` only one side works on it, so no picture is ever without its files.
"""

from collections.abc import Collection

from msingi.kit import files
from msingi.kit import pictures as making
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import AlreadyExists, Busy, NotFound, Stale
from msingi.kit.files import Arrival
from msingi.kit.unit import atomic, guarded
from msingi.products.shop.models.pictures import KeptPicture, pictures
from msingi.products.shop.queries import pictures as queries
from msingi.products.shop.rules import pictures as rules


async def add(arrival: Arrival, by: Actor) -> KeptPicture:
    """Make pictures of one that was sent in, and keep them; one that is there already is as good as new.

    Raises what kit.pictures does; Busy while it is just being removed.
    """
    there = await _use_again(arrival.digest)
    if there is not None and there.stage == "there":
        return there
    made = await making.make(arrival)
    noted = await _note(
        KeptPicture(
            id=arrival.digest,
            file=made.largest.name,
            width=made.width,
            height=made.height,
            sizes={str(width): piece.name for width, piece in made.sizes.items()},
            jpeg=made.fallback.name,
            by=by.id,
        )
    )
    if noted.stage == "there":  # another was faster
        return noted
    await making.keep(made, arrival.digest)
    return await _arrived(noted.id)


async def _note(new: KeptPicture) -> KeptPicture:
    try:
        return await _insert(new)
    except AlreadyExists:
        there = await _use_again(new.id)
        if there is None:
            raise Busy(retry_after=1) from None
        return there


@guarded
async def _insert(new: KeptPicture) -> KeptPicture:
    return await pictures.add(new)


async def _use_again(id: str) -> KeptPicture | None:
    """Note that it is wanted, so that nobody sweeps it; None if there is none. Raises Busy while it is going."""
    try:
        return await _touch(id)
    except NotFound:
        return None


@guarded
async def _touch(id: str) -> KeptPicture:
    there = await queries.find(id)
    if there is None:
        raise NotFound
    busy = Busy(retry_after=1)
    return await pictures.change(id, {"$set": {"used_at": now()}}, when={"stage": {"$ne": "going"}}, otherwise=busy)


@guarded
async def _arrived(id: str) -> KeptPicture:
    return await pictures.change(id, {"$set": {"stage": "there"}}, when={"stage": {"$in": ["coming", "there"]}})


@atomic
async def put_on(names: Collection[str]) -> dict[str, KeptPicture]:
    """Note that a product shows these files from now on: part of the action that has it show them.

    The note changes the picture's version, and a sweep lets go of none but the version that it found unused: one of the
    two has to give way. Returns them by name. Raises UnknownPicture for what is not there, or about to go.
    """
    there = {"file": {"$in": sorted(names)}, "stage": "there"}
    found = {each.file: each for each in await pictures.many(there)}
    for name in names:
        if name not in found:
            raise rules.UnknownPicture(file=name)
    await pictures.change_many(there, {"$set": {"used_at": now()}})
    return found


@atomic
async def take_off(names: Collection[str]) -> None:
    """Note that a product showed these files until now, so that they stay for a day."""
    await pictures.change_many({"file": {"$in": sorted(names)}, "stage": "there"}, {"$set": {"used_at": now()}})


async def remove(id: str) -> None:
    """Remove a picture that no product shows. Raises NotFound, PictureInUse, Stale."""
    picture = await queries.picture(id)
    if await queries.is_shown(picture):
        raise rules.PictureInUse
    await _clear(await _let_go(picture))


async def sweep() -> int:
    """Remove what no product has shown for a day, and what was left half; returns how many."""
    count = 0
    for id in await queries.unused(now() - rules.UNUSED_FOR):
        picture = await queries.find(id)
        if picture is not None:
            count += await _swept(picture)
    return count


async def _swept(picture: KeptPicture) -> bool:
    try:
        if picture.stage != "going":
            if picture.used_at >= now() - rules.UNUSED_FOR:
                return False
            picture = await _let_go(picture)
        await _clear(picture)
    except Stale:  # somebody uses it after all, or removes it at this moment
        return False
    return True


@guarded
async def _let_go(picture: KeptPicture) -> KeptPicture:
    """From here on nobody can use it. Only the very version that was found unused: whoever uses it changes that."""
    return await pictures.change(picture.id, {"$set": {"stage": "going"}}, when={"version": picture.version})


async def _clear(picture: KeptPicture) -> None:
    for name in picture.files:
        await files.remove(name)
    await _forget(picture)


@guarded
async def _forget(picture: KeptPicture) -> None:
    await pictures.remove(picture)
