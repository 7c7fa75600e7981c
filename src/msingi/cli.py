"""`msingi`: the house on the command line."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from msingi import preflight
from msingi.kit import config, embedded, memory
from msingi.kit.config import Settings
from msingi.kit.embedded import CannotStart
from msingi.supervise import MARK, Asked, Child, Stopped, Supervisor, end_leftovers, mark, run_once

P = ParamSpec("P")
T = TypeVar("T")

folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=".msingi",
    envvar="MSINGI_FOLDER",
    show_default=True,
    help="Where data, secrets and logs are kept.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Honest backends on MongoDB and Redis: run them, look after them, check them from outside."""


def plainly(command: Callable[P, T]) -> Callable[P, T]:
    """What keeps a command from its work is told in words, not as a traceback."""

    @wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except (CannotStart, config.BadSettings) as reason:
            raise click.ClickException(str(reason)) from reason

    return told


# ---- everything at once


@main.command()
@click.argument("products", nargs=-1)
@folder_option
@plainly
def up(products: tuple[str, ...], folder: Path) -> None:
    """Start databases, web and worker, with demo data, and keep them alive until Ctrl-C.

    MONGO_URL and REDIS_URL name databases of your own to use instead of the embedded ones.
    """
    narrator, asked = Narrator(), Asked()
    supervisor = Supervisor(narrator.say, asked)
    try:
        environment, settings, password = _surroundings(products, folder.resolve())
        _bring_up(supervisor, folder.resolve(), environment, settings, narrator.began)
        click.echo(welcome(settings, password, folder))
        supervisor.keep()
    except Stopped:
        pass
    finally:
        supervisor.stop()
    narrator.say("all is stopped; the data stays where it is")


class Narrator:
    """Says what happens, each line with the seconds since the beginning."""

    def __init__(self, began: float | None = None) -> None:
        self.began = time.monotonic() if began is None else began

    def say(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self.began:6.1f} s  {text}")


