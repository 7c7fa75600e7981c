"""Decisions about second factors: which codes are right, how often one may err, and what proves what."""

import secrets
from base64 import b32encode
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256

import pyotp

from msingi.kit.errors import Conflict, Forbidden, Invalid, QuotaExceeded, SignInFirst
from msingi.kit.ids import time_of
from msingi.products.accounts.models.factors import Factors

STEP = 30  # seconds that a code of an authenticator app is shown
MISSES = 5  # wrong codes that an account may have in WINDOW
WINDOW = timedelta(minutes=15)
WAITS = timedelta(minutes=15)  # for the first code of a new seed
CODES = 10
CODE_BYTES = 15  # 120 bits: enough for SHA-256 alone to keep them
PASSKEYS = 20


class SecondFactorNeeded(SignInFirst):
    """One step is left: show a second factor together with this ticket."""


class WrongCode(Forbidden):
    """This code is not right, or it was used already."""


class BadPasskey(Forbidden):
    """This passkey proves nothing here."""


class PasskeyCloned(Forbidden):
    """This passkey counted backwards: somebody may have a copy of it. Sign in another way and remove it."""


class NoSecondFactor(Conflict):
    """There is no second factor to begin with."""


class NothingToConfirm(Conflict):
    """No authenticator app waits to be confirmed, or it waited too long; begin again."""


class TooManyPasskeys(Conflict):
    """There are {most} passkeys already; remove one first."""


class ProofMissing(Invalid):
    """That is not enough: it takes {wanted}."""


def too_many_misses(misses: list[str], at: datetime) -> QuotaExceeded:
    """What to say to who erred too often: when the oldest of the last misses no longer counts."""
    wait = max(1, int((time_of(misses[0]) + WINDOW - at).total_seconds()) + 1) if misses else 1
    return QuotaExceeded(
        quota=MISSES, window=int(WINDOW.total_seconds()), retry_after=wait, headers={"Retry-After": str(wait)}
    )


# ---- authenticator apps


def new_seed() -> str:
    """160 bits in base32, as RFC 4226 asks."""
    return pyotp.random_base32()


def uri_of(seed: str, email: str, issuer: str) -> str:
    """What the QR code says."""
    return pyotp.TOTP(seed).provisioning_uri(name=email, issuer_name=issuer)


def step_of(seed: str, code: str, at: datetime) -> int | None:
    """The step that a code belongs to: this one, the one before or the one after (RFC 6238, 5.2)."""
    given, now_step = "".join(code.split()), int(at.timestamp()) // STEP
    app = pyotp.HOTP(seed)
    # All three are compared, so that the time taken does not tell which.
    fitting = [step for step in (now_step - 1, now_step, now_step + 1) if app.verify(given, step)]
    return fitting[-1] if fitting else None


def still_waits(kept: Factors, at: datetime) -> bool:
    """Whether there is a new seed to confirm."""
    return kept.totp_new is not None and kept.totp_new_at is not None and at - kept.totp_new_at < WAITS


# ---- recovery codes


def new_codes() -> list[str]:
    """Recovery codes, in groups of four that one can read out."""
    return [_grouped(b32encode(secrets.token_bytes(CODE_BYTES)).decode().lower()) for _ in range(CODES)]


def hash_of_code(code: str) -> bytes:
    """What is kept of a recovery code, however it was typed."""
    return sha256("".join(each for each in code.lower() if each.isalnum()).encode()).digest()


def _grouped(text: str) -> str:
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


# ---- what proves what


def ways_of(kept: Factors | None, passkeys: int) -> list[str]:
    """How this person can show a second factor; nothing if they have none."""
    totp = kept is not None and kept.totp is not None
    if not (totp or passkeys):
        return []
    has = {"totp": totp, "recovery_code": bool(kept and kept.codes), "passkey": passkeys > 0}
    return [way for way, there in has.items() if there]


def proves_two(methods: Iterable[str]) -> bool:
    """Whether these methods (RFC 8176) are two factors already."""
    return "mfa" in methods


def label_of(given: str | None, count: int) -> str:
    """A passkey's name."""
    return (given or "").strip() or f"Passkey {count + 1}"


def user_handle(account_id: str) -> bytes:
    """What an authenticator keeps to say whose a passkey is."""
    return account_id.encode()


def is_clone(kept: int, shown: int) -> bool:
    """Whether a counter went back, or stood still (WebAuthn 3, 6.1.1). Many authenticators do not count at all: 0."""
    return (kept > 0 or shown > 0) and shown <= kept
