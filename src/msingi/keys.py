"""`msingi keys` and `msingi audit`: what data is sealed with, and whether the log of access is whole."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import click

from msingi.kit import audit_chain, data_keys, mail, resealing, state
from msingi.kit.config import Settings

T = TypeVar("T")


def show(settings: Settings, products: Sequence[Any]) -> None:
    """Each key, and how far its collections are."""
    _in_house(settings, products, _show)


async def _show() -> None:
    await data_keys.load()
    for key in reversed(data_keys.ring().all()):
        click.echo(f"{key.number:06d}  seals from {key.seals_from:%Y-%m-%d %H:%M:%S} UTC on")
    for each in await resealing.progress():
        click.echo(_said(each))


def _said(progress: resealing.Progress) -> str:
    seen = f"{progress.store} → {progress.key:06d}: {progress.seen} rows seen, {progress.sealed} sealed anew"
    lost = f", {progress.unreadable} not to be opened" if progress.unreadable else ""
    return seen + lost + (", done" if progress.done else "")


def renew(settings: Settings, products: Sequence[Any]) -> None:
    """A new key; the worker seals anew what there is."""
    number = _in_house(settings, products, lambda: asyncio.to_thread(data_keys.renew))
    click.echo(f"Key {number:06d} seals what is written from a minute from now on; the worker seals the rest anew.")


def rewrap(settings: Settings, products: Sequence[Any]) -> None:
    """Today's secret alone opens the keys from now on."""
    count = _in_house(settings, products, lambda: asyncio.to_thread(data_keys.rewrap))
    click.echo(f"{count} keys are wrapped under MSINGI_SECRET alone; MSINGI_SECRET_OLD may go.")


def reseal(settings: Settings, products: Sequence[Any]) -> None:
    """Seal anew at once, here, what the worker would seal in time."""
    stores = [*mail.stores(), *(store for each in products for store in each.all_stores)]
    for each in _in_house(settings, products, lambda: resealing.reseal(stores)):
        click.echo(_said(each))


def verify(settings: Settings, products: Sequence[Any], anchor: str) -> bool:
    """Whether the audit log is whole; says what was found."""
    verdict = _in_house(settings, products, lambda: audit_chain.verify(anchor))
    click.echo(verdict.fault or f"{verdict.checked} entries are whole. Anchor: {verdict.anchor}")
    return not verdict.fault


def _in_house(settings: Settings, products: Sequence[Any], act: Callable[[], Awaitable[T]]) -> T:
    """What comes of something that is done with the databases at hand."""

    async def do() -> T:
        async with state.running(settings, products):
            return await act()

    return asyncio.run(do())
