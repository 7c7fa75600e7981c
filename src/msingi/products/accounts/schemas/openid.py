"""What is said in the standards' own words: discovery, tokens, claims."""

from typing import Literal

from msgspec import Struct


class TokenReply(Struct, omit_defaults=True, kw_only=True):
    """What a program gets (RFC 6749, 5.1)."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    refresh_token: str | None = None
    id_token: str | None = None


class DeviceReply(Struct, kw_only=True):
    """What a device shows and asks with (RFC 8628, 3.2). Times are seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class IdClaims(Struct, omit_defaults=True, kw_only=True):
    """Who signed in, when and how (OpenID Connect Core, 2). Times are seconds since 1970."""

    iss: str
    sub: str
    aud: str
    iat: int
    exp: int
    auth_time: int
    amr: list[str]
    sid: str
    at_hash: str
    nonce: str = ""
    name: str | None = None
    email: str | None = None
    email_verified: bool | None = None


class PersonClaims(Struct, omit_defaults=True, kw_only=True):
    """What a program is told of the person (OpenID Connect Core, 5.1)."""

    sub: str
    name: str | None = None
    updated_at: int | None = None
    email: str | None = None
    email_verified: bool | None = None


class TokenState(Struct, omit_defaults=True, kw_only=True):
    """Whether a token is good, and for what (RFC 7662)."""

    active: bool
    token_type: Literal["access_token", "refresh_token"] | None = None
    scope: str | None = None
    client_id: str | None = None
    sub: str | None = None
    sid: str | None = None
    exp: int | None = None
    iss: str | None = None
    aud: str | None = None
