"""Proving an address: what people send, and what they are told."""

from typing import Annotated

from msgspec import Meta

from msingi.kit.db import Form, View
from msingi.products.accounts.schemas.people import Email, GivenPassword, NewPassword

Secret = Annotated[str, Meta(min_length=1, max_length=200, examples=["AZ4k…"])]


class Shown(Form):
    """The ticket of a letter's link."""

    ticket: Secret


class ShownByOwner(Shown):
    """The same, with the account's password where one is not signed in to it."""

    password: GivenPassword = ""


class AddressAsked(Form):
    email: Email


class NewPasswordShown(Form):
    """The ticket of a letter's link, and the password to set."""

    ticket: Secret
    password: NewPassword


class AskedView(View, kw_only=True):
    """The same whatever is known of the address."""

    detail: str = "If there is a letter to be written to this address, it is on its way."
