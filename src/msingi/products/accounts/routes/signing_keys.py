"""The keys that check access tokens, for everybody."""

from msingi.kit.http import get
from msingi.kit.replies import KitResponse
from msingi.products.accounts import queries
from msingi.products.accounts.schemas.signing_keys import KeysView, KeyView


@get("/.well-known/jwks.json", public=True)
async def show_keys() -> KitResponse[KeysView]:
    """The keys that check access tokens."""
    keys = [KeyView(**key.jwk()) for key in await queries.signing_keys.published_keys()]
    return KitResponse(KeysView(keys=keys), headers={"Cache-Control": "public, max-age=300"})


root_routes = [show_keys]
