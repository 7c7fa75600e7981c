"""What is sent of limits, and told."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from msingi.kit.db import Form, View


class LimitForm(Form):
    limit: Annotated[str, Meta(min_length=1, max_length=40, examples=["30/minute"])]


class LimitView(View):
    """`route` is empty for limits of all requests of a caller together. `default`: what the code or a setting says."""

    name: str
    route: str
    default: str
    limit: str
    changed: bool
    updated_at: datetime | None
    version: int


class LimitsView(View):
    items: list[LimitView]
