"""From a list of products to one ASGI application: the same for one product alone and for all together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, Reference, SecurityScheme
from litestar.routes import HTTPRoute
from litestar.types import ControllerRouterHandler

from msingi.kit import (
    audit,
    auth,
    data_keys,
    db,
    drain,
    files,
    followed,
    health,
    http,
    live,
    mail,
    memory,
    replies,
    revocation_feed,
    revocations,
    state,
    tokens,
)
from msingi.kit.auth import Gate
from msingi.kit.config import Settings
from msingi.kit.drift import Drift
from msingi.kit.edge import Edge
from msingi.kit.idempotency import Idempotency
from msingi.kit.limits import Limit
from msingi.kit.product import Product
from msingi.kit.reading import KitRequest

log = structlog.get_logger("app")
Watch = Callable[[], Awaitable[None]]


def build(
    settings: Settings,
    products: Sequence[Product],
    *,
    parts: Mapping[type, Any] | None = None,
    pages: Sequence[ControllerRouterHandler] = (),
    **more: Any,
) -> Edge:
    """The application that serves these products. `pages` are routes beside theirs; `more` goes to Litestar."""
    auth.roles_known(products)
    with memory.without("pydantic", "attr", "opentelemetry"):
        inner = _litestar(settings, products, parts or {}, pages, more)
    _one_by_one(inner)
    sockets = live.SocketServer(tokens.identify_token, inner)
    shown = [each for product in products for each in product.tokens]
    return Edge(sockets, settings, tokens=shown)


def _litestar(
    settings: Settings,
    products: Sequence[Product],
    parts: Mapping[type, Any],
    pages: Sequence[ControllerRouterHandler],
    more: Mapping[str, Any],
) -> Litestar:
    return Litestar(
        route_handlers=[
            *(route for product in products for route in [product.router(), *product.root_routes]),
            *(live.sse_handler(product.name, product.topics) for product in products if product.topics),
            *health.routes,
            *files.routes,
            *pages,
        ],
        lifespan=[lambda app: _lifespan(settings, products, parts)],
        dependencies=http.provided(http.DEPENDENCIES),
        middleware=[Gate(), Limit(), Idempotency()],
        exception_handlers=replies.HANDLERS,
        request_class=KitRequest,
        response_class=replies.KitResponse,
        request_max_body_size=None,  # the edge counts, before anything is read
        openapi_config=_openapi(settings),
        logging_config=None,
        debug=False,
        **more,
    )


def _one_by_one(inner: Litestar) -> None:
    """Let each handler's dependencies be made one after the other, by name.

    Litestar makes those that do not need one another at the same time, with a task for each, which costs a tenth of a
    millisecond; ours read a header, or wait for one document.
    """
    for route in inner.routes:
        if isinstance(route, HTTPRoute):
            for _, model in route.route_handler_map.values():
                batches = [sorted(batch, key=lambda each: each.key) for batch in model.dependency_batches]
                model.dependency_batches = [{each} for batch in batches for each in batch]


async def prepare(settings: Settings, products: Sequence[Product]) -> None:
    """Bring every collection's validator and indexes up to date: once, before the processes start."""
    async with state.running(settings, products):
        await prepare_running(products)


async def prepare_running(products: Sequence[Product]) -> None:
    """The same for a process that runs already."""
    await data_keys.load()
    kept = [*revocations.stores(), *mail.stores(), *audit.stores(), *followed.stores()]
    await db.prepare([*kept, *(store for product in products for store in product.all_stores)])


async def plant(settings: Settings, products: Sequence[Product], parts: Mapping[type, Any] | None = None) -> list[str]:
    """Plant the demo data of each product that holds none yet; returns the names of those."""
    async with state.running(settings, products, parts):
        planted = []
        for product in products:
            if product.plant and not await _holds_anything(product):
                await product.plant()
                planted.append(product.name)
        return planted


async def grow(settings: Settings, product: Product, parts: Mapping[type, Any], size: int) -> int:
    """Make up things until a product has `size` of them, to try it under load; returns how many were made."""
    async with state.running(settings, [product], parts):
        await prepare_running([product])
        return await product.grow(size) if product.grow else 0


async def verify(settings: Settings, product: Product, parts: Mapping[type, Any]) -> Sequence[Drift]:
    """What of a product's counts does not follow from its history."""
    async with state.running(settings, [product], parts):
        await data_keys.load()
        return await product.verify() if product.verify else []


async def _holds_anything(product: Product) -> bool:
    for store in product.stores:
        if await store.exists({}):
            return True
    return False


@asynccontextmanager
async def _lifespan(settings: Settings, products: Sequence[Product], parts: Mapping[type, Any]) -> AsyncIterator[None]:
    """What a web process keeps doing beside its requests, from its first breath to its last."""
    async with state.running(settings, products, parts):
        drain.install()
        if settings.jwks_url:
            tokens.load_keys_with(tokens.keys_at_address)
        await data_keys.load()
        await followed.begin()
        watches: list[Watch] = [
            data_keys.run_watch,
            audit.run_refusals,
            revocations.run_watch,
            followed.run_watch,
            live.run_tailer,
            memory.run_watch,
        ]
        if settings.revocations_url:
            watches.append(revocation_feed.run_watch)
        watches += [watch for product in products for watch in product.watch]
        running = [asyncio.create_task(_kept_going(watch)) for watch in watches]
        log.info("web_started", products=[product.name for product in products])
        try:
            yield
        finally:
            await drain.end(running)
            log.info("web_stopped")


async def _kept_going(watch: Watch) -> None:
    """Start a watch again whenever it fails: it is needed as long as the process lives."""
    while True:
        try:
            await watch()
            return
        except Exception:  # whatever it was, the next try may find it gone
            log.warning("watch_failed", watch=getattr(watch, "__qualname__", str(watch)), exc_info=True)
            await asyncio.sleep(0.5)


def _openapi(settings: Settings) -> OpenAPIConfig:
    """The schema only; the console serves it and its readers at their fixed addresses."""
    schemes: dict[str, SecurityScheme | Reference] = {
        "bearer": SecurityScheme(
            type="http", scheme="bearer", bearer_format="JWT", description="An access token, or an API key."
        ),
        "session": SecurityScheme(type="apiKey", name="__Host-sid", security_scheme_in="cookie"),
    }
    return OpenAPIConfig(
        title="Msingi",
        version="0.1.0",
        path="/_openapi",
        render_plugins=[],
        use_handler_docstrings=True,
        components=Components(security_schemes=schemes),
        create_examples=False,
        operation_id_creator=_operation_id,
    )


def _operation_id(handler: Any, method: Any, path: Any) -> str:
    return http.operation_id(handler)
