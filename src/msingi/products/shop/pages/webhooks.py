"""Webhooks for those who look after them: which addresses are told of what, what became of it, and secrets."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Literal

import httpx
import msgspec
from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.clock import now
from msingi.kit.db import Paging
from msingi.kit.errors import Problem
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.kit.webhooks.models import KEPT, DeliveryState, Endpoint, Off
from msingi.kit.webhooks.views import Events, Note, Rotation, Url, whole
from msingi.products.shop.hooks import hooks
from msingi.products.shop.pages.shell import HOME, AnyRequest, Nothing, show
from msingi.products.shop.queries import board

HERE = f"{HOME}/webhooks"
ONE = HERE + "/{endpoint_id:str}"
DELIVERY = ONE + "/deliveries/{delivery_id:str}"
HOOKS = "shop:webhooks"
NOT_KEPT = {"Cache-Control": "no-store"}
STATES: dict[DeliveryState, str] = {
    "waiting": "waits for its turn",
    "failed": "failed, to be tried again",
    "delivered": "taken",
    "dead": "given up",
}
OFF: dict[Off, str] = {
    "": "on",
    "by_hand": "turned off by hand",
    "failing": "turned off: it took nothing for days",
    "gone": "turned off: it said that it is gone",
}


class Wanted(Struct):
    """A new endpoint."""

    url: Url
    events: Events
    note: Note = ""


class Told(Struct):
    """Of what it is told from now on."""

    version: int
    events: Events
    note: Note = ""


class Switch(Struct):
    """On or off."""

    active: Literal["yes", "no"]


class Overlap(Struct):
    """For how many hours the secret of now still signs beside the new one."""

    overlap_hours: Annotated[int, Meta(ge=0, le=168)] = Rotation().overlap_hours


class Sure(Struct):
    """The box that has to be ticked."""

    sure: Literal["yes"]


# ---- all of them, and a new one


@page_at(HERE, permission=HOOKS)
async def show_webhooks(request: AnyRequest, page: Given[Paging]) -> Response[str]:
    """Who is told, the newest first."""
    return show("webhooks", request, found=await hooks.all(page), host=host_of, off=OFF)


@page_at(HERE + "/new", permission=HOOKS, step_up=True)
async def show_new_webhook(request: AnyRequest) -> Response[str]:
    """Where to, and of what?"""
    return await _new(request)


@form_at(HERE + "/new", permission=HOOKS, step_up=True)
async def make_webhook_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """It is told from now on; its secret is shown this once."""
    try:
        form = await pages.form_of(request, Wanted)
        made = await hooks.make(form.url.strip(), form.events, form.note.strip(), actor)
    except Problem as problem:
        return await _new(request, pages.to_show(problem))
    return _shown_once(request, made.id, made.secrets[0].text)


async def _new(request: AnyRequest, problem: Problem | None = None) -> Response[str]:
    typed = await request.form() if problem else None
    return show(
        "new_webhook",
        request,
        problem,
        typed=dict(typed) if typed else {},
        held=set(typed.getall("events", [])) if typed else set(),
        kinds=kinds(),
    )


def kinds() -> list[tuple[str, str]]:
    """What one can ask for, and what each tells of: all, a group, one event."""
    groups = dict.fromkeys(kind.partition(".")[0] for kind in hooks.kinds)
    found = [("*", "All there is, of later versions too.")]
    for group in groups:
        of_group = [(kind, text) for kind, text in hooks.kinds.items() if kind.startswith(f"{group}.")]
        found += [(f"{group}.*", "All of these."), *of_group] if len(of_group) > 1 else of_group
    return found


def _shown_once(request: AnyRequest, endpoint_id: str, secret: str, until: Any = None) -> Response[str]:
    reply = show("webhook_secret", request, endpoint_id=endpoint_id, secret=secret, until=until)
    reply.headers.update(NOT_KEPT)
    return reply


def host_of(endpoint: Endpoint) -> str:
    """Where it leads; what follows in an address may be a secret of the receiver's."""
    return httpx.URL(endpoint.url).host


# ---- one of them


@page_at(ONE, permission=HOOKS)
async def show_webhook_on_page(request: AnyRequest, endpoint_id: Path[str], page: Given[Paging]) -> Response[str]:
    """What it is told, and what became of that in the last thirty days; `state` says which."""
    return await _one(request, endpoint_id, page=page, state=request.query_params.get("state", ""))


