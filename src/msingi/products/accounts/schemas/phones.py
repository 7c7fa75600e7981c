"""Proving a phone, and signing in with it."""

from typing import Annotated

from msgspec import Meta

from msingi.kit.db import Form
from msingi.products.accounts.models.sessions import Kind

Phone = Annotated[str, Meta(min_length=5, max_length=32, examples=["+254712345678", "0712 345 678"])]
Digits = Annotated[str, Meta(min_length=1, max_length=16, examples=["042917"])]


class PhoneAsked(Form):
    phone: Phone


class CodeShown(Form):
    code: Digits


class PhoneSignIn(Form):
    """`session`: tokens to send along, or a cookie that the browser keeps."""

    phone: Phone
    code: Digits
    session: Kind = "token"
