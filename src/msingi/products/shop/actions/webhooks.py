"""What the shop does about webhooks beside sending them: whoever made an endpoint is told that it was turned off."""

from contextlib import suppress

import httpx

from msingi.kit import mail
from msingi.kit.errors import Stale
from msingi.kit.unit import atomic
from msingi.kit.webhooks.models import Endpoint
from msingi.products.accounts.contract import Person
from msingi.products.shop.hooks import hooks


async def tell_owner(endpoint: Endpoint, owner: Person) -> None:
    """Write to them, once for each time that the house turned it off."""
    with suppress(Stale):
        await _tell(endpoint, owner)


@atomic
async def _tell(endpoint: Endpoint, owner: Person) -> None:
    untold = {"owner_told": False, "off": {"$in": ["failing", "gone"]}}
    await hooks.endpoints.change(endpoint.id, {"$set": {"owner_told": True}}, when=untold)
    await mail.send(
        "webhook_off",
        to=owner.email,
        language=owner.language,
        name=owner.name,
        host=httpx.URL(endpoint.url).host,  # what follows it may be a secret
        note=endpoint.note,
        endpoint_id=endpoint.id,
        reason=endpoint.off,
    )
