"""What a supervisor, a balancer and a monitor ask: `/health`, `/ready` and `/metrics`."""

import asyncio
from typing import Any

import structlog
from litestar import Request, Response, get
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from msingi.kit import drain, observe, revocations, state
from msingi.kit.actors import Actor
from msingi.kit.errors import Forbidden, SignInFirst
from msingi.kit.replies import KitResponse

log = structlog.get_logger("health")
LOOPBACK = frozenset({"127.0.0.1", "::1"})
PERMISSION = "metrics:read"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
FRESH: dict[str, str] = {"Cache-Control": "no-store"}


@get("/health", public=True, limit="off", operation_id="show_health", tags=["health"])
async def show_health() -> KitResponse[dict[str, str]]:
    """Alive: this process answers. It asks nobody else, so a database that is down restarts no process."""
    return KitResponse({"status": "ok"}, headers=FRESH)


@get("/ready", public=True, limit="off", operation_id="show_readiness", tags=["health"])
async def show_readiness() -> Response[dict[str, Any]]:
    """Can serve: 200 `ready`, 503 `unready` without MongoDB, 503 `draining` at the end.

    200 `degraded` without Redis, or while this process does not hear at once who was signed out elsewhere.
    """
    mongo, redis = await asyncio.gather(mongo_answers(), redis_answers())
    hears = revocations.fresh()
    whole = "ready" if redis and hears else "degraded"
    status = "draining" if drain.draining() else "unready" if not mongo else whole
    checks = {"mongo": _word(mongo), "redis": _word(redis), "revocations": "ok" if hears else "late"}
    code = 200 if status in ("ready", "degraded") else 503
    return Response({"status": status, "checks": checks}, status_code=code, headers=FRESH)


@get("/metrics", public=True, limit="off", operation_id="show_metrics", tags=["health"])
async def show_metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """All metrics of all web processes as Prometheus reads them.

    In production only for the machine itself and for whoever holds `metrics:read`.
    """
    settings = state.settings()
    if settings.production and not _is_from_here(request):
        actor = request.scope.get("user")
        if not isinstance(actor, Actor):
            raise SignInFirst
        if not actor.may(PERMISSION):
            raise Forbidden
    text = await asyncio.to_thread(observe.metrics, settings.metrics_dir)
    return Response(text, media_type=TEXT, headers=FRESH)


routes = [show_health, show_readiness, show_metrics]


async def mongo_answers() -> bool:
    try:
        async with asyncio.timeout(1.0):
            await state.mongo().admin.command("ping")
    except (PyMongoError, TimeoutError) as error:
        log.warning("mongo_does_not_answer", error=type(error).__name__)
        return False
    return True


async def redis_answers() -> bool:
    try:
        async with asyncio.timeout(0.5):
            # A full disk lets Redis refuse even this.
            await state.redis().execute_command("PING")  # type: ignore[no-untyped-call]
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("redis_does_not_answer", error=type(error).__name__)
        return False
    return True


def _is_from_here(request: Request[Any, Any, Any]) -> bool:
    """From this very machine, and not through a proxy on it that speaks for somebody else."""
    client = request.scope.get("client")
    return bool(client and client[0] in LOOPBACK and request.scope["state"].get("direct"))


def _word(answers: bool) -> str:
    return "ok" if answers else "down"
