"""What accounts is told by its environment."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from msingi.kit import state
from msingi.products.accounts import breaches
from msingi.products.accounts.providers.configured import Address, Provider, named

Limit = Annotated[str, Meta(pattern=r"^[1-9]\d*/([1-9]\d* ?)?(second|minute|hour|day)s?$")]

Given = Annotated[str, Meta(extra={"secret": True})]  # a secret that somebody else made; without it, a public client


class AccountsSettings(Struct, frozen=True, kw_only=True):
    """`registration`: `open` lets people in at once, `verified` when they have proved their address."""

    demo_password: str = field(name="MSINGI_DEMO_PASSWORD", default="")
    breached_passwords: str = field(name="MSINGI_BREACHED_PASSWORDS", default="")  # a file of `msingi breaches build`
    registration: Literal["", "open", "verified"] = field(name="MSINGI_REGISTRATION", default="")
    tells_of_impersonation: bool = field(name="MSINGI_TELL_OF_IMPERSONATION", default=True)
    letters_to_address: Limit = field(name="MSINGI_LETTERS_TO_ADDRESS", default="5/hour")
    letters_from_caller: Limit = field(name="MSINGI_LETTERS_FROM_CALLER", default="300/hour")

    google_client: str = field(name="MSINGI_OAUTH_GOOGLE_ID", default="")
    google_secret: Given = field(name="MSINGI_OAUTH_GOOGLE_SECRET", default="")
    google_issuer: Address = field(name="MSINGI_OAUTH_GOOGLE_ISSUER", default="https://accounts.google.com")
    github_client: str = field(name="MSINGI_OAUTH_GITHUB_ID", default="")
    github_secret: Given = field(name="MSINGI_OAUTH_GITHUB_SECRET", default="")
    github_url: Address = field(name="MSINGI_OAUTH_GITHUB_URL", default="https://github.com")
    github_api: Address = field(name="MSINGI_OAUTH_GITHUB_API", default="https://api.github.com")
    facebook_client: str = field(name="MSINGI_OAUTH_FACEBOOK_ID", default="")
    facebook_secret: Given = field(name="MSINGI_OAUTH_FACEBOOK_SECRET", default="")
    facebook_url: Address = field(name="MSINGI_OAUTH_FACEBOOK_URL", default="https://www.facebook.com")
    facebook_api: Address = field(name="MSINGI_OAUTH_FACEBOOK_API", default="https://graph.facebook.com")
    openid_providers: Given = field(name="MSINGI_OIDC_PROVIDERS", default="")  # a list in JSON (providers.configured)

    def __post_init__(self) -> None:
        """Raises ValueError for a list of providers or of breached passwords that cannot be read."""
        if self.breached_passwords:
            try:
                breaches.opened(Path(self.breached_passwords))
            except (OSError, breaches.NoFilter) as fault:
                raise ValueError(f"MSINGI_BREACHED_PASSWORDS will not do: {fault}") from None
        try:
            clash = {"google", "github", "facebook"} & {each.name for each in named(self.openid_providers)}
        except ValueError as fault:
            raise ValueError(f"MSINGI_OIDC_PROVIDERS will not do: {fault}") from None
        if clash:
            raise ValueError(f"MSINGI_OIDC_PROVIDERS: {', '.join(sorted(clash))} has settings of its own")

    @property
    def providers(self) -> list[Provider]:
        """Where one may sign in, in the order in which they are shown."""
        google = Provider(
            name="google",
            title="Google",
            issuer=self.google_issuer,
            client=self.google_client,
            secret=self.google_secret,
        )
        github = Provider(
            name="github",
            title="GitHub",
            kind="github",
            issuer=self.github_url.rstrip("/"),
            api=self.github_api.rstrip("/"),
            client=self.github_client,
            secret=self.github_secret,
        )
        facebook = Provider(
            name="facebook",
            title="Facebook",
            kind="facebook",
            issuer=self.facebook_url.rstrip("/"),
            api=self.facebook_api.rstrip("/"),
            client=self.facebook_client,
            secret=self.facebook_secret,
            vouches=False,
        )
        return [*(each for each in (google, github, facebook) if each.client), *named(self.openid_providers)]

    texts_to_number: Limit = field(name="MSINGI_TEXTS_TO_NUMBER", default="5/hour")
    texts_from_caller: Limit = field(name="MSINGI_TEXTS_FROM_CALLER", default="20/hour")
    texts_to_country: Limit = field(name="MSINGI_TEXTS_TO_COUNTRY", default="500/hour")
    texts_in_all: Limit = field(name="MSINGI_TEXTS_IN_ALL", default="5000/day")
    text_countries: str = field(name="MSINGI_TEXT_COUNTRIES", default="")  # `KE,TZ,UG`; empty: all of them

    @property
    def verifies(self) -> bool:
        """Whether somebody comes in only with an address that was proved: unless told otherwise, in production."""
        return self.verifies_in(state.settings().env)

    def verifies_in(self, env: str) -> bool:
        """The same for an environment (`development`, `test`, `production`)."""
        return (self.registration or ("verified" if env == "production" else "open")) == "verified"
