"""The keys and the audit log from the command line, in processes of their own."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from tests.serving import HOUSE

from msingi import cli
from msingi.kit.testing import test_settings
from msingi.kit.tests import copies

OLD, NEW = "a-secret-of-these-tests-0123456789-old", "a-secret-of-these-tests-0123456789-new"
DATABASE = "keyscli"


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    with MongoClient[dict[str, Any]](test_settings().mongo_url) as client:
        client.drop_database(f"{DATABASE}_kit")
        yield
        client.drop_database(f"{DATABASE}_kit")


def msingi(*arguments: str, fails: bool = False, **environ: str) -> str:
    settings = test_settings()
    given = {"MONGO_URL": settings.mongo_url, "REDIS_URL": settings.redis_url, "MSINGI_DATABASE": DATABASE, **environ}
    done = copies.run(cli.ours(*arguments), {**os.environ, **given}, HOUSE)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_d2_the_secret_is_changed_and_a_key_renewed_from_the_command_line() -> None:
    assert "000001  seals from" in msingi("keys", "show", MSINGI_SECRET=OLD)
    assert "MSINGI_SECRET_OLD" in msingi("keys", "show", MSINGI_SECRET=NEW, fails=True)
    assert "000001" in msingi("keys", "show", MSINGI_SECRET=NEW, MSINGI_SECRET_OLD=OLD)
    assert "Key 000002 seals" in msingi("keys", "renew", MSINGI_SECRET=NEW)
    assert "2 keys are wrapped" in msingi("keys", "rewrap", MSINGI_SECRET=NEW)
    assert "000002  seals from" in msingi("keys", "show", MSINGI_SECRET=NEW)
    told = msingi("keys", "show", MSINGI_SECRET=OLD, fails=True)
    assert "Traceback" not in told
    assert OLD not in told


def test_l1_the_audit_log_is_verified_from_the_command_line() -> None:
    assert "0 entries are whole" in msingi("audit", "verify", MSINGI_SECRET=OLD)
    told = msingi("audit", "verify", "--anchor", f"7:{'00' * 32}", MSINGI_SECRET=OLD, fails=True)
    assert "the entries after 0 were deleted: the anchor names 7" in told
