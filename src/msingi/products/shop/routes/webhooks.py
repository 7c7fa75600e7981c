"""Webhooks, over HTTP: who is to be told of what, and what became of it."""

from collections.abc import Sequence
from datetime import timedelta

from litestar.types import ControllerRouterHandler

from msingi.kit.actors import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import Stale
from msingi.kit.fetch import AddressRefused
from msingi.kit.http import Body, Filters, Given, Path, delete, get, patch, post
from msingi.kit.replies import KitResponse
from msingi.kit.webhooks.models import DeliveryState
from msingi.kit.webhooks.problems import DeliveryOnItsWay, TooManyWebhooks, UnknownWebhookEvents, WebhookIsOff
from msingi.kit.webhooks.views import (
    DeliveryView,
    EndpointPatch,
    EndpointView,
    EventKind,
    EventKinds,
    NewEndpoint,
    NewEndpointView,
    ReplayForm,
    ReplayView,
    Rotation,
    SecretView,
    WholeDeliveryView,
    line,
    shown,
    shown_once,
    whole,
)
from msingi.products.shop.hooks import hooks

HOOKS = "shop:webhooks"
NOT_KEPT = {"Cache-Control": "no-store"}
LOG = Filters(state=DeliveryState, type=str, message=("message_id", str))


# ---- endpoints


@get("/webhooks", permission=HOOKS)
async def list_webhooks(page: Given[Paging]) -> Page[EndpointView]:
    """All endpoints, the newest first."""
    return (await hooks.all(page)).map(shown)


@post(
    "/webhooks",
    permission=HOOKS,
    step_up=True,
    idempotency="off",  # an answer that holds a secret is kept nowhere
    problems=[AddressRefused, UnknownWebhookEvents, TooManyWebhooks],
)
async def make_webhook(data: Body[NewEndpoint], actor: Given[Actor]) -> KitResponse[NewEndpointView]:
    """Have an address told of events. The answer shows the secret that they are signed with, this once."""
    made = await hooks.make(data.url, data.events, data.note, actor)
    headers = {**NOT_KEPT, "Location": f"/v1/shop/webhooks/{made.id}"}
    return KitResponse(shown_once(made), status_code=201, headers=headers)


@get("/webhooks/events", permission=HOOKS)
async def list_webhook_events() -> EventKinds:
    """What one can be told of."""
    return EventKinds([EventKind(*each) for each in hooks.kinds.items()])


@get("/webhooks/{endpoint_id:str}", permission=HOOKS)
async def show_webhook(endpoint_id: Path[str]) -> EndpointView:
    """One of them."""
    return shown(await hooks.endpoint(endpoint_id))


@patch("/webhooks/{endpoint_id:str}", permission=HOOKS, problems=[UnknownWebhookEvents, Stale])
async def edit_webhook(
    endpoint_id: Path[str], data: Body[EndpointPatch], if_match: Given[int | None], actor: Given[Actor]
) -> EndpointView:
    """Change of what it is told, or turn it off and on."""
    return shown(await hooks.change(endpoint_id, data.given(), if_match, actor))


@delete("/webhooks/{endpoint_id:str}", permission=HOOKS, problems=[Stale])
async def remove_webhook(endpoint_id: Path[str], if_match: Given[int | None], actor: Given[Actor]) -> None:
    """Tell it no more, and forget what it was told."""
    await hooks.remove(endpoint_id, if_match, actor)


@post("/webhooks/{endpoint_id:str}/secrets", permission=HOOKS, step_up=True, idempotency="off")
async def rotate_webhook_secret(
    endpoint_id: Path[str], data: Body[Rotation], actor: Given[Actor]
) -> KitResponse[SecretView]:
    """Sign with a new secret. The answer shows it, this once; the old one signs beside it for a while."""
    made = await hooks.rotate(endpoint_id, timedelta(hours=data.overlap_hours), actor)
    return KitResponse(SecretView.of(made), status_code=201, headers=NOT_KEPT)


@post("/webhooks/{endpoint_id:str}/pings", permission=HOOKS, status_code=202, problems=[WebhookIsOff])
async def ping_webhook(endpoint_id: Path[str]) -> DeliveryView:
    """Send it a message that means nothing; the log shows what became of it."""
    return line(await hooks.ping(endpoint_id))


# ---- what became of it


@get("/webhooks/{endpoint_id:str}/deliveries", permission=HOOKS, filters=LOG)
async def list_webhook_deliveries(
    endpoint_id: Path[str], page: Given[Paging], where: Given[Where]
) -> Page[DeliveryView]:
    """What it was to be told in the last thirty days, the newest first."""
    return (await hooks.log(await hooks.endpoint(endpoint_id), where, page)).map(line)


@get("/webhooks/{endpoint_id:str}/deliveries/{delivery_id:str}", permission=HOOKS)
async def show_webhook_delivery(endpoint_id: Path[str], delivery_id: Path[str]) -> WholeDeliveryView:
    """One message: what it says, each try, and the beginning of the last answer."""
    return whole(await hooks.delivery(await hooks.endpoint(endpoint_id), delivery_id))


@post(
    "/webhooks/{endpoint_id:str}/deliveries/{delivery_id:str}/replays",
    permission=HOOKS,
    status_code=202,
    problems=[WebhookIsOff, DeliveryOnItsWay],
)
async def replay_webhook_delivery(endpoint_id: Path[str], delivery_id: Path[str]) -> DeliveryView:
    """Send a message once more, under its id."""
    found = await hooks.delivery(await hooks.endpoint(endpoint_id), delivery_id)
    return line(await hooks.replay(found))


@post("/webhooks/{endpoint_id:str}/replays", permission=HOOKS, status_code=202, problems=[WebhookIsOff])
async def replay_webhook(endpoint_id: Path[str], data: Body[ReplayForm]) -> ReplayView:
    """Send all messages of a time once more."""
    return ReplayView(*await hooks.replay_all(endpoint_id, data.since, data.until, data.which))


routes: Sequence[ControllerRouterHandler] = [
    list_webhooks,
    make_webhook,
    list_webhook_events,
    show_webhook,
    edit_webhook,
    remove_webhook,
    rotate_webhook_secret,
    ping_webhook,
    list_webhook_deliveries,
    show_webhook_delivery,
    replay_webhook_delivery,
    replay_webhook,
]
