"""Programs that people sign in to with their account here, what people granted them, and devices that wait for it."""

from datetime import datetime
from typing import Literal

from msgspec import Struct, field

from msingi.kit.db import Collection, Doc, Index

ClientKind = Literal["public", "confidential"]
DeviceState = Literal["waiting", "allowed", "denied", "used"]


class ClientSecret(Struct):
    """What a confidential program shows: of it only SHA-256 is kept. Without an end it is good until it is replaced."""

    digest: bytes
    good_until: datetime | None = None


class Client(Doc, kw_only=True):
    """A program of ours or of somebody else's. Its id is the `client_id`."""

    name: str
    logo: str = ""  # a letter or two, or an emoji, that stands for it on the page where one is asked
    kind: ClientKind
    secrets: list[ClientSecret] = field(default_factory=list)
    redirect_uris: list[str] = field(default_factory=list)
    post_logout_redirect_uris: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)  # all that it may ever ask for
    first_party: bool = False  # one of the house's own: nobody is asked
    service: bool = False  # it comes for itself too, with its own credentials
    device: bool = False  # it may sign in with a code that is typed elsewhere
    token_version: int = 0  # rises when tokens of its own, made before, must stop


class Consent(Doc, kw_only=True):
    """What a person let a program do in their name, until they take it back."""

    account: str
    client: str
    client_name: str
    scopes: list[str]


class DeviceGrant(Doc, kw_only=True):
    """A device that shows a code and waits until its person types it here; of both codes only digests are kept."""

    client: str
    scopes: list[str]
    typed: bytes  # HMAC of what the person types: eight letters could be tried out against a plain hash
    secret: bytes  # SHA-256 of what the device asks with
    state: DeviceState = "waiting"
    account: str = ""
    login: str = ""  # the session in which the person said yes
    methods: list[str] = field(default_factory=list)
    proven_at: datetime | None = None
    interval: int
    asked_at: datetime | None = None
    expires_at: datetime


clients = Collection(Client, "clients", indexes=["-created_at -_id"])
consents = Collection(Consent, "consents", indexes=[Index("account client", unique=True), "client"])
device_grants = Collection(
    DeviceGrant, "device_grants", indexes=[Index("typed", unique=True), Index("expires_at", expires_after=0)]
)
