"""What is sent to act in somebody's name."""

from typing import Annotated

from msgspec import Meta

from msingi.kit.db import Form
from msingi.products.accounts.models.sessions import Kind


class Impersonation(Form):
    """`session`: tokens to send along, or a cookie that the browser keeps."""

    reason: Annotated[str, Meta(min_length=3, max_length=300, pattern=r"\S", examples=["Ticket 4711"])]
    session: Kind = "token"
