"""Webhooks over the wire: forms come in, views go out. No view holds a secret but the two that are shown once."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from msingi.kit.db import Form, View
from msingi.kit.webhooks.models import Attempt, Delivery, DeliveryState, Endpoint, Off

Url = Annotated[str, Meta(min_length=1, max_length=2000, examples=["https://erp.example/hooks/shop"])]
EventName = Annotated[str, Meta(pattern=r"^(\*|[a-z_]+(\.[a-z_]+)*(\.\*)?)$", max_length=100, examples=["order.*"])]
Events = Annotated[list[EventName], Meta(min_length=1, max_length=50)]
Note = Annotated[str, Meta(max_length=200)]


# ---- forms


class NewEndpoint(Form):
    """Where to send what. The address stays: another one is another endpoint, with a secret of its own."""

    url: Url
    events: Events
    note: Note = ""


class EndpointPatch(Form):
    events: Events | UnsetType = UNSET
    note: Note | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class Rotation(Form):
    """For how many hours the secret of now still signs beside the new one."""

    overlap_hours: Annotated[int, Meta(ge=0, le=168)] = 24


class ReplayForm(Form):
    """Which messages are to be sent again: `undelivered` those that were given up, `all` those that arrived too."""

    since: Annotated[datetime, Meta(tz=True)]
    until: Annotated[datetime, Meta(tz=True)] | None = None
    which: Literal["undelivered", "all"] = "undelivered"


# ---- views


class EventKind(Struct, frozen=True):
    """An event that can be asked for, and what it tells of."""

    type: str
    summary: str


class EventKinds(Struct, frozen=True):
    items: list[EventKind]


class EndpointView(View):
    """`off` says why nothing is sent: `by_hand`, `failing` (it took nothing for days) or `gone` (it answered 410)."""

    id: str
    created_at: datetime
    updated_at: datetime
    version: int
    url: str
    events: list[str]
    note: str
    active: bool
    off: Off
    off_at: datetime | None
    failing_since: datetime | None
    made_by: str


class NewEndpointView(EndpointView):
    """The answer to whoever made it: the only one with the secret."""

    secret: str


class SecretView(View):
    """The new secret, this once, and when the old one ends."""

    secret: str
    old_until: datetime | None


class DeliveryView(View):
    """`id` is the delivery's, `message_id` what the receiver sees as `webhook-id`: the same with each try."""

    id: str
    created_at: datetime
    updated_at: datetime
    version: int
    message_id: str
    type: str
    state: DeliveryState
    tries: int
    status: int | None
    fault: str
    due_at: datetime | None
    ended_at: datetime | None


class WholeDeliveryView(DeliveryView):
    """And with what was sent, each try (the last twenty), and the beginning of the last answer."""

    payload: Any
    answer: str | None
    attempts: list[Attempt]


class ReplayView(Struct, frozen=True):
    """How many will be sent again. `more`: there are others, which another request would take."""

    count: int
    more: bool


def shown(endpoint: Endpoint) -> EndpointView:
    """An endpoint as everybody who may see it does."""
    view: EndpointView = EndpointView.of(endpoint, active=not endpoint.off)
    return view


def shown_once(endpoint: Endpoint) -> NewEndpointView:
    """A new endpoint, with its secret."""
    view: NewEndpointView = NewEndpointView.of(endpoint, active=True, secret=endpoint.secrets[0].text)
    return view


def line(delivery: Delivery) -> DeliveryView:
    """A line of the log."""
    view: DeliveryView = DeliveryView.of(delivery)
    return view


def whole(delivery: Delivery) -> WholeDeliveryView:
    """One message, and what became of it."""
    view: WholeDeliveryView = WholeDeliveryView.of(delivery, payload=msgspec.json.decode(delivery.body))
    return view
