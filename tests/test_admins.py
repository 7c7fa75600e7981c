"""The first admin of a house, made on the command line."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from tests.serving import imported_by, own_databases

from msingi import cli
from msingi.kit.tests import copies

EMAIL, PASSWORD = "grace@example.org", "seven herons over the lake"


@pytest.fixture
def environ() -> dict[str, str]:
    """The databases of a house that holds nothing."""
    own = own_databases(40)
    named = {
        "MSINGI_ENV": "test",
        "MONGO_URL": own["mongo_url"],
        "REDIS_URL": own["redis_url"],
        "MSINGI_DATABASE": own["MSINGI_DATABASE"],
    }
    with MongoClient[dict[str, Any]](named["MONGO_URL"]) as mongo:
        for name in ("accounts", "kit"):
            mongo.drop_database(f"{named['MSINGI_DATABASE']}_{name}")
    return named


def msingi(environ: dict[str, str], *arguments: str, said: str = "") -> "subprocess.CompletedProcess[str]":
    return copies.run(cli.ours(*arguments), {**os.environ, **environ}, imported_by(["accounts"]), said)


def kept(environ: dict[str, str], collection: str, database: str = "accounts") -> list[dict[str, Any]]:
    with MongoClient[dict[str, Any]](environ["MONGO_URL"]) as mongo:
        return list(mongo[f"{environ['MSINGI_DATABASE']}_{database}"][collection].find())


def test_the_first_admin_is_made_and_noted(environ: dict[str, str], tmp_path: Path) -> None:
    done = msingi(environ, "admin", "add", "Grace@Example.org", "--name", "Grace", said=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert f"{EMAIL} is an admin now" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
    (account,) = kept(environ, "accounts")
    assert (account["roles"], account["email_verified"], account["disabled"]) == (["user", "admin"], True, False)
    assert kept(environ, "guards")[0]["ids"] == [account["_id"]]
    assert "accounts.user_added" in {each["kind"] for each in kept(environ, "audit", "kit")}


def test_who_has_an_account_becomes_an_admin_and_keeps_their_password(environ: dict[str, str]) -> None:
    msingi(environ, "admin", "add", EMAIL, said=f"{PASSWORD}\n")
    (before,) = kept(environ, "accounts")
    with MongoClient[dict[str, Any]](environ["MONGO_URL"]) as mongo:
        base = mongo[f"{environ['MSINGI_DATABASE']}_accounts"]
        base["accounts"].update_one({}, {"$set": {"roles": ["user"], "disabled": True}})
        base["guards"].delete_many({})
    for arguments in (["grant", EMAIL], ["add", EMAIL]):
        done = msingi(environ, "admin", *arguments)
        assert done.returncode == 0, done.stderr
        (after,) = kept(environ, "accounts")
        assert (after["roles"], after["disabled"], after["password"]) == (["user", "admin"], False, before["password"])
    assert "accounts.admin_granted" in {each["kind"] for each in kept(environ, "audit", "kit")}


@pytest.mark.parametrize(
    ("arguments", "said", "told"),
    [
        (["add", "no address"], f"{PASSWORD}\n", "@"),
        (["add", EMAIL], "short\n", "15"),
        (["add", EMAIL], "passwordpassword\n", "too easy to guess"),
        (["add", EMAIL], "", "15"),
        (["grant", EMAIL], "", "Nobody has an account with this e-mail address."),
    ],
)
def test_what_is_wrong_is_told_in_words_and_nobody_is_made(
    environ: dict[str, str], arguments: list[str], said: str, told: str
) -> None:
    done = msingi(environ, "admin", *arguments, said=said)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert kept(environ, "accounts") == []
