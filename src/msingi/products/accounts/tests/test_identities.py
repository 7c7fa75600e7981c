"""Invariant 3 of accounts: no sequence of callbacks lets who never proved an address into an account that did."""

import random
from typing import Any

import pytest

from msingi.kit import unit
from msingi.kit.auth import Actor
from msingi.kit.errors import AlreadyExists, Problem
from msingi.kit.testing import World
from msingi.products.accounts.actions import identities, people, resets, tickets
from msingi.products.accounts.actions import letters as letters_of
from msingi.products.accounts.models.identities import identities as kept
from msingi.products.accounts.models.people import Account, accounts, words_to_find
from msingi.products.accounts.queries.people import account_by_email
from msingi.products.accounts.rules.identities import Told, told_of, way_in

PEOPLE = ("eve", "ida", "joy")  # each owns one address and may lie about all others where nobody asks for a proof
ISSUERS = ("https://one.test", "https://two.test", "https://gossip.test")
SEQUENCES, STEPS = 40, 25


def address_of(person: str) -> str:
    return f"{person}@example.org"


def told(person: str, issuer: str, email: str, verified: bool) -> Told:
    subject = f"{person}-there"
    return told_of("acme", "Acme", issuer, subject, email=email, verified=verified, name=person)


class Story:
    """What has happened in one sequence: which person each way into each account belongs to."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.told = chance, [""]

    async def step(self) -> None:
        act = self.chance.choice(
            [self.come_back, self.come_back, self.come_back, self.register, self.reset, self.connect]
        )
        person, claimed = self.chance.choice(PEOPLE), address_of(self.chance.choice(PEOPLE))
        self.told.append(f"{act.__name__} {person} {claimed}")
        try:
            await act(person, claimed)
        except Problem as problem:
            self.told[-1] += f" -> {problem.code}"
        await self.check()

    async def come_back(self, person: str, claimed: str) -> None:
        """An honest provider verifies a person's own address only; it may tell any."""
        issuer = self.chance.choice(ISSUERS)
        verified = claimed == address_of(person) and issuer != ISSUERS[-1] and self.chance.random() < 0.7
        account = await identities.account_of(told(person, issuer, claimed, verified))
        # Whoever is let into an account with a proved address is the person who proved it.
        assert not account.email_verified or account.email == address_of(person), self.told

    async def register(self, person: str, claimed: str) -> None:
        """Anybody registers with any address: the password says whose it is."""
        await people.add(
            Account(email=claimed, name=person, password=f"of-{person}", words=words_to_find(person, claimed))
        )

    async def reset(self, person: str, claimed: str) -> None:
        """A letter goes to an address, and whoever owns that follows its link."""
        owner = claimed.partition("@")[0]
        account = await account_by_email(claimed)
        if account is not None:
            async with unit.alone():
                mark = letters_of.mark_of(account.email)
                issued = await tickets.issue(
                    "reset", resets.GOOD_FOR, account=account.id, address=mark, epoch=account.epoch
                )
            await resets._reset(issued.secret, f"of-{owner}")

    async def connect(self, person: str, claimed: str) -> None:
        """Who has a way into an account connects another identity of theirs to it."""
        mine = [each for each in await accounts.many({}) if person in await self.who_has_ways_into(each)]
        if mine:
            account = self.chance.choice(mine)
            await identities.connect(account.id, told(person, self.chance.choice(ISSUERS), claimed, False))

    async def who_has_ways_into(self, account: Account) -> set[str]:
        there = {each.subject.partition("-")[0] for each in await kept.many({"account": account.id})}
        return there | ({account.password.removeprefix("of-")} if account.password else set())

    async def check(self) -> None:
        """All ways into an account whose address is proved belong to the person whose address that is."""
        for account in await accounts.many({"email_verified": True}):
            assert await self.who_has_ways_into(account) <= {account.email.partition("@")[0]}, (
                account.email,
                self.told,
            )


@pytest.mark.parametrize("seed", range(SEQUENCES // 10))
async def test_a16_no_sequence_of_callbacks_opens_an_account_to_who_did_not_prove_its_address(
    world: World, seed: int
) -> None:
    claimed = 0
    for number in range(10):
        await accounts.raw.delete_many({})
        await kept.raw.delete_many({})
        story = Story(random.Random(f"{seed}-{number}"))
        for _ in range(STEPS):
            await story.step()
        claimed += await accounts.count({"epoch": {"$gt": 0}})
    assert claimed > 0  # the sequences do reach accounts that change hands


def account(**more: Any) -> Account:
    return Account(**({"email": "ida@example.org", "name": "Ida", "password": "", "words": []} | more))


def test_a16_only_two_proofs_link(world: World) -> None:
    proved = told("ida", ISSUERS[0], "ida@example.org", True)
    claimed = told("ida", ISSUERS[0], "ida@example.org", False)
    assert way_in(None, proved) == "make"
    assert way_in(None, claimed) == "make"
    assert way_in(account(email_verified=True), proved) == "link"
    assert way_in(account(email_verified=False), proved) == "claim"
    for verified in (True, False):
        with pytest.raises(Problem) as refused:
            way_in(account(email_verified=verified), claimed)
        assert refused.value.code == "email_in_use"


@pytest.mark.parametrize(
    ("said", "kept", "proved"),
    [
        ("Ida@Example.ORG", "ida@example.org", True),
        (" ida@example.org ", "ida@example.org", True),
        ("\u212aim@example.org", "kim@example.org", False),  # the Kelvin sign
        ("\uff49da@example.org", "\uff49da@example.org", True),  # another address, and a letter of its own
        ("İda@example.org", "i\u0307da@example.org", False),
        ("ida@ⅇxample.org", None, False),
        ("no address", "", False),
        ("", "", False),
        (None, "", False),
    ],
)
def test_a16_only_our_own_spelling_of_an_address_is_proved(said: str | None, kept: str | None, proved: bool) -> None:
    found = told_of("acme", "Acme", ISSUERS[0], "1", email=said, verified=True, name=None)
    assert found.email_verified is proved
    if kept is not None:
        assert found.email == kept


async def test_a16_who_made_an_identity_first_keeps_it(world: World) -> None:
    first = await identities.account_of(told("ida", ISSUERS[0], "ida@example.org", True))
    with pytest.raises(Problem) as refused:
        await identities.connect("ann", told("ida", ISSUERS[0], "ann@msingi.test", True))
    assert refused.value.code == "identity_taken"
    with pytest.raises(AlreadyExists):
        await identities._connect("ann", told("ida", ISSUERS[0], "x@example.org", True))
    again = await identities.account_of(told("ida", ISSUERS[0], "ann@msingi.test", True))
    assert again.id == first.id
    assert Actor(id=again.id).in_person
