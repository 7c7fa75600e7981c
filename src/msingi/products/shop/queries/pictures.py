"""Which pictures there are, and which of them nobody uses."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from msingi.products.shop.models.catalogue import products
from msingi.products.shop.models.pictures import KeptPicture, pictures

AT_ONCE = 500


async def picture(id: str) -> KeptPicture:
    """One that is there. Raises NotFound."""
    return await pictures.get(id, {"stage": "there"})


async def find(id: str) -> KeptPicture | None:
    """One at whatever stage, or None."""
    return await pictures.find({"_id": id})


async def is_shown(picture: KeptPicture) -> bool:
    """Whether a product shows it."""
    return await products.exists({"pictures.file": picture.file})


class Found(Struct):
    """A picture's id."""

    id: str = field(name="_id")


async def unused(since: datetime) -> Sequence[str]:
    """Some of those that no product shows and nobody has used since, and of those that are half gone."""
    showing: dict[str, Any] = {
        "from": products.name,
        "localField": "file",
        "foreignField": "pictures.file",
        "pipeline": [{"$limit": 1}, {"$project": {"_id": 1}}],
        "as": "shown",
    }
    stages: list[dict[str, Any]] = [
        {"$match": {"$or": [{"used_at": {"$lt": since}}, {"stage": "going"}]}},
        {"$lookup": showing},
        {"$match": {"shown": []}},
        {"$limit": AT_ONCE},
        {"$project": {"_id": 1}},
    ]
    return [each.id for each in await pictures.aggregate(stages, Found)]
