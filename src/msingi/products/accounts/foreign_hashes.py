"""Password hashes that another system made: believed until their owner signs in, and then replaced by one of ours.

Of bcrypt only the first 72 bytes of a password ever counted. So they do here, until the first sign-in: what was
typed then is the password from then on, whole.
"""

import re

import bcrypt
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from msingi.kit.errors import InvalidFields

LONGEST = 300
BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=\d{1,9},t=\d{1,9},p=\d{1,9}\$[A-Za-z0-9+/]{11,64}\$[A-Za-z0-9+/]{16,128}"
)
BCRYPT_BYTES = 72
DEAREST_BCRYPT = 14  # about a second
DEAREST_MEMORY, DEAREST_TIME, MOST_LANES = 262_144, 10, 16  # KiB, passes
_verifier = PasswordHasher()


def check(encoded: str, pointer: str = "/password_hash") -> str:
    """The hash, if it is of a kind that can be verified at a bearable cost. Raises InvalidFields."""
    fault = _fault(encoded)
    if fault:
        raise InvalidFields(errors=[{"pointer": pointer, "in": "body", "message": fault}])
    return encoded


def _fault(encoded: str) -> str:
    if found := BCRYPT.fullmatch(encoded):
        return "" if 4 <= int(found[1]) <= DEAREST_BCRYPT else f"its cost must be 4 to {DEAREST_BCRYPT}"
    if not encoded.startswith("$argon2"):
        return "it must be bcrypt ($2a$, $2b$ or $2y$) or argon2 ($argon2id$, $argon2i$ or $argon2d$) as they encode it"
    if not ARGON2.fullmatch(encoded):
        return "it is no argon2 encoding"
    costs = extract_parameters(encoded)
    if costs.memory_cost > DEAREST_MEMORY or costs.time_cost > DEAREST_TIME or costs.parallelism > MOST_LANES:
        return f"it may cost {DEAREST_MEMORY} KiB, {DEAREST_TIME} passes and {MOST_LANES} lanes at most"
    return ""


def is_foreign(kept: str) -> bool:
    """Whether this was made elsewhere: ours begin with the id of their pepper."""
    return kept.startswith("$")


def fits(encoded: str, password: str) -> bool:
    """Whether a password is the one that was hashed. It takes as long as the other system wanted it to."""
    raw = password.encode("utf-8", "surrogatepass")
    try:
        if BCRYPT.fullmatch(encoded):
            return bcrypt.checkpw(raw[:BCRYPT_BYTES], encoded.encode())
        return _verifier.verify(encoded, raw)
    except (VerificationError, InvalidHashError, ValueError):
        return False
