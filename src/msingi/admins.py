"""`msingi admin`: the first admin of a house, and the next one when nobody can let them in any more."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import click

from msingi.kit import app as kit_app
from msingi.kit import state
from msingi.kit.config import Settings
from msingi.kit.embedded import CannotStart
from msingi.kit.errors import Problem
from msingi.products.accounts.actions import admins

House = tuple[Settings, Sequence[Any], Mapping[type, Any]]


def add(house: House, email: str, name: str, password: Callable[[], str]) -> None:
    """Make the admin, or one of somebody who has an account; `password` is asked for only if they have none."""
    click.echo(_done(house, lambda: _add(email, name, password)))


async def _add(email: str, name: str, password: Callable[[], str]) -> str:
    if await admins.has_account(email):
        return await _grant(email)
    account = await admins.add(email, name, password())
    return f"{account.email} is an admin now, and signs in with this password."


def grant(house: House, email: str) -> None:
    """Make an admin of somebody who has an account."""
    click.echo(_done(house, lambda: _grant(email)))


async def _grant(email: str) -> str:
    account = await admins.grant(email)
    return f"{account.email} is an admin now, and signs in as before."


def _done(house: House, act: Callable[[], Awaitable[str]]) -> str:
    async def do() -> str:
        settings, products, parts = house
        async with state.running(settings, products, parts):
            await kit_app.prepare_running(products)
            return await act()

    try:
        return asyncio.run(do())
    except Problem as problem:
        raise CannotStart(_words_of(problem)) from problem


def _words_of(problem: Problem) -> str:
    """The problem, and what is wrong with each field."""
    faults = [error["message"] for error in problem.details.get("errors", [])]
    return " ".join([str(problem), *faults])
