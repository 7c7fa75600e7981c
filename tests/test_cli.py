"""What the command line says, and that it says it before anything heavy is started."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving import HOUSE

from msingi import cli
from msingi.kit.tests import copies


def msingi(*arguments: str, folder: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    known = {name: value for name, value in os.environ.items() if not name.startswith(("MSINGI_", "MONGO", "REDIS"))}
    return subprocess.run(
        [sys.executable, "-m", "msingi.cli", *arguments],
        cwd=folder,
        env=known | {"MSINGI_PORT": "0"} | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("command", ["up", "serve"])
def test_a_taken_port_is_told_in_one_sentence_before_anything_is_started(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taker:
        port = taker.getsockname()[1]
        done = msingi(command, folder=tmp_path, MSINGI_PORT=str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: Port {port} is taken by another program; set MSINGI_PORT, for example:")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ".msingi" / "mongo").exists()


def test_all_bad_settings_are_told_at_once_and_no_folder_is_made(tmp_path: Path) -> None:
    done = msingi("up", folder=tmp_path, MSINGI_PORT="eighty", MSINGI_SECRET="short", MSINGI_LOG_LEVEL="loud")
    assert done.returncode == 1
    assert all(name in done.stderr for name in ("MSINGI_PORT: 'eighty'", "MSINGI_SECRET", "MSINGI_LOG_LEVEL: 'loud'"))
    assert "short" not in done.stderr.replace("shorter", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "mongodb://ann:se/cr@et@127.0.0.1:1/x",
            "Error: MONGO_URL: mongodb://ann:***@127.0.0.1:1 is no MongoDB address",
        ),
        ("http://127.0.0.1/", "Error: MONGO_URL: http://127.0.0.1 is no MongoDB address"),
        ("mongodb://ann:secret@127.0.0.1:1/?tlsCertificateKeyFilePassword=secret", "is no MongoDB address"),
    ],
)
def test_a_wrong_mongo_url_is_told_without_its_password(tmp_path: Path, url: str, said: str) -> None:
    done = msingi("up", folder=tmp_path, MONGO_URL=url)
    assert done.returncode == 1
    assert said in done.stderr or "no MongoDB answers at mongodb://ann:***@127.0.0.1:1." in done.stderr
    assert all(secret not in done.stdout + done.stderr for secret in ("secret", "cr@et"))
    assert "Traceback" not in done.stderr


def test_a_mongo_that_does_not_answer_is_told_by_the_settings_name(tmp_path: Path) -> None:
    done = msingi("up", folder=tmp_path, MONGO_URL="mongodb://ann:secret@127.0.0.1:1/?replicaSet=rs0")
    assert done.returncode == 1
    assert done.stderr == "Error: MONGO_URL: no MongoDB answers at mongodb://ann:***@127.0.0.1:1.\n"
    assert not (tmp_path / ".msingi" / "redis").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:secret@127.0.0.1:1/0", "REDIS_URL: no Redis answers at redis://:***@127.0.0.1:1."),
        ("mongodb://:secret@127.0.0.1:1/0", "REDIS_URL: mongodb://:***@127.0.0.1:1 is no Redis address"),
    ],
)
def test_a_wrong_redis_url_is_told_without_its_password(tmp_path: Path, url: str, said: str) -> None:
    done = msingi("up", folder=tmp_path, REDIS_URL=url)
    assert done.returncode == 1
    assert said in done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert not (tmp_path / ".msingi" / "mongo").exists()


def test_production_refuses_to_start_without_a_secret_of_its_own(tmp_path: Path) -> None:
    done = msingi("up", folder=tmp_path, MSINGI_ENV="production", MSINGI_PUBLIC_URL="https://msingi.example")
    assert done.returncode == 1
    assert "MSINGI_SECRET still has its default" in done.stderr


def test_an_unknown_product_is_told_with_those_there_are(tmp_path: Path) -> None:
    done = msingi("seed", "cinema", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: there is no product 'cinema'; there are accounts, notes, tasks")


def test_the_description_and_the_routes_can_be_printed_without_a_database() -> None:
    environ = {**os.environ, "MONGO_URL": "mongodb://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"}
    described = json.loads(copies.run(cli.ours("openapi", "notes"), environ, HOUSE).stdout)
    assert described["openapi"].startswith("3.1")
    assert all(path.startswith("/v1/notes") for path in described["paths"])
    assert "POST    /v1/accounts/sign-in" in copies.run(cli.ours("routes"), environ, HOUSE).stdout


def test_check_says_what_it_could_not_reach(tmp_path: Path) -> None:
    done = msingi("check", "notes", "--url", "http://127.0.0.1:1", folder=tmp_path)
    assert done.returncode == 2
    assert "Is the server running?" in done.stdout + done.stderr
