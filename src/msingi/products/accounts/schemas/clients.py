"""How a program is registered, and what is told of it."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from msingi.kit.db import Form, View
from msingi.products.accounts.models.clients import ClientKind

ProgramName = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"\S", examples=["Farm diary"])]
Logo = Annotated[str, Meta(max_length=4, examples=["FD"])]
RedirectUri = Annotated[str, Meta(min_length=1, max_length=500, examples=["https://diary.example/back"])]
RedirectUris = Annotated[list[RedirectUri], Meta(max_length=20)]
ScopeName = Annotated[str, Meta(min_length=1, max_length=50, examples=["openid"])]
ScopeNames = Annotated[list[ScopeName], Meta(max_length=50)]


class NewClient(Form, kw_only=True):
    """`confidential`: a program on a server, which can keep a secret. `public`: one in a browser or on a telephone."""

    name: ProgramName
    logo: Logo = ""
    kind: ClientKind
    redirect_uris: RedirectUris = []
    post_logout_redirect_uris: RedirectUris = []
    scopes: ScopeNames
    first_party: bool = False
    service: bool = False
    device: bool = False


class ClientPatch(Form):
    name: ProgramName | UnsetType = UNSET
    logo: Logo | UnsetType = UNSET
    redirect_uris: RedirectUris | UnsetType = UNSET
    post_logout_redirect_uris: RedirectUris | UnsetType = UNSET
    scopes: ScopeNames | UnsetType = UNSET
    first_party: bool | UnsetType = UNSET
    service: bool | UnsetType = UNSET
    device: bool | UnsetType = UNSET


class ClientView(View):
    """A program; `id` is its `client_id`."""

    id: str
    name: str
    logo: str
    kind: ClientKind
    redirect_uris: list[str]
    post_logout_redirect_uris: list[str]
    scopes: list[str]
    first_party: bool
    service: bool
    device: bool
    created_at: datetime
    updated_at: datetime
    version: int


class NewClientView(ClientView):
    """The same, with the secret that nobody can read a second time; `null` for a public program."""

    client_secret: str | None


class ConsentView(View):
    """What a person let a program do."""

    id: str
    client: str
    client_name: str
    scopes: list[str]
    created_at: datetime
    updated_at: datetime
    version: int
