"""Six digits to a phone: good for five minutes, five tries, one use, and only the newest of them."""

import secrets
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest, digest

from msgspec import Struct

from msingi.kit.clock import now
from msingi.kit.errors import Stale
from msingi.kit.ids import new_id
from msingi.kit.sealing import key_for
from msingi.kit.unit import guarded
from msingi.products.accounts.models.codes import Code, Purpose, codes

GOOD_FOR = timedelta(minutes=5)
MOST_TRIES = 5


class Issued(Struct, frozen=True):
    """A code with its digits in the clear."""

    code: Code
    digits: str


async def issue(purpose: Purpose, whose: str, phone: bytes = b"") -> Issued:
    """A new code, in the @atomic unit under way; earlier ones are void."""
    await codes.change_many({"purpose": purpose, "whose": whose, "used_at": None}, {"$set": {"used_at": now()}})
    id, digits = new_id(), f"{secrets.randbelow(1_000_000):06d}"
    code = Code(
        id=id,
        purpose=purpose,
        whose=whose,
        secret=_kept(id, digits),
        phone=phone,
        expires_at=now() + GOOD_FOR,
    )
    return Issued(await codes.add(code), digits)


async def tried(purpose: Purpose, whose: str, digits: str) -> Code | None:
    """The code, if these are its digits; the try is counted before they are compared, whatever comes after it.

    Belongs outside of a unit, which could take the count back. It does not use the code up: that is `use`.
    """
    newest = await codes.find({"purpose": purpose, "whose": whose}, sort=[("_id", -1)])
    with suppress(Stale):
        if newest is not None and newest.expires_at > now():
            code = await _count(newest.id)
            return code if compare_digest(code.secret, _kept(code.id, digits)) else None
    return None


@guarded
async def _count(id: str) -> Code:
    return await codes.change(id, {"$inc": {"tries": 1}}, {"used_at": None, "tries": {"$lt": MOST_TRIES}})


@guarded
async def use(code: Code) -> Code:
    """Use it up; of many who try at once one succeeds. Raises Stale."""
    return await codes.change(code.id, {"$set": {"used_at": now()}}, {"used_at": None})


def _kept(id: str, digits: str) -> bytes:
    return digest(key_for("accounts.codes").raw, f"{id} {digits}".encode("utf-8", "replace"), sha256)
