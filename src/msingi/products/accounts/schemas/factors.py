"""How one shows a second factor, and what is told of those that one has."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from msingi.kit.db import Form, View
from msingi.products.accounts.models.sessions import Kind
from msingi.products.accounts.schemas.people import GivenPassword

Code = Annotated[str, Meta(min_length=6, max_length=16, examples=["492039"])]
RecoveryCode = Annotated[str, Meta(min_length=1, max_length=64, examples=["k3qz-7xw2-m5ab-vt6d-e4gh-p2rn"])]
TicketText = Annotated[str, Meta(min_length=1, max_length=256)]
Encoded = Annotated[str, Meta(min_length=1, max_length=20_000, pattern="^[A-Za-z0-9_-]+=*$")]
Label = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"\S", examples=["My phone"])]


class Attested(Struct, kw_only=True):
    """What an authenticator answers to `create`. What browsers add to it is passed over."""

    clientDataJSON: Encoded  # noqa: N815  (the names of WebAuthn)
    attestationObject: Encoded  # noqa: N815
    transports: Annotated[list[Annotated[str, Meta(max_length=32)]], Meta(max_length=8)] = []


class NewCredential(Struct, kw_only=True):
    """A `PublicKeyCredential` of `navigator.credentials.create`, as its `toJSON()` writes it."""

    id: Encoded
    rawId: Encoded  # noqa: N815
    type: Literal["public-key"]
    response: Attested


class Asserted(Struct, kw_only=True):
    """What an authenticator answers to `get`."""

    clientDataJSON: Encoded  # noqa: N815
    authenticatorData: Encoded  # noqa: N815
    signature: Encoded
    userHandle: Encoded | None = None  # noqa: N815


class Credential(Struct, kw_only=True):
    """A `PublicKeyCredential` of `navigator.credentials.get`, as its `toJSON()` writes it."""

    id: Encoded
    rawId: Encoded  # noqa: N815
    type: Literal["public-key"]
    response: Asserted


class SecondFactor(Form):
    """The second step of signing in: one of the three, with the ticket that the first step gave."""

    ticket: TicketText
    code: Code | None = None
    recovery_code: RecoveryCode | None = None
    credential: Credential | None = None


class StepUp(Form):
    """Who one is, once more: the password, with a code if there is a second factor; or a passkey, with its ticket."""

    password: GivenPassword | None = None
    code: Code | None = None
    recovery_code: RecoveryCode | None = None
    credential: Credential | None = None
    ticket: TicketText | None = None


class PasskeySignIn(Form):
    ticket: TicketText
    credential: Credential
    session: Kind = "token"


class NewPasskey(Form):
    ticket: TicketText
    credential: NewCredential
    name: Label | None = None


class PasskeyPatch(Form):
    name: Label | UnsetType = UNSET


class TotpCode(Form):
    code: Code


class TotpView(View):
    """A seed to put into an authenticator app: typed, as a link, or scanned (`qr` is a `data:` address of an SVG)."""

    secret: str
    uri: str
    qr: str


class CeremonyView(View):
    """`options` go to the browser (`PublicKeyCredential.parse…OptionsFromJSON`); `ticket` comes with its answer."""

    ticket: str
    expires_in: int
    options: dict[str, Any]


class StepUpOptionsView(View):
    """What one can prove oneself with now. `passkey` is null where there is none."""

    methods: list[str]
    passkey: CeremonyView | None


class RenewedView(View, kw_only=True):
    """What this session goes on with: a fresh access token beside the refresh token that it has, or, where the session
    is in a cookie, a fresh CSRF token."""

    access_token: str | UnsetType = UNSET
    token_type: Literal["Bearer"] | UnsetType = UNSET
    csrf_token: str | UnsetType = UNSET
    expires_in: int


class PasskeyView(View):
    id: str
    name: str
    synced: bool
    created_at: datetime
    last_used_at: datetime | None
    cloned_at: datetime | None


class PasskeysView(View):
    items: list[PasskeyView]


class FactorsView(View):
    """`methods` are those that a sign-in would ask for; empty: the password is enough."""

    methods: list[str]
    totp_confirmed_at: datetime | None
    passkeys: list[PasskeyView]
    recovery_codes_left: int


class CodesView(View):
    """Recovery codes, shown this one time."""

    recovery_codes: list[str]


class AddedView(View):
    """A second factor is there. With the first one come recovery codes; `session` replaces what this session had."""

    recovery_codes: list[str]
    passkey: PasskeyView | None
    session: RenewedView
