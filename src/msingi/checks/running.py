"""From a suite's name and an address to results, a report and an exit code."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx

from msingi.checks import accounts, notes, report, shop, tasks
from msingi.checks.harness import SUITES, CannotRun, Failed, Result, Skipped, World, admin_in, try_one
from msingi.checks.letters import Letters, PortTaken

NAMES = ("accounts", "notes", "tasks", "shop")
FIRST = {
    accounts.__name__: "/.well-known/jwks.json",
    notes.__name__: "/v1/notes",
    tasks.__name__: "/v1/tasks/projects",
    shop.__name__: "/v1/shop/products",
}


def run(
    name: str,
    url: str,
    as_json: bool = False,
    *,
    accounts_url: str = "",
    admin: tuple[str, str] | None = None,
    anonymous: bool = False,
    only: str = "",
    smtp: int | None = None,
    required: frozenset[str] = frozenset(),
    sandbox: str = "",
) -> int:
    """Check a server from outside and print what came of it: 0 all passed, 1 some failed, 2 it could not be run.

    `accounts_url` is where people register and sign in, if not at `url`. `admin` (address, password) opens the checks
    that need one; without it the environment's `MSINGI_CHECK_ADMIN=address:password` is looked at. `anonymous` is for a
    server without sign-in. `only` runs the checks whose title has this in it. `smtp` is a port to receive letters on;
    without it what needs letters is skipped. `required` names the parts that the server may not leave out, or `all`.
    `sandbox` is the address of the stand-in of the payment providers that the server asks for money; without it what
    needs money to move is skipped.
    """
    email, password = admin or admin_in(os.environ)
    try:
        _know(name, required)
        with ExitStack() as open_until_then:
            letters = open_until_then.enter_context(Letters(smtp)) if smtp else None
            where = url.rstrip("/"), (accounts_url or url).rstrip("/")
            world = open_until_then.enter_context(
                World(*where, anonymous, email, password, letters, required, sandbox.rstrip("/"))
            )
            prepare(name, world)
            return report.show(name, url, results(name, world, only), as_json)
    except CannotRun as reason:
        return report.show_cannot_run(name, url, str(reason), as_json)
    except PortTaken as reason:
        return report.show_cannot_run(name, url, f"letters cannot be received: {reason}", as_json)


def _know(name: str, required: frozenset[str]) -> None:
    known = {"all"} | {one.part.name for one in SUITES.get(name, []) if one.part}
    if unknown := required - known:
        raise CannotRun(f"nothing here is called {', '.join(sorted(unknown))}; there is {', '.join(sorted(known))}")


def results(name: str, world: World, only: str = "") -> Iterator[Result]:
    """Try the checks of a suite one after the other."""
    for one in SUITES[name]:
        if only.lower() in one.title.lower():
            yield try_one(one, world)


def prepare(name: str, world: World) -> None:
    """Raise CannotRun if there is no such suite, nobody answers, or the suite's people cannot be made."""
    if name not in SUITES:
        raise CannotRun(f"there is no suite {name!r}; there are {', '.join(NAMES)}")
    try:
        world.http.get(world.url + FIRST[f"{__package__}.{name}"])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CannotRun(
            f"{world.url} does not answer ({error or type(error).__name__}). Is the server running?"
        ) from None
    if name != "accounts":
        _attempt(lambda: world.ann.authorization())


def _attempt(act: Callable[[], object]) -> None:
    try:
        act()
    except Failed as failed:
        raise CannotRun(
            f"the people that this suite needs could not be made.\n  asked   {failed.asked}\n  came    {failed.came}\n"
            f"  should  {failed.should}\n  If your server has no sign-in yet, use --anonymous."
        ) from None
    except Skipped as skipped:
        raise CannotRun(str(skipped)) from None
