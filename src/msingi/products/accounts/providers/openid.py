"""Providers that speak OpenID Connect: found by discovery, believed by the signature under an ID token."""

import warnings
from hmac import compare_digest
from time import monotonic
from typing import Annotated, Any

import msgspec
from authlib.oidc.core.util import create_half_hash
from joserfc import jws
from joserfc.errors import InvalidKeyIdError, JoseError, SecurityWarning
from joserfc.jwk import JWKRegistry, KeySet
from msgspec import Meta, Struct, field

from msingi.kit import clock, state
from msingi.products.accounts.providers.answers import Endpoints, Refused, Tokens, ask
from msingi.products.accounts.providers.configured import Address, Provider
from msingi.products.accounts.rules.identities import Told, told_of

# Signatures with a public key only: none proves nothing, and with HMAC the client's secret would sign.
ALGORITHMS = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519"),
]
SCOPE = "openid email profile"
LEEWAY = 60  # seconds that clocks may differ
KEPT = 600.0  # seconds for which an answer of discovery, and the keys, are believed
AGAIN = 10.0  # seconds between two looks for a key that is not among those that are known
Seconds = Annotated[float, Meta(gt=0, lt=1e11)]


class Metadata(Struct, frozen=True):
    """What is read of a discovery document (OpenID Connect Discovery 1.0, 3; RFC 8414; RFC 9207)."""

    issuer: str
    authorization_endpoint: Address
    token_endpoint: Address
    jwks_uri: Address
    userinfo_endpoint: Address | None = None
    token_endpoint_auth_methods_supported: list[str] = field(default_factory=lambda: ["client_secret_basic"])
    authorization_response_iss_parameter_supported: bool = False


class Claims(Struct, frozen=True):
    """What is read of an ID token (OpenID Connect Core 1.0, 2 and 5.1)."""

    iss: str
    sub: Annotated[str, Meta(min_length=1, max_length=255)]
    aud: str | list[str]
    exp: Seconds
    iat: Seconds
    auth_time: Seconds | None = None
    nonce: str = ""
    azp: str | None = None
    at_hash: str | None = None
    email: str | None = None
    email_verified: bool | str | None = None
    name: str | None = None


class UserInfo(Struct, frozen=True):
    """The same, as the userinfo endpoint says it."""

    sub: str
    email: str | None = None
    email_verified: bool | str | None = None
    name: str | None = None


class Keys(Struct):
    keys: list[dict[str, Any]]


class _Known:
    """What this process knows of the providers: their documents and keys, by issuer, and since when."""

    def __init__(self) -> None:
        self.documents: dict[str, tuple[Metadata, float]] = {}
        self.keys: dict[str, tuple[KeySet, float]] = {}


async def endpoints(provider: Provider) -> Endpoints:
    """Where to go, as the provider's discovery document says."""
    found = await _metadata(provider)
    return Endpoints(
        authorize=found.authorization_endpoint,
        token=found.token_endpoint,
        scope=SCOPE,
        issuers=frozenset({found.issuer}),
        names_itself=found.authorization_response_iss_parameter_supported,
        methods=found.token_endpoint_auth_methods_supported,
    )


async def _metadata(provider: Provider) -> Metadata:
    documents = state.part(_Known).documents
    known = documents.get(provider.issuer)
    if known is not None and monotonic() - known[1] < KEPT:
        return known[0]
    url = f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration"
    found = await ask(provider, url, None, Metadata)
    if found.issuer != provider.issuer:
        raise Refused("the discovery document is another issuer's")
    documents[provider.issuer] = (found, monotonic())
    return found


async def told(provider: Provider, tokens: Tokens, nonce: str) -> Told:
    """Who it is: by the ID token, and for an address that is not in it by the userinfo endpoint."""
    metadata = await _metadata(provider)
    claims, algorithm = await _verified(provider, metadata, tokens.id_token)
    _check(claims, provider, nonce, int(clock.seconds()))
    if claims.at_hash is not None and not _is_half_hash(claims.at_hash, tokens.access_token, algorithm):
        raise Refused("at_hash")
    said: Claims | UserInfo = claims
    if claims.email is None and metadata.userinfo_endpoint:
        said = await ask(provider, metadata.userinfo_endpoint, tokens, UserInfo)
        if said.sub != claims.sub:
            raise Refused("userinfo is about somebody else")
    return told_of(
        provider.name,
        provider.title,
        provider.issuer,
        claims.sub,
        email=said.email,
        # Some say it in letters, against the specification.
        verified=provider.vouches and (said.email_verified is True or said.email_verified == "true"),
        name=said.name or claims.name,
        signed_in_at=int(claims.auth_time or 0),
    )


async def _verified(provider: Provider, metadata: Metadata, token: str) -> tuple[Claims, str]:
    """The claims under a good signature, and how it was made. An unknown key is looked for once more."""
    if not token:
        raise Refused("no ID token")
    for again in (False, True):
        keys = await _keys(provider, metadata, again)
        try:
            with warnings.catch_warnings():
                # EdDSA has a more exact name since RFC 9864, and most still use the old one.
                warnings.simplefilter("ignore", SecurityWarning)
                signed = jws.deserialize_compact(token, keys, algorithms=ALGORITHMS)
        except InvalidKeyIdError:
            continue
        except (JoseError, ValueError, TypeError) as fault:
            raise Refused(f"the ID token's signature: {type(fault).__name__}") from None
        return msgspec.json.decode(signed.payload, type=Claims), str(signed.headers()["alg"])
    raise Refused("the ID token names an unknown key")


async def _keys(provider: Provider, metadata: Metadata, again: bool) -> KeySet:
    known = state.part(_Known).keys
    kept = known.get(provider.issuer)
    if kept is not None and monotonic() - kept[1] < (AGAIN if again else KEPT):
        return kept[0]
    listed = await ask(provider, metadata.jwks_uri, None, Keys)
    keys = KeySet([key for each in listed.keys if (key := _key(each)) is not None])
    known[provider.issuer] = (keys, monotonic())
    return keys


def _key(said: dict[str, Any]) -> Any:
    """A public key for signatures; None for whatever else is listed, which is none of ours to judge."""
    if said.get("use", "sig") != "sig" or said.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)
            return JWKRegistry.import_key(said)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _check(claims: Claims, provider: Provider, nonce: str, at: int) -> None:
    """OpenID Connect Core 1.0, 3.1.3.7. Raises Refused."""
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if claims.iss != provider.issuer:
        raise Refused("iss of the ID token")
    if provider.client not in audiences or (len(audiences) > 1 and claims.azp is None):
        raise Refused("aud")
    if claims.azp not in (None, provider.client):
        raise Refused("azp")
    if at > claims.exp + LEEWAY:
        raise Refused("exp")
    if claims.iat > at + LEEWAY:
        raise Refused("iat")
    if not compare_digest(claims.nonce.encode(), nonce.encode()):
        raise Refused("nonce")


def _is_half_hash(given: str, token: str, algorithm: str) -> bool:
    wanted: bytes | None = create_half_hash(token, "EdDSA" if algorithm == "Ed25519" else algorithm)
    return wanted is not None and compare_digest(wanted, given.encode())
