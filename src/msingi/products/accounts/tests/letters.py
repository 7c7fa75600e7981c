"""What the tests of addresses do with letters: have them written, and take the links out of them."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from msingi.kit.testing import World

Letter = tuple[str, str, dict[str, Any]]


async def letters(world: World) -> list[Letter]:
    """All that were written, once everything that waits is done."""
    await world.work()
    return await world.letters()


async def newest(world: World, template: str, to: str) -> dict[str, Any]:
    """What the newest letter of a kind to somebody says."""
    found = [said for kind, address, said in await letters(world) if (kind, address) == (template, to)]
    assert found, f"no letter {template} went to {to}"
    return found[-1]


def ticket_in(link: str) -> str:
    """The ticket of a link."""
    return parse_qs(urlsplit(link).query)["ticket"][0]


async def ticket_for(world: World, template: str, to: str, link: str = "link") -> str:
    """The ticket in the newest letter of a kind to somebody."""
    return ticket_in((await newest(world, template, to))[link])