def _surroundings(products: Sequence[str], folder: Path) -> tuple[dict[str, str], Settings, str]:
    """The environment of the processes to come, the settings it amounts to, and the demo people's password."""
    config.load(Settings, os.environ)  # bad ones are told before a file is written
    environment = dict(os.environ)
    with embedded.plainly(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        password = preflight.kept(folder / "demo-password", preflight.make_password)
        if not environment.get("MSINGI_SECRET") and environment.get("MSINGI_ENV", "development") == "development":
            environment["MSINGI_SECRET"] = preflight.kept(folder / "secret", preflight.make_secret)
    environment |= {MARK: mark(folder), "MSINGI_DEMO_PASSWORD": password, "PYTHONUNBUFFERED": "1"}
    environment["MSINGI_FILES"] = environment.get("MSINGI_FILES") or str(folder / "files")
    if products:
        environment["MSINGI_PRODUCTS"] = ",".join(products)
    settings = config.load(Settings, environment)
    if settings.port == 0:
        environment["MSINGI_PORT"] = str(preflight.free_port(settings.host))
        settings = config.load(Settings, environment)
    return environment, settings, password


def _bring_up(
    supervisor: Supervisor, folder: Path, environment: dict[str, str], settings: Settings, began: float
) -> None:
    say, asked = supervisor.say, supervisor.asked
    left = end_leftovers(folder)
    if left:
        say(f"ended {left} processes that an earlier run left behind")
    preflight.check_port(settings.host, settings.port, patience=5.0 if left else 0.0)
    _databases(supervisor, folder, environment)
    asked.check()
    _sandbox(supervisor, folder, environment, settings)
    say("preparing collections, indexes and demo data")
    run_once(Child("preparation", ours("prepare", "--demo"), environment, folder / "prepare.log"), asked)
    say("starting the web server and the worker")
    environment.setdefault("PROMETHEUS_MULTIPROC_DIR", str(_emptied(folder / "metrics")))
    for child in _web_and_worker(folder, environment, settings, began):
        supervisor.start(child)
    supervisor.wait_ready(settings.host, settings.port)
    say("ready")


def _web_and_worker(folder: Path, environment: dict[str, str], settings: Settings, began: float) -> list[Child]:
    """As copies of one process that keeps them, where there are such; else each by itself."""
    if sys.platform == "linux":
        command = house("--logs", str(folder), "--began", str(began))
        return [Child("house", command, environment, folder / "house.log", aloud=True, keeps=2)]
    return [
        Child("web server", granian(settings), environment, folder / "web.log"),
        Child("worker", ours("worker"), environment, folder / "worker.log"),
    ]


def _sandbox(supervisor: Supervisor, folder: Path, environment: dict[str, str], settings: Settings) -> None:
    """Somebody to pay with: the stand-in of the payment providers, where the shop runs and knows no real ones."""
    served = environment.get("MSINGI_PRODUCTS", "shop").split(",")
    known = any(environment.get(name) for name in ("MSINGI_SHOP_SANDBOX_URL", "MSINGI_STRIPE_KEY", "MSINGI_MPESA_KEY"))
    if "shop" not in served or known or settings.production:
        return
    port = preflight.free_port("127.0.0.1")
    environment["MSINGI_SHOP_SANDBOX_URL"] = f"http://127.0.0.1:{port}"
    environment["MSINGI_STRIPE_WEBHOOK_SECRET"] = preflight.kept(folder / "sandbox-secret", preflight.make_secret)
    hook = f"{settings.base_url}/v1/shop/callbacks/cards"
    command = [sys.executable, "-m", "msingi.kit.payments.sandbox", "--port", str(port), "--stripe-hook", hook]
    supervisor.start(Child("payment sandbox", command, environment, folder / "sandbox.log"))


def _databases(supervisor: Supervisor, folder: Path, environment: dict[str, str]) -> None:
    """Those of the environment, if they answer; for what it does not name, embedded ones."""
    say, checks = supervisor.say, {"MONGO_URL": preflight.check_mongo, "REDIS_URL": preflight.check_redis}
    for name, check in checks.items():
        if environment.get(name):
            say(f"looking for {preflight.shown(environment[name])}")
            check(environment[name])
    missing = [kind.name for kind in embedded.KINDS if not environment.get(kind.setting)]
    if missing:
        supervisor.servers = embedded.start(folder, progress=say, only=missing)
        given = {kind.setting: kind.url_in(folder) for kind in supervisor.servers.kinds}
        environment.update(given)


def _emptied(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink()
    return folder


def welcome(settings: Settings, password: str, folder: Path) -> str:
    """What a newcomer needs next: an address, who to be, and four lines to try."""
    base = settings.base_url
    sign_in = json.dumps({"email": "ann@msingi.test", "password": password}, separators=(",", ":"))
    note = '{"title":"Milk","body":"Two litres"}'
    cut = r"""sed 's/.*"access_token":"\([^"]*\)".*/\1/'"""
    return f"""
  Open            {base}

  Demo sign-ins   ann@msingi.test, bob@msingi.test (members), admin@msingi.test (admin)
  Password        {password}

  Try first
    TOKEN=$(curl -s {base}/v1/accounts/sign-in -H 'Content-Type: application/json' -d '{sign_in}' | {cut})
    curl -s {base}/v1/notes -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{note}'
    curl -s {base}/v1/notes -H "Authorization: Bearer $TOKEN"
    curl -s '{base}/v1/shop/products?q=chai&limit=3'

  Logs            {folder}/web.log, {folder}/worker.log
  Stop            Ctrl-C
"""


# ---- one process each


@main.command()
@click.argument("products", nargs=-1)
@click.option("--worker", "with_worker", is_flag=True, help="A worker too, which shares its memory; on Linux.")
@plainly
def serve(products: tuple[str, ...], with_worker: bool) -> None:
    """Run the web server alone, of some PRODUCTS or of all; its databases come from the environment."""
    if with_worker and sys.platform != "linux":
        raise CannotStart("Here a web server and a worker share nothing: start `msingi worker` beside.")
    settings = config.load(Settings, os.environ)
    preflight.check_port(settings.host, settings.port)
    if products:
        os.environ["MSINGI_PRODUCTS"] = ",".join(products)
    command = house() if with_worker else granian(settings)
    os.execv(command[0], command)  # noqa: S606  (no shell; the server takes this process's place and its signals)


@main.command()
@plainly
def worker() -> None:
    """Run jobs, the clock and the relay of events, until SIGTERM."""
    memory.be_thrifty()
    with memory.without(*memory.NOT_USED):
        settings, products, parts = _house()
    import_module("msingi.kit.observe").configure(settings)
    work(settings, products, parts)


def work(settings: Settings, products: Sequence[Any], parts: Mapping[type, Any]) -> None:
    """Be a worker of these products, until SIGTERM."""
    import_module("uvloop").run(import_module("msingi.kit.worker").main(settings, products, parts))


@main.command()
@click.option("--demo", is_flag=True, help="Plant demo data in products that hold nothing; not in production.")
@plainly
def prepare(demo: bool) -> None:
    """Bring validators and indexes up to date: once, before web and worker start."""
    settings, products, parts = _house()
    kit_app = import_module("msingi.kit.app")
    asyncio.run(kit_app.prepare(settings, products))
    if demo and not settings.production:
        planted = asyncio.run(kit_app.plant(settings, products, parts))
        click.echo(f"Demo data: {', '.join(planted) or 'there was some already'}.")


@main.command()
@click.argument("product")
@click.option("--size", type=click.IntRange(1, 10_000_000), help="so many made-up things more, to try it under load")
@plainly
def seed(product: str, size: int | None) -> None:
    """Plant the demo data of a PRODUCT that holds nothing yet."""
    settings, products, parts = _house([product])
    if settings.production:
        raise CannotStart("Demo data has no place in production.")
    if size is not None:
        if products[0].grow is None:
            raise CannotStart(f"{product} has nothing that can be made up in large numbers.")
        made = asyncio.run(import_module("msingi.kit.app").grow(settings, products[0], parts, size))
        click.echo(f"Made {made:,} more, so that {product} has {size:,}.")
        return
    planted = asyncio.run(import_module("msingi.kit.app").plant(settings, products, parts))
    click.echo(f"Planted {product}." if planted else f"{product} holds data already; nothing was planted.")


@main.command()
@click.argument("product")
@plainly
def verify(product: str) -> None:
    """Derive again, from its history, what a PRODUCT counts; name all that does not agree, and exit with 1 if any."""
    settings, products, parts = _house([product])
    drifts = asyncio.run(import_module("msingi.kit.app").verify(settings, products[0], parts))
    for drift in drifts:
        click.echo(f"{drift.what} of {drift.id}: {drift.found}, and {drift.expected} by its history")
    click.echo(f"{len(drifts)} do not agree." if drifts else f"All that {product} counts agrees with its history.")
    sys.exit(bool(drifts))


# ---- the keys and the log that nobody may touch


@main.group()
def keys() -> None:
    """The keys that data is sealed with, and the secret that they are wrapped under."""


@keys.command("show")
@plainly
def show_keys() -> None:
    """List the keys, and how far what they seal has been sealed anew."""
    settings, products, _ = _house()
    import_module("msingi.keys").show(settings, products)


@keys.command("renew")
@plainly
def renew_keys() -> None:
    """Make a new data key: what is written is sealed with it, and the worker seals the rest anew."""
    settings, products, _ = _house()
    import_module("msingi.keys").renew(settings, products)


@keys.command("reseal")
@plainly
def reseal_keys() -> None:
    """Seal anew at once what older keys seal; the worker does so by itself in time."""
    settings, products, _ = _house()
    import_module("msingi.keys").reseal(settings, products)


@keys.command("rewrap")
@plainly
def rewrap_keys() -> None:
    """Let MSINGI_SECRET alone open the keys: the last step of changing it."""
    settings, products, _ = _house()
    import_module("msingi.keys").rewrap(settings, products)


@main.group()
def audit() -> None:
    """The log of what happened to people's access."""


@audit.command("verify")
@click.option("--anchor", default="", help="One that was kept elsewhere: `audit_anchor` in the worker's log.")
@plainly
def verify_audit(anchor: str) -> None:
    """Walk the chain of entries; name the first that was edited, deleted or inserted, and fail."""
    settings, products, _ = _house()
    if not import_module("msingi.keys").verify(settings, products, anchor):
        sys.exit(1)


# ---- passwords that are known to others


@main.group()
def breaches() -> None:
    """Lists of passwords that were found in breaches, which nobody may choose."""


@breaches.command("build")
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("to", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--shortest", type=click.IntRange(1, 128), default=15, show_default=True, help="Leave out shorter ones.")
@click.option("--first", type=click.IntRange(1), help="Take the first so many: the most frequent.")
@plainly
def build_breaches(source: Path, to: Path, shortest: int, first: int | None) -> None:
    """Make a filter of SOURCE (a password a line, or a zip of such a file) for MSINGI_BREACHED_PASSWORDS."""
    try:
        made = import_module("msingi.products.accounts.breaches").build(source, to, shortest=shortest, first=first)
    except (ValueError, OSError) as fault:
        raise CannotStart(str(fault)) from fault
    click.echo(f"{made} passwords in {to}, {to.stat().st_size} bytes")


# ---- who runs it


@main.group()
def admin() -> None:
    """The first admin, and the next one when nobody can let them in any more."""


@admin.command("add")
@click.argument("email")
@click.option("--name", default="Admin", show_default=True, help="What they are called.")
@plainly
def add_admin(email: str, name: str) -> None:
    """Make an admin with the address EMAIL; asks for a password, or reads it from standard input.

    Somebody who has an account already keeps their password.
    """
    import_module("msingi.admins").add(_house(["accounts"]), email, name, _asked_password)


def _asked_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password: str = click.prompt("Password (15 characters at least)", hide_input=True, confirmation_prompt=True)
    return password


@admin.command("grant")
@click.argument("email")
@plainly
def grant_admin(email: str) -> None:
    """Make an admin of somebody who has an account with the address EMAIL."""
    import_module("msingi.admins").grant(_house(["accounts"]), email)


# ---- looking at it


@main.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def check(arguments: tuple[str, ...]) -> None:
    """Check from outside whether a server keeps a contract: msingi check notes --url http://…"""
    import_module("msingi.checks.command").check.main(args=list(arguments), prog_name="msingi check")


@main.command()
@plainly
def routes() -> None:
    """List every route with its operation's name."""
    for path, operations in sorted(_description()["paths"].items()):
        for method, operation in operations.items():
            if isinstance(operation, Mapping):
                click.echo(f"{method.upper():7} {path:58} {operation.get('operationId', '')}")


@main.command()
@click.argument("product", required=False)
@plainly
def openapi(product: str | None) -> None:
    """Print the OpenAPI description of all products, or of one PRODUCT."""
    click.echo(json.dumps(_description(product), indent=2, ensure_ascii=False))


def _description(product: str | None = None) -> dict[str, Any]:
    settings, products, parts = _house()
    pages = import_module("msingi.console.routes").routes
    edge = import_module("msingi.kit.app").build(settings, products, parts=parts, pages=pages)
    inner = edge.app.app  # below the edge and the sockets
    described: dict[str, Any] = import_module("msingi.kit.openapi").describe(inner, product)
    return described


def _house(names: Sequence[str] = ()) -> tuple[Settings, list[Any], dict[type, Any]]:
    """The settings, the products (those of MSINGI_PRODUCTS if none are named) and the products' settings."""
    catalog = import_module("msingi.catalog")  # it brings every product in: only where they are needed
    try:
        products = catalog.products(list(names) or catalog.wanted(os.environ))
    except catalog.UnknownProduct as unknown:
        raise CannotStart(str(unknown)) from unknown
    kinds = [Settings, *(product.settings for product in products if product.settings)]
    parts = config.load_all(kinds, os.environ)
    return parts.pop(Settings), products, parts


def ours(*arguments: str) -> list[str]:
    """A command of this very program, in a process of its own."""
    return [sys.executable, "-m", "msingi.cli", *arguments]


def house(*arguments: str) -> list[str]:
    """The command line of a web server and a worker that share what they load; only where there is Linux."""
    return [sys.executable, "-m", "msingi.house", *arguments]


def granian(settings: Settings) -> list[str]:
    """The web server's command line."""
    return [
        *(
            sys.executable,
            "-m",
            "msingi.web",
            "--interface",
            "asgi",
            "--host",
            settings.host,
            "--port",
            str(settings.port),
        ),
        *("--workers", str(settings.processes), "--respawn-failed-workers", "--respawn-interval", "0.2"),
        *("--workers-kill-timeout", "15", "--http", "1", "--ws", "--no-access-log", "--log-level", "warning"),
        # A body comes in pieces of at most so many bytes. A head may be as long before the edge refuses it.
        *("--http1-header-read-timeout", "5000", "--http1-buffer-size", "262144"),
        "msingi.asgi:app",
    ]


if __name__ == "__main__":
    main()
