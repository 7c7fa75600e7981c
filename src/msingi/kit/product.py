"""The manifest: all that the house needs to know of a product, in one place."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from litestar import Router
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import events, idempotency, jobs, peers
from msingi.kit.db import Collection
from msingi.kit.drift import Drift
from msingi.kit.exports import Contribute, contributed_by
from msingi.kit.http import provided
from msingi.kit.live import Topic

NO_GRANTS: Mapping[str, Sequence[str]] = {}


@dataclass(frozen=True, kw_only=True)
class Product:
    """One product. Making it binds its collections to its database.

    `routes` are mounted under `/v1/<name>`, `root_routes` at `/` (for fixed addresses such as `/.well-known/…`).
    `grants` says which permissions a role carries, `keeps` which of them no admin can take from it; `plant` makes
    the demo data; `watch` are coroutines that every web process runs beside the requests; `settings` is a Struct
    read from the environment at boot; `exports` tells all that it has of a person, for that person to take away.
    `tokens` are headers with which somebody without an account shows what is theirs (see `Edge`).
    `desk` is the page where its staff begin, and the permission that it takes.
    `grow` makes up so many things, to try it under load; `verify` names what does not follow from its history.
    """

    name: str
    title: str
    summary: str
    routes: Sequence[ControllerRouterHandler] = ()
    root_routes: Sequence[ControllerRouterHandler] = ()
    dependencies: Mapping[str, Any] = field(default_factory=dict)
    stores: Sequence[Collection[Any]] = ()
    work: Sequence[ModuleType] = ()
    topics: Sequence[Topic] = ()
    plant: Callable[[], Awaitable[None]] | None = None
    grow: Callable[[int], Awaitable[int]] | None = None
    verify: Callable[[], Awaitable[Sequence[Drift]]] | None = None
    grants: Mapping[str, Sequence[str]] = field(default_factory=lambda: NO_GRANTS)
    keeps: Mapping[str, Sequence[str]] = field(default_factory=lambda: NO_GRANTS)
    settings: type[Struct] | None = None
    tokens: Sequence[str] = ()
    desk: tuple[str, str] | None = None
    watch: Sequence[Callable[[], Awaitable[None]]] = ()
    exports: Contribute | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.exports:
            contributed_by(self.name, self.exports)
        for store in self.stores:
            store.product = self.name

    @property
    def all_stores(self) -> list[Collection[Any]]:
        """Its own collections, and those that the kit keeps beside them."""
        kept = [*events.stores(self.name), *jobs.stores(self.name), *idempotency.stores(self.name)]
        return [*self.stores, *kept]

    @property
    def found(self) -> jobs.Work:
        """Its jobs, crons and reactions."""
        return jobs.found_in(self.work)

    def router(self) -> Router:
        """Its routes under `/v1/<name>`, marked with its name."""
        answering = peers.routes if self.exports else []  # where other processes ask what it answers
        return Router(
            path=f"/v1/{self.name}",
            route_handlers=[*self.routes, *answering],
            dependencies=provided(self.dependencies),
            tags=[self.name],
            opt={"product": self.name},
        )
