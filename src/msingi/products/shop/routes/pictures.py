"""Pictures of goods, over HTTP."""

from collections.abc import Sequence
from typing import Any

from litestar import Request
from litestar.types import ControllerRouterHandler

from msingi.kit import files
from msingi.kit import pictures as making
from msingi.kit.auth import Actor
from msingi.kit.errors import Stale
from msingi.kit.files import FileMissing, OneFileOnly
from msingi.kit.http import Given, Path, delete, get, post
from msingi.kit.pictures import BrokenPicture, TooManyPixels
from msingi.kit.replies import KitResponse, created
from msingi.products.shop.actions import pictures
from msingi.products.shop.queries import pictures as seen
from msingi.products.shop.rules.pictures import PictureInUse
from msingi.products.shop.schemas.pictures import PictureView

MANAGE = "shop:catalogue"
AnyRequest = Request[Any, Any, Any]


@post(
    "/pictures",
    permission=MANAGE,
    upload=making.KINDS,
    max_body=20_000_000,
    limit="120/minute",
    idempotency="off",  # the same picture twice is one anyway
    problems=[FileMissing, OneFileOnly, BrokenPicture, TooManyPixels],
)
async def add_picture(request: AnyRequest, actor: Given[Actor]) -> KitResponse[PictureView]:
    """Send in a picture, as it is or as the one file of a form."""
    async with files.arriving(request) as arrival:
        picture = await pictures.add(arrival, actor)
    return created(PictureView.shown(picture), f"/v1/shop/pictures/{picture.id}")


@get("/pictures/{picture_id:str}", permission=MANAGE)
async def show_picture(picture_id: Path[str]) -> PictureView:
    """A picture and its addresses."""
    return PictureView.shown(await seen.picture(picture_id))


@delete("/pictures/{picture_id:str}", permission=MANAGE, problems=[PictureInUse, Stale])
async def remove_picture(picture_id: Path[str]) -> None:
    """Remove a picture that no product shows."""
    await pictures.remove(picture_id)


routes: Sequence[ControllerRouterHandler] = [add_picture, show_picture, remove_picture]
