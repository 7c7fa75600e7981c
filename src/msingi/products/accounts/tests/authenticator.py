"""An authenticator made of software: it makes passkeys and shows them, rightly or as an attacker would."""

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

ORIGIN, SITE = "http://msingi.test", "msingi.test"
PRESENT, VERIFIED, BACKED_UP, ATTESTED = 0x01, 0x04, 0x18, 0x40
Json = dict[str, Any]


def text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One device with one passkey. What it says of itself and of where it is can be changed."""

    origin: str = ORIGIN
    site: str = SITE
    flags: int = PRESENT | VERIFIED
    counter: int = 0
    counts: bool = True
    attestation: str = "none"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential: bytes = field(default_factory=lambda: os.urandom(32))
    handle: str | None = None

    def make(self, options: Json) -> Json:
        """What `navigator.credentials.create` gives for these options."""
        self.handle = options["user"]["id"]
        client = self._client("webauthn.create", options)
        data = (
            self._data(ATTESTED) + bytes(16) + len(self.credential).to_bytes(2, "big") + self.credential + self._cose()
        )
        statement: Json = {}
        if self.attestation == "packed":
            statement = {"alg": -7, "sig": self._sign(data, client)}
        attested = cbor2.dumps({"fmt": self.attestation, "attStmt": statement, "authData": data})
        response = {"clientDataJSON": text(client), "attestationObject": text(attested), "transports": ["internal"]}
        return self._credential(response)

    def show(self, options: Json) -> Json:
        """What `navigator.credentials.get` gives for these options."""
        if self.counts:
            self.counter += 1
        client, data = self._client("webauthn.get", options), self._data(0)
        response = {
            "clientDataJSON": text(client),
            "authenticatorData": text(data),
            "signature": text(self._sign(data, client)),
            "userHandle": self.handle,
        }
        return self._credential(response)

    def _credential(self, response: Json) -> Json:
        id = text(self.credential)
        return {
            "id": id,
            "rawId": id,
            "type": "public-key",
            "response": response,
            "clientExtensionResults": {},
            "authenticatorAttachment": "platform",
        }

    def _client(self, kind: str, options: Json) -> bytes:
        said = {"type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": False}
        return json.dumps(said).encode()

    def _data(self, flags: int) -> bytes:
        return sha256(self.site.encode()).digest() + bytes([self.flags | flags]) + self.counter.to_bytes(4, "big")

    def _cose(self) -> bytes:
        point = self.key.public_key().public_numbers()
        return cbor2.dumps({1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")})

    def _sign(self, data: bytes, client: bytes) -> bytes:
        return self.key.sign(data + sha256(client).digest(), ec.ECDSA(SHA256()))
