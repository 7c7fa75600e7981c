"""What goes over the wire: forms come in, views go out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from msingi.kit.db import Form, View
from msingi.products.accounts.models import Kind, Role

Email = Annotated[str, Meta(min_length=3, max_length=320, examples=["ann@example.org"])]
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S", examples=["Ann"])]
NewPassword = Annotated[str, Meta(min_length=15, max_length=128, examples=["correct horse battery"])]
GivenPassword = Annotated[str, Meta(max_length=1024, examples=["correct horse battery"])]


class Registration(Form):
    email: Email
    password: NewPassword
    name: Name


class SignIn(Form):
    """`session`: tokens to send along, or a cookie that the browser keeps."""

    email: Annotated[str, Meta(max_length=320, examples=["ann@example.org"])]
    password: GivenPassword
    session: Kind = "token"


class Refresh(Form):
    refresh_token: Annotated[str, Meta(max_length=1024)]


class ProfilePatch(Form):
    name: Name | UnsetType = UNSET


class PasswordChange(Form):
    current_password: GivenPassword
    new_password: NewPassword


class NewUser(Form):
    email: Email
    password: NewPassword
    name: Name
    roles: list[Role] = []


class UserPatch(Form):
    name: Name | UnsetType = UNSET
    roles: list[Role] | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


class AccountView(View):
    id: str
    email: str
    name: str
    roles: list[Role]
    disabled: bool
    created_at: datetime
    updated_at: datetime
    version: int


class TokensView(View, kw_only=True):
    """`access_token` goes into `Authorization: Bearer …` and is good for `expires_in` seconds."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int


class CookieView(View):
    """The session is in the cookie; `csrf_token` goes into the header `X-CSRF-Token` of whatever is no GET."""

    csrf_token: str
    expires_in: int


class CsrfView(View):
    csrf_token: str


class SessionView(View):
    id: str
    kind: Kind
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    user_agent: str
    current: bool


class KeyView(View):
    """A public key as RFC 8037 writes it."""

    kty: str
    crv: str
    kid: str
    use: str
    alg: str
    x: str


class KeysView(View):
    keys: list[KeyView]
