"""Access tokens: what is believed, and everything that is not; and what the house seals for itself."""

import asyncio
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from hashlib import sha256
from time import time
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import clock, sealing, tokens
from msingi.kit.actors import Actor
from msingi.kit.state import State
from msingi.kit.tokens import PublicKey, SigningKey, identify_token, ring, token_for

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
ANN = Actor(id="ann", name="Ann", roles=frozenset({"user"}), session="phone", version=3)
HEADER = {"alg": "EdDSA", "typ": "at+jwt", "kid": KEY.public.kid}


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def knowing(running: State) -> AsyncIterator[None]:
    ring().add(KEY.public)
    yield


def claims(**changes: Any) -> dict[str, Any]:
    """Right claims, but for some; a claim of None is left out."""
    at = int(time())
    right = {
        "iss": "msingi",
        "aud": "msingi/api",
        "sub": "ann",
        "sid": "phone",
        "jti": "1",
        "iat": at,
        "nbf": at,
        "exp": at + 600,
        "tv": 3,
        "roles": ["user"],
    }
    return {name: value for name, value in (right | changes).items() if value is not None}


def text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header: Any = None, payload: Any = None, key: SigningKey = KEY, sign: Any = None) -> str:
    """A token of any content, signed by `key` or in a way of one's own."""
    parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, payload)]
    said = f"{text(parts[0])}.{text(parts[1])}"
    signature = sign(said.encode()) if sign else key.private.sign(said.encode())
    return f"{said}.{text(signature)}"


def by_hmac(said: bytes) -> bytes:
    return hmac.digest(KEY.public.raw, said, sha256) * 2


def doubled(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload)[:-1].encode() + b', "sub": "admin"}'


