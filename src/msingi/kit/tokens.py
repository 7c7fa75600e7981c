"""Access tokens: signed with Ed25519, believed only if exactly right, and looked at once.

A strict check of our own (security.md B1, after RFC 8725 and RFC 9068): general libraries were seen to accept another
`typ`, an `exp` that is text, a list of audiences and doubled members. The whole check costs some 200 µs; a token that
was checked before costs two, until it expires.
"""

import asyncio
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from time import monotonic
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Meta, Struct

from msingi.kit import clock, fetch, state
from msingi.kit.actors import Actor
from msingi.kit.errors import Busy, Problem
from msingi.kit.ids import new_id

LIFETIME = 600  # seconds: no token is believed for longer, whatever it says
LEEWAY = 5  # seconds by which the clock of who signed may be ahead of ours
LONGEST = 4096  # characters
REMEMBERED = 20_000  # tokens of which a process knows that they are right
REFETCH = 60.0  # seconds between two askings for keys that we do not have
SHAPE = re.compile(r"[A-Za-z0-9_-]{1,512}\.[A-Za-z0-9_-]{1,3400}\.[A-Za-z0-9_-]{86}")
C = TypeVar("C")
log = structlog.get_logger("tokens")


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The only header there is. `jwk`, `jku`, `x5c` and `crit` are unknown members, hence refused."""

    alg: Literal["EdDSA"]
    typ: Literal["at+jwt"]
    kid: Annotated[str, Meta(min_length=1, max_length=64)]


class Acting(Struct, frozen=True):
    """Who acts in the name of a token's subject (RFC 8693, 4.1)."""

    sub: str


class Claims(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a token says: whose it is, of which session, when, and with which roles. Times are seconds since 1970."""

    iss: str
    aud: str
    sub: Annotated[str, Meta(min_length=1, max_length=64)]
    sid: Annotated[str, Meta(min_length=1, max_length=64)]
    jti: Annotated[str, Meta(min_length=1, max_length=64)]
    iat: int
    nbf: int
    exp: int
    tv: int = 0  # the account's token version
    amr: list[str] = []
    auth_time: int = 0
    roles: list[str] = []
    scope: str | None = None  # what a program of somebody else's may do; absent: whatever the person may
    client_id: str = ""
    act: Acting | None = None
    name: str = ""


class PublicKey(Struct, frozen=True):
    """A key that checks signatures, under the id that is the thumbprint of RFC 7638."""

    kid: str
    raw: bytes

    @staticmethod
    def of(raw: bytes) -> "PublicKey":
        """The public key of 32 bytes, with its id."""
        canonical = b'{"crv":"Ed25519","kty":"OKP","x":"%s"}' % _text(raw)
        return PublicKey(_text(sha256(canonical).digest()).decode(), raw)

    def jwk(self) -> dict[str, str]:
        """The key as a member of a JWKS (RFC 8037)."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": self.kid,
            "use": "sig",
            "alg": "EdDSA",
            "x": _text(self.raw).decode(),
        }


class SigningKey:
    """A key that signs, with its public half in `public`."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self.private = private
        self.public = PublicKey.of(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @staticmethod
    def generate() -> "SigningKey":
        """A new key, from the system's source of chance."""
        return SigningKey(Ed25519PrivateKey.generate())

    @staticmethod
    def from_bytes(raw: bytes) -> "SigningKey":
        """The key of these 32 private bytes."""
        return SigningKey(Ed25519PrivateKey.from_private_bytes(raw))

    def private_bytes(self) -> bytes:
        """The 32 bytes to keep, sealed."""
        return self.private.private_bytes_raw()


# ---- signing


