"""What is sent of API keys, and told."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from msingi.kit.db import Form, View

KeyName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S", examples=["Nightly report"])]
Scope = Annotated[str, Meta(min_length=1, max_length=100, examples=["tasks:read"])]


class NewKey(Form):
    """`expires_in_days`: a year at most."""

    name: KeyName
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=100)]
    expires_in_days: Annotated[int, Meta(ge=1, le=365)] = 90


class KeyPatch(Form):
    name: KeyName | UnsetType = UNSET


class ApiKeyView(View):
    """`begins` is how the secret begins: enough to know it again, not to use it."""

    id: str
    name: str
    scopes: list[str]
    begins: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    version: int


class NewKeyView(ApiKeyView):
    """`key` is the secret: it is shown this once."""

    key: str


class ScopesView(View):
    scopes: list[str]


class KeyTokenView(View, kw_only=True):
    """`access_token` goes into `Authorization: Bearer …` and is good for `expires_in` seconds."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int
    scope: str