def spare_bits(token: str) -> str:
    """The same bytes in another spelling: the last character holds four bits that mean nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


Make = Callable[[], str]
CORPUS: dict[str, Make] = {
    "alg none": lambda: forged({**HEADER, "alg": "none"}, claims(), sign=lambda said: b""),
    "alg none, signed": lambda: forged({**HEADER, "alg": "none"}, claims()),
    "HMAC with the public key": lambda: forged({**HEADER, "alg": "HS256"}, claims(), sign=by_hmac),
    "another key under our id": lambda: forged(HEADER, claims(), OTHER),
    "another key under its id": lambda: forged({**HEADER, "kid": OTHER.public.kid}, claims(), OTHER),
    "no key id": lambda: forged({"alg": "EdDSA", "typ": "at+jwt"}, claims()),
    "a key in the header": lambda: forged({**HEADER, "jwk": OTHER.public.jwk()}, claims(), OTHER),
    "an address of keys": lambda: forged({**HEADER, "jku": "https://evil.example/jwks.json"}, claims()),
    "a critical extension": lambda: forged({**HEADER, "crit": ["exp"]}, claims()),
    "typ JWT": lambda: forged({**HEADER, "typ": "JWT"}, claims()),
    "no typ": lambda: forged({"alg": "EdDSA", "kid": KEY.public.kid}, claims()),
    "a doubled member in the header": lambda: forged(
        b'{"alg":"none","alg":"EdDSA","typ":"at+jwt","kid":"%s"}' % KEY.public.kid.encode(), claims()
    ),
    "another audience": lambda: forged(HEADER, claims(aud="other/api")),
    "a list of audiences": lambda: forged(HEADER, claims(aud=["msingi/api"])),
    "another issuer": lambda: forged(HEADER, claims(iss="evil")),
    "exp as text": lambda: forged(HEADER, claims(exp=str(int(time()) + 600))),
    "exp as a fraction": lambda: forged(HEADER, claims(exp=time() + 300.5)),
    "exp as a whole float": lambda: forged(HEADER, claims(exp=float(int(time()) + 300))),
    "exp in scientific notation": lambda: forged(
        HEADER, json.dumps(claims(exp=-1)).replace('"exp": -1', '"exp": 1e30').encode()
    ),
    "exp not a number": lambda: forged(HEADER, claims(exp=float("nan"))),
    "no exp": lambda: forged(HEADER, claims(exp=None)),
    "past": lambda: forged(HEADER, claims(iat=int(time()) - 700, nbf=int(time()) - 700, exp=int(time()) - 100)),
    "just past": lambda: forged(HEADER, claims(iat=int(time()) - 601, nbf=int(time()) - 601, exp=int(time()) - 1)),
    "good for a day": lambda: forged(HEADER, claims(exp=int(time()) + 86_400)),
    "nbf in the future": lambda: forged(HEADER, claims(nbf=int(time()) + 60)),
    "made in the future": lambda: forged(HEADER, claims(iat=int(time()) + 60)),
    "no sub": lambda: forged(HEADER, claims(sub=None)),
    "an empty sub": lambda: forged(HEADER, claims(sub="")),
    "no session": lambda: forged(HEADER, claims(sid=None)),
    "a doubled claim": lambda: forged(HEADER, doubled(claims())),
    "claims changed afterwards": lambda: _swapped(claims(sub="admin")),
    "another spelling of the signature": lambda: spare_bits(forged(HEADER, claims())),
    "a short signature": lambda: forged(HEADER, claims())[:-1],
    "four parts": lambda: forged(HEADER, claims()) + ".e30",
    "padding": lambda: forged(HEADER, claims()) + "==",
    "a line break at the end": lambda: forged(HEADER, claims()) + "\n",
    "too long": lambda: forged(HEADER, claims(name="a" * 4000)),
    "nested deep": lambda: forged(HEADER, b'{"sub":' + b"[" * 1500 + b"]" * 1500 + b"}"),
    "no object": lambda: forged(HEADER, b"[]"),
    "no JSON": lambda: forged(b"\xff\xfe", b"\xff\xfe"),
    "nothing": lambda: "",
    "dots": lambda: "..",
    "no ASCII": lambda: "é" * 30 + "." + "\ud800" + ".x",
}


def _swapped(payload: dict[str, Any]) -> str:
    header, _, signature = forged(HEADER, claims()).split(".")
    return f"{header}.{text(json.dumps(payload).encode())}.{signature}"


async def test_a9_a_right_token_says_who_shows_it() -> None:
    right = await identify_token(forged(HEADER, claims()))
    assert right is not None
    assert (right.id, right.session, right.version, right.roles) == ("ann", "phone", 3, frozenset({"user"}))
    assert 598 <= right.expires_at - time() <= 600
    ours = await identify_token(token_for(ANN, KEY))
    assert ours is not None
    assert (ours.name, ours.id, ours.version, ours.session) == ("Ann", "ann", 3, "phone")


@pytest.mark.parametrize("make", CORPUS.values(), ids=CORPUS.keys())
async def test_a9_a_token_that_is_not_exactly_right_is_nobodys(make: Make) -> None:
    token = make()
    assert await identify_token(token) is None
    assert await identify_token(token) is None  # nor at the second asking


async def test_a9_a_token_that_was_believed_ends_when_it_says() -> None:
    token = token_for(ANN, KEY)
    assert await identify_token(token) is not None
    with clock.shifted(timedelta(seconds=599)):
        assert await identify_token(token) is not None
    with clock.shifted(timedelta(seconds=601)):
        assert await identify_token(token) is None
    with clock.shifted(timedelta(seconds=599)):
        assert await identify_token(token) is not None


async def test_every_changed_character_breaks_a_token() -> None:
    token = forged(HEADER, claims())
    for place in range(0, len(token), 7):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert await identify_token(changed) is None, place


async def test_an_unknown_key_is_asked_for_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    published: list[PublicKey] = []

    async def load() -> Iterable[PublicKey]:
        asked.append(1)
        await asyncio.sleep(0.01)
        return published

    monkeypatch.setattr(tokens, "_loads", [load])
    token = token_for(ANN, OTHER)
    assert await asyncio.gather(*(identify_token(token) for _ in range(20))) == [None] * 20
    assert len(asked) == 1
    published.append(OTHER.public)
    assert await identify_token(token) is None  # too soon to ask again
    ring().asked_at -= tokens.REFETCH
    assert await identify_token(token) is not None
    assert len(asked) == 2
    published.clear()
    await ring().reload()
    assert await identify_token(token) is None  # believed a moment ago, but its key is gone


def test_the_id_of_a_key_is_its_thumbprint() -> None:
    # RFC 8037, appendix A.3
    raw = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert PublicKey.of(raw).kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert set(PublicKey.of(raw).jwk()) == {"kty", "crv", "kid", "use", "alg", "x"}


async def test_what_is_sealed_opens_with_its_key_at_its_place_and_nowhere_else() -> None:
    key, other = sealing.key_for("a.purpose"), sealing.key_for("another")
    sealed = sealing.seal(key, b"seed", "things/1/field")
    assert b"seed" not in sealed
    assert sealing.unseal(key, sealed, "things/1/field") == b"seed"
    assert sealing.seal(key, b"seed", "things/1/field") != sealed
    attempts = [
        (key, sealed, "things/2/field"),
        (other, sealed, "things/1/field"),
        (sealing.Key(key.id, other.raw), sealed, "things/1/field"),
        (key, sealed[:-1], "things/1/field"),
        (key, sealed[:-1] + bytes([sealed[-1] ^ 1]), "things/1/field"),
        (key, b"", "things/1/field"),
    ]
    for with_key, given, place in attempts:
        with pytest.raises(sealing.CannotOpen):
            sealing.unseal(with_key, given, place)