def token_for(actor: Actor, key: SigningKey, *, lifetime: int = LIFETIME) -> str:
    """An access token with which `actor` may come for `lifetime` seconds. Without a session it gets one of its own."""
    issuer, at = state.settings().issuer, int(clock.now().timestamp())
    claims = Claims(
        iss=issuer,
        aud=audience_of(issuer),
        sub=actor.id,
        sid=actor.session or new_id(),
        jti=new_id(),
        iat=at,
        nbf=at,
        exp=at + lifetime,
        tv=actor.version,
        amr=sorted(actor.methods),
        auth_time=actor.signed_in_at or at,
        roles=sorted(actor.roles),
        scope=None if actor.scopes is None else " ".join(sorted(actor.scopes)),
        client_id=actor.client,
        act=Acting(actor.acting) if actor.acting else None,
        name=actor.name,
    )
    return sign(claims, key)


def sign(claims: Claims, key: SigningKey) -> str:
    """The token that says `claims`."""
    return signed("at+jwt", claims, key)


def signed(kind: str, claims: Struct, key: SigningKey) -> str:
    """A JWT of another kind (`typ`), for whom it may concern: nothing here takes it for an access token."""
    header = msgspec.json.encode({"alg": "EdDSA", "typ": kind, "kid": key.public.kid})
    said = _text(header) + b"." + _text(msgspec.json.encode(claims))
    return (said + b"." + _text(key.private.sign(said))).decode()


def audience_of(issuer: str) -> str:
    """For whom an issuer's access tokens are meant: the products' HTTP faces."""
    return f"{issuer}/api"


# ---- believing


class _Refused(Exception):
    """Not a token of ours; why is nobody's business."""


async def identify_token(token: str) -> Actor | None:
    """Who shows this access token, or None if anything about it is not exactly right."""
    shown = token.encode("utf-8", "replace")
    actor = known_actor(shown)
    if actor is None:
        actor = await _verified(token)
        if actor is None or actor.expires_at <= clock.seconds():
            return None
        state.part(_Known).remember(sha256(shown).digest(), actor)
    return actor


def known_actor(token: bytes) -> Actor | None:
    """Who shows this access token, if this process has checked it before and it is still good: without waiting."""
    known = state.part(_Known).actors
    digest = sha256(token).digest()
    actor = known.get(digest)
    if actor is not None and actor.expires_at <= clock.seconds():
        del known[digest]
        return None
    return actor


class _Known:
    """The tokens that this process has checked, by their hash: the oldest go first."""

    def __init__(self) -> None:
        self.actors: dict[bytes, Actor] = {}

    def remember(self, digest: bytes, actor: Actor) -> None:
        while len(self.actors) >= REMEMBERED:
            del self.actors[next(iter(self.actors))]
        self.actors[digest] = actor


async def _verified(token: str) -> Actor | None:
    try:
        return _actor_of(await _verify(token))
    except _Refused:
        return None


def _actor_of(claims: Claims) -> Actor:
    return Actor(
        id=claims.sub,
        name=claims.name,
        roles=frozenset(claims.roles),
        session=claims.sid,
        version=claims.tv,
        signed_in_at=claims.auth_time,
        expires_at=claims.exp,
        methods=frozenset(claims.amr),
        acting=claims.act.sub if claims.act else "",
        client=claims.client_id,
        scopes=None if claims.scope is None else frozenset(claims.scope.split()),
    )


async def read_signed(token: str, header: type[Any], claims: type[C]) -> C | None:
    """What a JWT of another kind says, if one of our keys signed it; whether it is still good is for the caller to see.

    `header` names the only header it may have, as `Header` does for access tokens.
    """
    try:
        return _strict(await _payload(token, header), claims)
    except _Refused:
        return None


async def _verify(token: str) -> Claims:
    claims = _strict(await _payload(token, Header), Claims)
    _check(claims)
    return claims


async def _payload(token: str, kind: type[Any]) -> bytes:
    """What one of our keys signed, with such a header."""
    header, payload, signature, said = _parts(token)
    key = await ring().find(_strict(header, kind).kid)
    if key is None:
        raise _Refused
    try:
        key.verify(signature, said)
    except InvalidSignature:
        raise _Refused from None
    return payload


def _parts(token: str) -> tuple[bytes, bytes, bytes, bytes]:
    if len(token) > LONGEST or not SHAPE.fullmatch(token):
        raise _Refused
    header, payload, signature = (_bytes(part) for part in token.split("."))
    return header, payload, signature, token.rpartition(".")[0].encode()


