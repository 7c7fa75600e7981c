"""Sessions: each one sign-in."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import field

from msingi.kit.db import SEALED, Collection, Doc, Index

Kind = Literal["token", "cookie"]
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Session(Doc, kw_only=True):
    """One sign-in, and the one secret that is good for it now; of secrets only SHA-256 is kept.

    A refresh token is used once: `generation` counts them, `current` is the newest, `previous` the one before it, and
    `child` the newest sealed so that only the bearer of the previous one can open it.
    """

    account: str
    kind: Kind
    epoch: int
    current: bytes
    methods: list[str] = field(default_factory=list)  # how the person proved who they are (amr of RFC 8176)
    proven_at: datetime = LONG_AGO  # when they last did
    user_agent: Annotated[str, SEALED] = ""
    address: Annotated[str, SEALED] = ""
    device: str = ""  # the known device that it was opened on, if it was a sign-in
    acting: str = ""  # the admin who acts in the person's name, if one does
    acting_session: str = ""  # the session of theirs in which they began to
    client: str = ""  # the program of somebody else's that the session was opened for, if it was
    client_name: str = ""
    scopes: list[str] | None = None  # what such a program may do; None: whatever the person may
    generation: int = 0
    previous: bytes | None = None
    previous_at: datetime | None = None
    child: bytes | None = None
    last_used_at: datetime
    idle_at: datetime  # when it ends if it is not used again
    ends_at: datetime  # when it ends whatever happens
    ended_at: datetime | None = None


sessions = Collection(
    Session,
    "sessions",
    indexes=[
        "account -_id",
        Index("client", where={"client": {"$gt": ""}}),
        Index("acting", where={"acting": {"$gt": ""}}),
        Index("ends_at", expires_after=24 * 3600),
    ],
)
