"""The providers that the environment names."""

from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

# Over plain HTTP only what does not leave this machine: whoever can change a provider's answers can be anybody.
SAFE = r"^(https://|http://(localhost|127\.0\.0\.1|\[::1\])(:|/|$))"
Address = Annotated[str, Meta(pattern=SAFE)]
NAME = r"^[a-z][a-z0-9-]{0,30}$"
Kind = Literal["openid", "github", "facebook"]


class Provider(Struct, frozen=True, kw_only=True):
    """Where one may sign in. `issuer` is in whose name it speaks: together with a subject that is an identity."""

    name: Annotated[str, Meta(pattern=NAME)]
    title: str
    kind: Kind = "openid"
    issuer: Address
    api: str = ""  # where a provider that is none by OpenID tells who somebody is
    client: str
    secret: str = ""
    vouches: bool = True  # whether its word that an address is verified is taken

    def __repr__(self) -> str:
        return f"Provider({self.name})"


class Named(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of MSINGI_OIDC_PROVIDERS, a list in JSON."""

    name: Annotated[str, Meta(pattern=NAME)]
    issuer: Address
    id: Annotated[str, Meta(min_length=1)]
    secret: str = ""
    title: str = ""
    vouches: bool = True

    def provider(self) -> Provider:
        title = self.title or self.name.capitalize()
        return Provider(
            name=self.name,
            title=title,
            issuer=self.issuer,
            client=self.id,
            secret=self.secret,
            vouches=self.vouches,
        )


@lru_cache(maxsize=8)
def named(text: str) -> tuple[Provider, ...]:
    """The providers of a list in JSON. Raises ValueError, whose text holds no secret."""
    try:
        listed = msgspec.json.decode(text, type=list[Named]) if text.strip() else []
    except msgspec.DecodeError as fault:
        raise ValueError(str(fault)) from None
    names = [each.name for each in listed]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return tuple(each.provider() for each in listed)
