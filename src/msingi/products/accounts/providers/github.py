"""GitHub, which speaks OAuth 2.0 and tells who somebody is by an API of its own."""

from typing import Annotated

from msgspec import Meta, Struct

from msingi.products.accounts.providers.answers import Endpoints, Tokens, ask
from msingi.products.accounts.providers.configured import Provider
from msingi.products.accounts.rules.identities import Told, told_of

EMAILS = 100


class User(Struct):
    id: Annotated[int, Meta(ge=1)]  # stays; a login can be renamed, and then taken by somebody else
    login: str = ""
    name: str | None = None


class Email(Struct):
    email: str
    primary: bool = False
    verified: bool = False


async def endpoints(provider: Provider) -> Endpoints:
    """Where to go."""
    return Endpoints(
        authorize=f"{provider.issuer}/login/oauth/authorize",
        token=f"{provider.issuer}/login/oauth/access_token",
        scope="read:user user:email",
        issuers=frozenset({provider.issuer, f"{provider.issuer}/login/oauth"}),
    )


async def told(provider: Provider, tokens: Tokens, nonce: str) -> Told:
    """Who it is. Of their addresses only the primary one counts, and that it is verified."""
    user = await ask(provider, f"{provider.api}/user", tokens, User)
    listed = await ask(provider, f"{provider.api}/user/emails?per_page={EMAILS}", tokens, list[Email])
    primary = next((each for each in listed if each.primary), None)
    return told_of(
        provider.name,
        provider.title,
        provider.issuer,
        str(user.id),
        email=primary.email if primary else None,
        verified=provider.vouches and primary is not None and primary.verified,
        name=user.name or user.login,
    )
