"""How products are tested: real MongoDB and Redis, a small world, and people who ask for things.

A pytest plugin. One mongod and one Redis serve the whole run; each xdist worker has databases of its own; each test
starts from the product's seeds.
"""

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from litestar import Litestar

from msingi.kit import app as kit_app
from msingi.kit import audit, config, db, embedded, events, followed, http, mail, revocations, state, tokens, worker
from msingi.kit.actors import Actor
from msingi.kit.product import Product

PASSWORD = "correct horse battery msingi"  # noqa: S105  (of people who live for one test)
# For who asks a server on this machine: to read whom the system trusts costs 20 ms of CPU a client.
NEARBY: dict[str, Any] = {"trust_env": False, "verify": False}
BRIEFLY = httpx.Limits(keepalive_expiry=2)  # for the same: servers close what is unused for five seconds
# What is over is removed within a second; a database is dropped without waiting for the next turn of the journal, which
# would take 100 ms each time.
QUICK = ("--setParameter", "ttlMonitorSleepSecs=1", "--journalCommitInterval", "10")
ROOM = 6 * 2**30  # bytes: what the servers of a run hold at most, several times over
PWD = frozenset({"pwd"})  # how they signed in
PEOPLE = {
    "ann": Actor(id="ann", name="Ann", roles=frozenset({"user"}), methods=PWD),
    "bob": Actor(id="bob", name="Bob", roles=frozenset({"user"}), methods=PWD),
    "eve": Actor(id="eve", name="Eve", roles=frozenset({"user"}), methods=PWD),
    "admin": Actor(id="admin", name="Admin", roles=frozenset({"user", "admin"}), methods=PWD),
}


# ---- the servers of a run


def pytest_configure(config: pytest.Config) -> None:
    """Start one MongoDB and one Redis in the process that steers the run; its workers inherit their addresses."""
    if hasattr(config, "workerinput"):
        return
    files = tempfile.TemporaryDirectory(prefix="msingi-test-files-")
    config.add_cleanup(files.cleanup)
    os.environ["MSINGI_TEST_FILES"] = files.name
    if os.environ.get("MSINGI_TEST_MONGO"):
        return
    folder = Path(tempfile.mkdtemp(prefix="msingi-test-", dir=_in_memory()))
    servers = embedded.start(folder, extra_mongod=QUICK)
    os.environ["MSINGI_TEST_MONGO"], os.environ["MSINGI_TEST_REDIS"] = servers.mongo_url, servers.redis_url
    config.add_cleanup(lambda: _stop(servers, folder))


def _in_memory() -> Path | None:
    """Where what is written needs no disk, if there is room: nothing that these servers keep outlives the run."""
    memory = Path("/dev/shm")  # noqa: S108  (a folder of our own is made in it)
    with suppress(OSError):
        if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM:
            return memory
    return None


def _stop(servers: embedded.Servers, folder: Path) -> None:
    servers.release()
    os.environ.pop("MSINGI_TEST_MONGO", None)
    shutil.rmtree(folder, ignore_errors=True)


def test_settings(**changes: Any) -> config.Settings:
    """Settings for this test process: its own database prefix and its own Redis database."""
    number = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    environ = {
        "MSINGI_ENV": "test",
        "MONGO_URL": os.environ["MSINGI_TEST_MONGO"],
        "REDIS_URL": f"{os.environ['MSINGI_TEST_REDIS'].rstrip('/').removesuffix('/0')}/{number}",
        "MSINGI_DATABASE": f"t{number}",
        "MSINGI_FILES": os.environ["MSINGI_TEST_FILES"],
        "MSINGI_PUBLIC_URL": "http://msingi.test",
        "MSINGI_ANONYMOUS_LIMIT": "100000/minute",
        "MSINGI_MEMBER_LIMIT": "100000/minute",
    }
    return config.load(config.Settings, environ | {name: str(value) for name, value in changes.items()})


test_settings.__test__ = False  # type: ignore[attr-defined]


# ---- the house of a test module


@dataclass
class House:
    """A running application and what it is made of."""

    products: list[Product]
    app: Any
    settings: config.Settings
    key: Any
    fresh: bool = False  # whether it is as the seeds made it


