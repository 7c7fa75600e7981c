"""Facebook, which tells an address and not whether its bearer ever proved it."""

from hashlib import sha256
from hmac import new as hmac_of
from typing import Annotated
from urllib.parse import urlencode

from msgspec import Meta, Struct

from msingi.products.accounts.providers.answers import Endpoints, Tokens, ask
from msingi.products.accounts.providers.configured import Provider
from msingi.products.accounts.rules.identities import Told, told_of

VERSION = "v21.0"


class User(Struct):
    id: Annotated[str, Meta(min_length=1, max_length=255)]
    name: str | None = None
    email: str | None = None


async def endpoints(provider: Provider) -> Endpoints:
    """Where to go."""
    return Endpoints(
        authorize=f"{provider.issuer}/{VERSION}/dialog/oauth",
        token=f"{provider.api}/{VERSION}/oauth/access_token",
        scope="email public_profile",
        issuers=frozenset({provider.issuer}),
    )


async def told(provider: Provider, tokens: Tokens, nonce: str) -> Told:
    """Who it is. The proof shows that the token is used by whom it was made for."""
    proof = hmac_of(provider.secret.encode(), tokens.access_token.encode(), sha256).hexdigest()
    query = urlencode({"fields": "id,name,email", "appsecret_proof": proof})
    user = await ask(provider, f"{provider.api}/{VERSION}/me?{query}", tokens, User)
    return told_of(
        provider.name, provider.title, provider.issuer, user.id, email=user.email, verified=False, name=user.name
    )
