"""What is stored of webhooks: who wants to be told of what, and what became of each message to each of them."""

from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal

from msgspec import Struct, field

from msingi.kit.clock import now
from msingi.kit.db import SEALED, Collection, Doc, Index

KEPT = 30 * 24 * 3600  # seconds that a delivery can be looked at and sent again

DeliveryState = Literal[
    "waiting",  # not tried yet
    "failed",  # tried, to be tried again
    "delivered",
    "dead",  # given up
]
Off = Literal[
    "",
    "by_hand",
    "failing",  # it took nothing for days
    "gone",  # it answered 410
]


class Secret(Struct, frozen=True):
    """What messages are signed with. One that was replaced signs beside the new one until then."""

    text: str
    until: datetime | None = None


class Endpoint(Doc, kw_only=True):
    """Where messages go. An address may hold a token of its receiver's, so it is sealed."""

    url: Annotated[str, SEALED]
    events: list[str]
    note: str = ""
    secrets: Annotated[list[Secret], SEALED]
    made_by: str = ""
    off: Off = ""
    off_at: datetime | None = None
    owner_told: bool = False  # that the house turned it off
    failing_since: datetime | None = None  # nothing was taken since then
    misses: int = 0  # rounds in a row that ended because it did not answer as a whole
    rests_until: datetime | None = None


class Attempt(Struct, frozen=True):
    """One try. `fault` is empty for one that succeeded."""

    at: datetime
    status: int | None
    fault: str
    took_ms: int


class Delivery(Doc, kw_only=True):
    """One message to one endpoint. Its body never changes, so that each try sends the same bytes."""

    endpoint_id: str
    message_id: str
    type: str
    body: Annotated[str, SEALED]
    person: str = ""  # whose data it tells of
    state: DeliveryState = "waiting"
    due_at: datetime | None = field(default_factory=now)  # None: it is over
    tries: int = 0  # since it was written, or asked for again
    status: int | None = None  # of the last answer
    fault: str = ""
    answer: Annotated[str | None, SEALED] = None  # the beginning of it
    attempts: list[Attempt] = []
    ended_at: datetime | None = None


@cache
def endpoints(product: str) -> Collection[Endpoint]:
    """Who wants to be told by a product."""
    kept = Collection(Endpoint, "webhook_endpoints", indexes=["events", "made_by"])
    kept.product = product
    return kept


@cache
def deliveries(product: str) -> Collection[Delivery]:
    """The messages of a product, for KEPT seconds."""
    kept = Collection(
        Delivery,
        "webhook_deliveries",
        indexes=[
            "endpoint_id -_id",
            "endpoint_id state -_id",
            "endpoint_id due_at",
            Index("endpoint_id message_id", unique=True),
            Index("person", where={"person": {"$gt": ""}}),
            Index("created_at", expires_after=KEPT),
        ],
    )
    kept.product = product
    return kept


def stores(product: str) -> list[Collection[Any]]:
    """The collections that webhooks need in a product's database."""
    return [endpoints(product), deliveries(product)]
