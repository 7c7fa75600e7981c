"""People who bring the hash of their password from another system."""

from typing import Any

import bcrypt
import pytest
from argon2 import PasswordHasher, Type

from msingi.kit.testing import Client
from msingi.products.accounts import foreign_hashes
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.tests.access.defence import BROUGHT, PASSWORD

EMAIL = BROUGHT["email"]


def by_argon2(kind: Type = Type.ID) -> str:
    return PasswordHasher(memory_cost=64, time_cost=1, parallelism=1, type=kind).hash(PASSWORD)


def by_bcrypt(password: str, letter: str = "b") -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode().replace("$2b$", f"$2{letter}$")


@pytest.mark.usefixtures("true_costs")
@pytest.mark.parametrize(
    "encoded",
    [BROUGHT["password_hash"], by_bcrypt(PASSWORD, "a"), by_bcrypt(PASSWORD, "y"), by_argon2(), by_argon2(Type.I)],
    ids=["2b", "2a", "2y", "argon2id", "argon2i"],
)
async def test_who_brings_a_hash_signs_in_with_the_old_password_and_it_is_hashed_anew(
    admin: Client, nobody: Client, encoded: str
) -> None:
    made = await admin.post("/users/import", email=EMAIL, name="Jane", password_hash=encoded, expect=201)
    assert (made["email"], made["roles"]) == (EMAIL, ["user"])
    assert (await accounts.get(made["id"])).password == encoded
    await nobody.post("/sign-in", email=EMAIL, password="not the password", expect=401)
    assert (await accounts.get(made["id"])).password == encoded
    await nobody.post("/sign-in", email=EMAIL, password=PASSWORD)
    ours = (await accounts.get(made["id"])).password
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in ours
    assert not foreign_hashes.is_foreign(ours)
    await nobody.post("/sign-in", email=EMAIL, password=PASSWORD)
    await nobody.post("/sign-in", email=EMAIL, password="not the password", expect=401)


async def test_bcrypt_never_counted_more_than_72_bytes_and_what_is_typed_first_does_from_then_on(
    admin: Client, nobody: Client
) -> None:
    long = "é" * 36 + " and all that follows"
    encoded = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()
    await admin.post("/users/import", email=EMAIL, name="Jane", password_hash=encoded, expect=201)
    await nobody.post("/sign-in", email=EMAIL, password=long)
    await nobody.post("/sign-in", email=EMAIL, password="é" * 36 + " and something else", expect=401)
    await nobody.post("/sign-in", email=EMAIL, password=long)


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "plain text",
        "$1$abc$0123456789",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        BROUGHT["password_hash"][:-1],
        BROUGHT["password_hash"] + "\n",
        BROUGHT["password_hash"].replace("$04$", "$31$"),
        BROUGHT["password_hash"].replace("$04$", "$02$"),
        by_argon2()[:-30],
        by_argon2().replace("m=64", "m=4194304"),
        by_argon2().replace("t=1", "t=1000"),
        by_argon2().replace("p=1", "p=100"),
        by_argon2().replace("v=19", "v=99"),
        "0123abcd" + by_argon2(),
    ],
    ids=range(14),  # salts are new each time, and names of tests may not be
)
async def test_a_hash_of_another_kind_or_too_dear_is_refused_and_makes_nobody(admin: Client, encoded: str) -> None:
    problem = await admin.post("/users/import", email=EMAIL, name="Jane", password_hash=encoded, expect=422)
    assert problem["code"] == "invalid_fields"
    assert problem["errors"][0]["pointer"] == "/password_hash"
    assert not await accounts.exists({"name": "Jane"})


async def test_who_imports_must_have_proved_to_be_there(admin: Client, ann: Client) -> None:
    await ann.post("/users/import", json=BROUGHT, expect=403)
    extra: dict[str, Any] = {**BROUGHT, "roles": ["admin"]}
    await admin.post("/users/import", json=extra, expect=422)
    await admin.post("/users/import", json=BROUGHT, expect=201)
    assert (await admin.post("/users/import", json=BROUGHT, expect=409))["code"] == "email_taken"


async def test_odd_bytes_in_a_password_are_wrong_and_no_fault(admin: Client, nobody: Client) -> None:
    await admin.post("/users/import", json=BROUGHT, expect=201)
    for odd in ("a\x00b", "x" * 1000, "🦏" * 200):
        await nobody.post("/sign-in", email=EMAIL, password=odd, expect=401)
