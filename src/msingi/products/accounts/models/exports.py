"""What the house has of a person, put together for them to take away."""

from datetime import datetime
from typing import Annotated, Literal

from msingi.kit.db import SEALED, Collection, Doc, Index


class Export(Doc, kw_only=True):
    """One such file, from the moment it was asked for until it is thrown away."""

    account: str
    language: str = "en"
    state: Literal["waiting", "ready"] = "waiting"
    parts: int = 0
    size: int = 0
    ready_at: datetime | None = None
    expires_at: datetime


class Part(Doc, kw_only=True):
    """A piece of the file; its id is the export's and a number."""

    export: str
    account: str
    content: Annotated[bytes, SEALED]
    expires_at: datetime


exports = Collection(Export, "exports", indexes=["account -_id", Index("expires_at", expires_after=0)])
parts = Collection(Part, "export_parts", indexes=["export _id", "account", Index("expires_at", expires_after=0)])