def _bytes(text: str) -> bytes:
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise _Refused from None
    if _text(raw).decode() != text:  # spare bits that are not zero: another spelling of the same token
        raise _Refused
    return raw


def _strict(raw: bytes, kind: type[C]) -> C:
    """JSON as a Struct, with each member once and each number an integer."""
    try:
        found = msgspec.json.decode(raw, type=kind)
        json.loads(raw, object_pairs_hook=_once, parse_float=_never, parse_constant=_never)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _Refused from None
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused
    return found


def _never(text: str) -> Any:
    raise _Refused


def _check(claims: Claims) -> None:
    issuer, at = state.settings().issuer, clock.seconds()
    right = (
        claims.iss == issuer
        and claims.aud == audience_of(issuer)
        and claims.iat <= at + LEEWAY
        and claims.nbf <= at + LEEWAY
        and at < claims.exp <= claims.nbf + LIFETIME
        and claims.exp <= claims.iat + LIFETIME + LEEWAY
    )
    if not right:
        raise _Refused


# ---- the keys


Load = Callable[[], Awaitable[Iterable[PublicKey]]]
_loads: list[Load] = []


def load_keys_with(load: Load) -> None:
    """Register where public keys come from: the product that keeps them, or who fetches its `jwks.json`."""
    _loads[:] = [load]


class _Jwk(Struct):
    """What is needed of one key of a JWKS."""

    kty: str
    crv: str = ""
    x: str = ""


class _Jwks(Struct):
    keys: list[_Jwk]


async def keys_at_address() -> list[PublicKey]:
    """The Ed25519 keys that MSINGI_JWKS_URL publishes. Raises Busy (503) while they cannot be had."""
    url = state.settings().jwks_url
    try:
        reply = await fetch.get(url)
        published = msgspec.json.decode(reply.body, type=_Jwks) if reply.status == 200 else None
        if published is None:
            raise Busy(retry_after=2)
        return [PublicKey.of(_bytes(key.x)) for key in published.keys if (key.kty, key.crv) == ("OKP", "Ed25519")]
    except (fetch.Unreachable, fetch.ReplyTooLarge, msgspec.MsgspecError, _Refused) as fault:
        log.error("keys_not_to_be_had", url=url, error=type(fault).__name__)
        raise Busy(retry_after=2) from fault


class KeyRing:
    """The public keys that this process knows, by their id."""

    def __init__(self) -> None:
        self.loaded: dict[str, Ed25519PublicKey] = {}
        self.added: dict[str, Ed25519PublicKey] = {}
        self.asked_at = -REFETCH
        self.lock = asyncio.Lock()

    def add(self, key: PublicKey) -> None:
        """Know a key that no source tells of."""
        self.added[key.kid] = Ed25519PublicKey.from_public_bytes(key.raw)

    async def find(self, kid: str) -> Ed25519PublicKey | None:
        """The key of this id. One that is unknown is asked for, at most once in REFETCH seconds."""
        key = self._held(kid)
        if key is None and _loads:
            async with self.lock:
                if self._held(kid) is None and monotonic() - self.asked_at >= REFETCH:
                    self.asked_at = monotonic()
                    try:
                        await self.reload()
                    except Problem:
                        self.asked_at -= REFETCH - 2  # the source was away: it may be back soon
                        raise
            key = self._held(kid)
        return key

    async def reload(self) -> None:
        """Know the keys that the source tells of now, and of those no others."""
        if not _loads:
            return
        keys = {key.kid: Ed25519PublicKey.from_public_bytes(key.raw) for key in await _loads[0]()}
        if self.loaded.keys() - keys.keys():
            state.part(_Known).actors.clear()  # some of them may be signed with a key that is gone
        self.loaded = keys
        log.debug("keys_loaded", kids=sorted(self.loaded))

    def _held(self, kid: str) -> Ed25519PublicKey | None:
        return self.loaded.get(kid) or self.added.get(kid)


def ring() -> KeyRing:
    """This process's keys."""
    return state.part(KeyRing)


def _text(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")
