"""How one signs in, and what one gets for it."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from msingi.kit.db import Form, View
from msingi.products.accounts.models.sessions import Kind
from msingi.products.accounts.schemas.people import GivenPassword


class SignIn(Form):
    """`session`: tokens to send along, or a cookie that the browser keeps."""

    email: Annotated[str, Meta(max_length=320, examples=["ann@example.org"])]
    password: GivenPassword
    session: Kind = "token"


class Refresh(Form):
    refresh_token: Annotated[str, Meta(max_length=1024)]


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
    client: str  # the id of the program that it was opened for, if it was for one
    client_name: str
    acting: str  # the id of the admin who acts in the person's name, if one does
    current: bool