@asynccontextmanager
async def house_of(products: list[Product], **changes: Any) -> AsyncIterator[House]:
    """The application of some products, alive in this very event loop, its collections prepared."""
    settings = test_settings(**changes)
    kinds = [product.settings for product in products if product.settings]
    parts = config.load_all(kinds, {name: str(value) for name, value in changes.items()})
    app = kit_app.build(settings, products, parts=parts)
    async with lifespan(app):
        # Where no test is about a Redis that hangs, a machine that is busy with other tests must not look like one.
        pool: Any = state.redis().connection_pool
        pool.connection_class.deadline = 5.0
        await kit_app.prepare_running(products)
        key = tokens.SigningKey.generate()
        tokens.ring().add(key.public)
        yield House(products, app, settings, key)


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Start an ASGI application and stop it at the end, as a server would."""
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    outbox: asyncio.Queue[Any] = asyncio.Queue()
    scope: Any = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task: asyncio.Task[None] = asyncio.create_task(app(scope, inbox.get, outbox.put))

    async def told(kind: str) -> None:
        await inbox.put({"type": f"lifespan.{kind}"})
        getter = asyncio.create_task(outbox.get())
        await asyncio.wait({getter, task}, return_when=asyncio.FIRST_COMPLETED)
        if not getter.done():
            getter.cancel()
            await task
            raise RuntimeError(f"the application left during {kind}")
        message = getter.result()
        if message["type"] != f"lifespan.{kind}.complete":
            raise RuntimeError(message.get("message", kind))

    await told("startup")
    await _until_it_hears()
    try:
        yield
    finally:
        await told("shutdown")
        await task


async def _until_it_hears() -> None:
    """Have the process follow what it follows: a driver that is stopped while it connects leaves its socket open."""
    for _ in range(150):
        if not state.is_running() or state.part(followed.Heard).names >= {"revocations", "followed"}:
            return
        await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def products(request: pytest.FixtureRequest) -> list[Product]:
    """The products that a test module runs: its own, alone. A module may define another fixture of this name."""
    found = re.search(r"/products/(\w+)/tests/", request.path.as_posix())
    if not found:
        return []
    return [import_module(f"msingi.products.{found[1]}.product").product]


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    """What the environment tells these products. A module or folder may define another fixture of this name."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(products: list[Product], environ: dict[str, str]) -> AsyncIterator[House]:
    """These products, running."""
    async with house_of(products, **environ) as running:
        yield running


# ---- the world of one test


