"""How a webhook proves who sent it: the symmetric signatures of Standard Webhooks (www.standardwebhooks.com)."""

import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable

PREFIX = "whsec_"
SECRET_BYTES = 32  # the scheme takes 24 to 64


def new_secret() -> str:
    """A secret as its holder gets it."""
    return PREFIX + b64encode(os.urandom(SECRET_BYTES)).decode()


def headers(secrets: Iterable[str], id: str, at: int, body: bytes) -> dict[str, str]:
    """The three headers of a message that is sent at a time (seconds since 1970), with a signature by each secret."""
    signed = " ".join(signature(each, id, at, body) for each in secrets)
    return {"webhook-id": id, "webhook-timestamp": str(at), "webhook-signature": signed}


def signature(secret: str, id: str, at: int, body: bytes) -> str:
    """The mark that only a holder of the secret can make: over the id, the time and every byte of the body."""
    key = b64decode(secret.removeprefix(PREFIX))
    return "v1," + b64encode(hmac.digest(key, f"{id}.{at}.".encode() + body, "sha256")).decode()
