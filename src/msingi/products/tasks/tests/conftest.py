"""Tasks run alone here, so somebody stands in for accounts: ann, bob and eve have addresses, nobody else is known."""

import pytest

from msingi.kit import peers
from msingi.products.accounts.contract import PEOPLE, PeopleAsked, Person

KNOWN = {name: Person(name, name.capitalize(), f"{name}@msingi.test") for name in ("ann", "bob", "eve")}


async def answer(asked: PeopleAsked) -> list[Person]:
    return [KNOWN[each] for each in asked.ids if each in KNOWN]


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers._answerers, PEOPLE.name, answer)
