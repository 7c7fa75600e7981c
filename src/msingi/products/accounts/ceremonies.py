"""The two ceremonies of WebAuthn: making a passkey, and showing one. Only exactly this site's, and only with the person
verified by their device.

A challenge is never stored: it follows from the secret of the ticket that goes with it, so it lives as long as that
does, and is used up with it.

The library brings OpenSSL's and X.509's whole vocabulary, 7 MB with what they bring: a process loads it when the first
passkey comes.
"""

import json
from base64 import urlsafe_b64decode
from hashlib import sha256
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec import Struct

from msingi.kit import state
from msingi.products.accounts import rules
from msingi.products.accounts.models.factors import Passkey
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.schemas.factors import Credential, NewCredential

TIMEOUT = 300_000  # milliseconds that a browser waits for the person
SELF_MADE = ("none", "packed")  # formats of attestation
TRANSPORTS = frozenset({"usb", "nfc", "ble", "internal", "cable", "hybrid", "smart-card"})
log = structlog.get_logger("accounts")


class Made(Struct, frozen=True):
    """A passkey that was just made."""

    credential: bytes
    public_key: bytes
    counter: int
    transports: list[str]
    synced: bool


def options_to_make(account: Account, others: list[Passkey], secret: str) -> dict[str, Any]:
    """What the browser needs to make a passkey that can be found without a name (a discoverable credential)."""
    webauthn = _library()
    words = webauthn.helpers.structs
    options = webauthn.generate_registration_options(
        rp_id=_site()[0],
        rp_name="Msingi",
        user_name=account.email,
        user_id=rules.factors.user_handle(account.id),
        user_display_name=account.name,
        challenge=_challenge(secret),
        timeout=TIMEOUT,
        authenticator_selection=words.AuthenticatorSelectionCriteria(
            resident_key=words.ResidentKeyRequirement.REQUIRED,
            user_verification=words.UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[_described(each) for each in others],
    )
    return _json(options)


def options_to_show(passkeys: list[Passkey], secret: str) -> dict[str, Any]:
    """What the browser needs to show one of these passkeys, or any of this site's if none is named."""
    webauthn = _library()
    options = webauthn.generate_authentication_options(
        rp_id=_site()[0],
        challenge=_challenge(secret),
        timeout=TIMEOUT,
        allow_credentials=[_described(each) for each in passkeys],
        user_verification=webauthn.helpers.structs.UserVerificationRequirement.REQUIRED,
    )
    return _json(options)


def check_made(credential: NewCredential, secret: str) -> Made:
    """The passkey that a browser made. Raises BadPasskey."""
    site, origin = _site()
    try:
        found = _library().verify_registration_response(
            credential=msgspec.to_builtins(credential),
            expected_challenge=_challenge(secret),
            expected_rp_id=site,
            expected_origin=origin,
            require_user_verification=True,
        )
    except Exception:  # whatever a hostile credential breaks in there, it is refused
        log.info("passkey_refused", step="make", exc_info=True)
        raise rules.factors.BadPasskey from None
    if found.fmt not in SELF_MADE:
        raise rules.factors.BadPasskey
    transports = [each for each in credential.response.transports if each in TRANSPORTS]
    return Made(
        found.credential_id, found.credential_public_key, found.sign_count, transports, found.credential_backed_up
    )


def check_shown(credential: Credential, passkey: Passkey, secret: str) -> int:
    """The counter that a passkey showed with a good signature; whether it may is for the caller. Raises BadPasskey."""
    site, origin = _site()
    try:
        found = _library().verify_authentication_response(
            credential=msgspec.to_builtins(credential),
            expected_challenge=_challenge(secret),
            expected_rp_id=site,
            expected_origin=origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=0,  # it would judge the counter before it knows who signed
            require_user_verification=True,
        )
    except Exception:  # as above
        log.info("passkey_refused", step="show", passkey=passkey.id, exc_info=True)
        raise rules.factors.BadPasskey from None
    return int(found.new_sign_count)


def id_of(credential: Credential) -> bytes:
    """Which credential it claims to be. Raises BadPasskey."""
    return _bytes(credential.rawId)


def handle_of(credential: Credential) -> bytes | None:
    """Whose it claims to be."""
    return None if credential.response.userHandle is None else _bytes(credential.response.userHandle)


def _library() -> ModuleType:
    import webauthn  # noqa: PLC0415  (7 MB)

    return webauthn


def _bytes(text: str) -> bytes:
    try:
        return urlsafe_b64decode(f"{text}===")  # it takes more padding than is needed, not less
    except ValueError:
        raise rules.factors.BadPasskey from None


def _site() -> tuple[str, str]:
    """The relying party's id and its one origin, as the settings say and never as a request does."""
    own = urlsplit(state.settings().base_url)
    return own.hostname or "", f"{own.scheme}://{own.netloc}"


def _challenge(secret: str) -> bytes:
    return sha256(b"passkey:" + secret.encode("utf-8", "replace")).digest()


def _described(passkey: Passkey) -> Any:
    words = _library().helpers.structs
    transports = [words.AuthenticatorTransport(each) for each in passkey.transports]
    return words.PublicKeyCredentialDescriptor(id=passkey.credential, transports=transports or None)


def _json(options: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(_library().options_to_json(options))
    return made