@form_at(ONE, permission=HOOKS)
async def edit_webhook_on_page(request: AnyRequest, endpoint_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """Have it told of other things."""
    try:
        form = await pages.form_of(request, Told)
        to = {"events": form.events, "note": form.note.strip()}
        await hooks.change(endpoint_id, to, form.version, actor)
    except Problem as problem:
        return await _one(request, endpoint_id, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{endpoint_id}")


@form_at(ONE + "/state", permission=HOOKS)
async def switch_webhook(request: AnyRequest, endpoint_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """Turn it off, or on: then it begins anew."""
    try:
        form = await pages.form_of(request, Switch)
        await hooks.change(endpoint_id, {"active": form.active == "yes"}, None, actor)
    except Problem as problem:
        return await _one(request, endpoint_id, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{endpoint_id}")


@form_at(ONE + "/pings", permission=HOOKS)
async def ping_webhook_on_page(request: AnyRequest, endpoint_id: Path[str]) -> Response[Any]:
    """Send it a message that means nothing."""
    try:
        await pages.form_of(request, Nothing)
        await hooks.ping(endpoint_id)
    except Problem as problem:
        return await _one(request, endpoint_id, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{endpoint_id}", "pinged")


@form_at(ONE + "/replays", permission=HOOKS)
async def replay_given_up(request: AnyRequest, endpoint_id: Path[str]) -> Response[Any]:
    """Send once more all that was given up, as long as it is kept."""
    try:
        await pages.form_of(request, Nothing)
        await hooks.replay_all(endpoint_id, now() - timedelta(seconds=KEPT), None, "undelivered")
    except Problem as problem:
        return await _one(request, endpoint_id, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{endpoint_id}", "sent_again")


async def _one(
    request: AnyRequest,
    endpoint_id: str,
    problem: Problem | None = None,
    *,
    page: Paging | None = None,
    state: str = "",
) -> Response[str]:
    endpoint = await hooks.endpoint(endpoint_id)
    wanted = state if state in STATES else ""
    where = {"state": wanted} if wanted else {}
    return show(
        "webhook",
        request,
        problem,
        endpoint=endpoint,
        host=host_of(endpoint),
        off=OFF,
        kinds=kinds(),
        states=STATES,
        asked=wanted,
        found=await hooks.log(endpoint, where, page or Paging()),
        who=await board.names_of([endpoint.made_by]),
    )


# ---- a new secret, and none at all


@page_at(ONE + "/secret", permission=HOOKS, step_up=True)
async def show_webhook_secret(request: AnyRequest, endpoint_id: Path[str]) -> Response[str]:
    """Give it a new one?"""
    return await _rotation(request, endpoint_id)


@form_at(ONE + "/secret", permission=HOOKS, step_up=True)
async def rotate_secret_on_page(request: AnyRequest, endpoint_id: Path[str], actor: Given[Actor]) -> Response[str]:
    """It is shown this once."""
    try:
        form = await pages.form_of(request, Overlap)
        made = await hooks.rotate(endpoint_id, timedelta(hours=form.overlap_hours), actor)
    except Problem as problem:
        return await _rotation(request, endpoint_id, pages.to_show(problem))
    return _shown_once(request, endpoint_id, made.secret, made.old_until)


async def _rotation(request: AnyRequest, endpoint_id: str, problem: Problem | None = None) -> Response[str]:
    endpoint = await hooks.endpoint(endpoint_id)
    return show("rotate_webhook", request, problem, endpoint=endpoint, host=host_of(endpoint), usual=Overlap())


@page_at(ONE + "/removal", permission=HOOKS)
async def show_webhook_removal(request: AnyRequest, endpoint_id: Path[str]) -> Response[str]:
    """Tell it no more?"""
    return await _removal(request, endpoint_id)


@form_at(ONE + "/removal", permission=HOOKS)
async def remove_webhook_on_page(request: AnyRequest, endpoint_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It goes, with its secret and its log."""
    try:
        await pages.form_of(request, Sure)
        await hooks.remove(endpoint_id, None, actor)
    except Problem as problem:
        return await _removal(request, endpoint_id, pages.to_show(problem))
    return pages.gone_well(HERE, "webhook_removed")


async def _removal(request: AnyRequest, endpoint_id: str, problem: Problem | None = None) -> Response[str]:
    endpoint = await hooks.endpoint(endpoint_id)
    return show("remove_webhook", request, problem, endpoint=endpoint, host=host_of(endpoint))


# ---- one message


@page_at(DELIVERY, permission=HOOKS)
async def show_delivery(request: AnyRequest, endpoint_id: Path[str], delivery_id: Path[str]) -> Response[str]:
    """What it says, each try, and the beginning of the last answer."""
    return await _delivery(request, endpoint_id, delivery_id)


@form_at(DELIVERY, permission=HOOKS)
async def replay_delivery(request: AnyRequest, endpoint_id: Path[str], delivery_id: Path[str]) -> Response[Any]:
    """Send it once more, under its id."""
    try:
        await pages.form_of(request, Nothing)
        await hooks.replay(await hooks.delivery(await hooks.endpoint(endpoint_id), delivery_id))
    except Problem as problem:
        return await _delivery(request, endpoint_id, delivery_id, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{endpoint_id}/deliveries/{delivery_id}", "sent_again")


async def _delivery(
    request: AnyRequest, endpoint_id: str, delivery_id: str, problem: Problem | None = None
) -> Response[str]:
    endpoint = await hooks.endpoint(endpoint_id)
    found = whole(await hooks.delivery(endpoint, delivery_id))
    said = msgspec.json.format(msgspec.json.encode(found.payload), indent=2).decode()
    return show(
        "delivery", request, problem, endpoint=endpoint, host=host_of(endpoint), found=found, said=said, states=STATES
    )


def said_here() -> Iterator[str]:
    """What these pages say that stands in no template."""
    yield from (*STATES.values(), *OFF.values(), *(text for _, text in kinds()))


routes: list[ControllerRouterHandler] = [
    show_webhooks,
    show_new_webhook,
    make_webhook_on_page,
    show_webhook_on_page,
    edit_webhook_on_page,
    switch_webhook,
    ping_webhook_on_page,
    replay_given_up,
    show_webhook_secret,
    rotate_secret_on_page,
    show_webhook_removal,
    remove_webhook_on_page,
    show_delivery,
    replay_delivery,
]