@dataclass
class World:
    """What happened since the test began, and what can be made to happen."""

    house: House
    told: list[Any] = field(default_factory=list)

    async def events(self) -> list[Any]:
        """The events told since the seeds were planted, oldest first."""
        return await events.told(product.name for product in self.house.products)

    async def letters(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The letters written since then: template, address, what they say."""
        return [(each.template, each.to, each.context) for each in await mail.written()]

    async def work(self) -> None:
        """Do all that waits: carry events, run reactions and due jobs, deliver letters, until nothing is left."""
        await worker.work_off(self.house.products)

    async def tell(self, event: Any) -> None:
        """Let an event of another product arrive here, and be reacted to."""
        await events.arrive(event, self.house.products)

    def client(self, actor: Actor | None) -> "Client":
        """Someone at the door."""
        return Client(self.house, actor)


@pytest_asyncio.fixture(loop_scope="session")
async def world(house: House) -> AsyncIterator[World]:
    """An empty house with the seeds planted."""
    await start_over(house)
    house.fresh = False
    yield World(house)


@pytest_asyncio.fixture(loop_scope="session")
async def standing_world(house: House) -> AsyncIterator[World]:
    """A house as the seeds made it: planted anew unless whoever had it before left it `fresh`."""
    if not house.fresh:
        await start_over(house)
    house.fresh = False
    yield World(house)


async def start_over(house: House) -> None:
    """Empty every collection and all of Redis, forget what the process remembers, and plant the seeds."""
    stores = [
        *mail.stores(),
        *audit.stores(),
        *followed.stores(),
        *revocations.stores(),
        *(store for product in house.products for store in product.all_stores),
    ]
    await state.part(audit.Refusals).flush()  # else what is being written now lands in the log of the next test
    await asyncio.gather(*(_emptied(product, names) for product, names in _by_product(stores).items()))
    await state.redis().flushdb()
    for part in list(state.current().parts.values()):
        if hasattr(part, "start_over"):
            part.start_over()
    for product in house.products:
        if product.plant:
            await product.plant()
    await events.forget(product.name for product in house.products)


def _by_product(stores: Sequence[db.Collection[Any]]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for store in stores:
        names.setdefault(store.product, []).append(store.name)
    return names


async def _emptied(product: str, names: Sequence[str]) -> None:
    """Empty what holds anything: to ask that first costs a tenth of emptying them all."""
    database = state.database(product)
    for name in await db.holding(database, names, {}):
        await database[name].delete_many({})


class Client:
    """Someone who speaks HTTP to the house: paths count from `/v1/<product>`, keywords are the JSON body."""

    def __init__(self, house: House, actor: Actor | None) -> None:
        self.house, self.actor = house, actor
        self.last: httpx.Response
        self.headers: dict[str, str] = {}
        if actor is not None:
            self.headers["authorization"] = f"Bearer {tokens.token_for(actor, house.key)}"
        transport = httpx.ASGITransport(app=house.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://msingi.test")

    async def get(self, path: str, **options: Any) -> Any:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Any:
        return await self.ask("POST", path, **options)

    async def put(self, path: str, **options: Any) -> Any:
        return await self.ask("PUT", path, **options)

    async def patch(self, path: str, **options: Any) -> Any:
        return await self.ask("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> Any:
        return await self.ask("DELETE", path, **options)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        expect: int | Sequence[int] | None = None,
        headers: dict[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        **fields: Any,
    ) -> Any:
        """The decoded reply; the whole of it is in `last`. Fails unless the status is `expect` (or a 2xx)."""
        body = json if json is not None else (fields or None)
        self.last = await self.http.request(
            method, self.url(path), headers={**self.headers, **(headers or {})}, json=body, content=content
        )
        fits = self.last.is_success if expect is None else self.last.status_code in _several(expect)
        assert fits, f"{method} {path}: {self.last.status_code}, not {expect or '2xx'}: {self.last.text[:600]}"
        if "json" in self.last.headers.get("content-type", ""):
            return self.last.json()
        return self.last.content or None

    def url(self, path: str) -> str:
        """`/boards` is short for `/v1/<product>/boards`; what begins with `/v1/`, `/.` or `//` is meant as it is."""
        return address_of(path, self.house.products[0].name)


def address_of(path: str, product: str) -> str:
    """The whole of a path that is given in short."""
    if path.startswith("//"):
        return path[1:]
    return path if path.startswith(("/v1/", "/.")) else f"/v1/{product}{path}"


def _several(expect: int | Sequence[int]) -> Sequence[int]:
    return [expect] if isinstance(expect, int) else expect


def _person(name: str | None) -> Any:
    @pytest_asyncio.fixture(name=name or "nobody", loop_scope="session")
    async def person(world: World) -> AsyncIterator[Client]:
        client = world.client(PEOPLE[name] if name else None)
        async with client.http:
            yield client

    return person


nobody, ann, bob, eve, admin = (_person(name) for name in (None, "ann", "bob", "eve", "admin"))


# ---- the access table


@dataclass(frozen=True)
class Row:
    """One line of an access table: a request, and the status each person gets."""

    method: str
    path: str
    statuses: dict[str, int]


def access_table(product: Product, table: str, body: dict[str, Any] | None = None) -> Callable[..., Any]:
    """A test of who may do what: a line a route, a column a person, each cell the status that they get.

    Every cell starts from what the seeds planted; it is planted anew unless the cell before was refused or only read.
    `body` gives the JSON by method, or by `"METHOD path"`. Raises at collection if a route of the product has no line,
    or a line no route.
    """
    people, rows = _parsed(table)
    _complete(product, rows)
    cells = [(row, who) for row in rows for who in people]

    @pytest.mark.parametrize(("row", "who"), cells, ids=[f"{row.method} {row.path} {who}" for row, who in cells])
    @pytest.mark.asyncio(loop_scope="session")
    async def test_access(standing_world: World, row: Row, who: str) -> None:
        client = standing_world.client(PEOPLE.get(who))
        sent = (body or {}).get(f"{row.method} {row.path}", (body or {}).get(row.method))
        async with client.http:
            await client.ask(row.method, row.path, json=sent, expect=row.statuses[who])
        standing_world.house.fresh = client.last.status_code >= 400 or row.method == "GET"

    return test_access


def _parsed(table: str) -> tuple[list[str], list[Row]]:
    lines = [line.split() for line in table.strip().splitlines() if line.strip()]
    people = lines[0]
    unknown = set(people) - set(PEOPLE) - {"nobody"}
    assert not unknown, f"nobody here is called {unknown}"
    return people, [Row(line[0], line[1], dict(zip(people, map(int, line[2:]), strict=True))) for line in lines[1:]]


def _complete(product: Product, rows: list[Row]) -> None:
    routes = set(_routes(product))
    covered = set()
    for row in rows:
        path = row.path.split("?")[0]
        matching = [route for route in routes if route[0] == row.method and _matches(route[1], path, product.name)]
        assert matching, f"{product.name} has no route {row.method} {path}"
        # The most literal one is the one that the router takes: /tasks/search before /tasks/{id}.
        covered.add(min(matching, key=lambda route: route[1].count("{")))
    missing = sorted(routes - covered)
    assert not missing, f"the access table of {product.name} lacks: {missing}"


def _routes(product: Product) -> Iterator[tuple[str, str]]:
    handlers = [product.router(), *product.root_routes]
    inner = Litestar(handlers, dependencies=dict(http.DEPENDENCIES), openapi_config=None)
    for route in inner.routes:
        for method in getattr(route, "methods", ()):
            if method not in ("OPTIONS", "HEAD"):
                yield method, route.path_format


def _matches(template: str, path: str, name: str) -> bool:
    whole = address_of(path, name)
    pattern = re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(template))
    return re.fullmatch(pattern.rstrip("/") or "/", whole.rstrip("/") or "/") is not None
