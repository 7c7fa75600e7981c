"""What is looked at before anything heavy is started: the port, the databases' addresses, the folder's secrets."""

import errno
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from pymongo import MongoClient
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from msingi.kit.embedded import CannotStart

PATIENCE = 5_000  # milliseconds that a database may take to answer
SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in "aeiou"]


class PortTaken(CannotStart):
    """Somebody else listens there."""


def check_port(host: str, port: int, patience: float = 0.0) -> None:
    """Raise CannotStart if nobody can listen there.

    A killed process counts as gone before the last of its threads has let go of its port: `patience` (seconds) is for
    whoever has just ended one.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return _check_port(host, port)
        except PortTaken:
            if time.monotonic() >= end:
                raise
            time.sleep(0.05)


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as refused:
            raise CannotStart(
                f"Port {port} is for the system's own use; set MSINGI_PORT to one above 1023."
            ) from refused
        except OSError as refused:
            advice = f"for example: MSINGI_PORT={port + 1 if port < 65535 else port - 1} make up"
            if refused.errno != errno.EADDRINUSE:
                raise CannotStart(f"MSINGI_HOST: {host} is no address of this machine.") from refused
            raise PortTaken(f"Port {port} is taken by another program; set MSINGI_PORT, {advice}") from refused


def free_port(host: str) -> int:
    """A port on which nobody listens now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def check_mongo(url: str) -> None:
    """Raise CannotStart if no MongoDB replica set answers at `MONGO_URL`, without showing its password."""
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(
            url, serverSelectionTimeoutMS=PATIENCE, connectTimeoutMS=PATIENCE, socketTimeoutMS=PATIENCE
        )
        with client:
            hello = client.admin.command("hello")
            client.admin.command("dbStats")
    except OperationFailure as refused:
        raise CannotStart(f"MONGO_URL: {shown(url)} refuses us: {_clean(_reason(refused), url)}.") from None
    except (ConfigurationError, ValueError) as wrong:
        raise CannotStart(f"MONGO_URL: {shown(url)} is no MongoDB address: {_clean(str(wrong), url)}") from None
    except PyMongoError:
        raise CannotStart(f"MONGO_URL: no MongoDB answers at {shown(url)}.") from None
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise CannotStart(f"MONGO_URL: {shown(url)} is no replica set, which transactions and change streams need.")


def check_redis(url: str) -> None:
    """Raise CannotStart if no Redis answers at `REDIS_URL`, without showing its password."""
    seconds = PATIENCE / 1000
    try:
        with redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            client.ping()
    except (redis.AuthenticationError, redis.ResponseError) as refused:
        raise CannotStart(f"REDIS_URL: {shown(url)} refuses us: {_clean(str(refused), url)}.") from None
    except redis.RedisError:
        raise CannotStart(f"REDIS_URL: no Redis answers at {shown(url)}.") from None
    except ValueError as wrong:
        raise CannotStart(f"REDIS_URL: {shown(url)} is no Redis address: {_clean(str(wrong), url)}") from None


def shown(url: str) -> str:
    """An address as it may be shown: without password, path and options."""
    scheme, sign, rest = url.partition("://")
    if not sign:
        return "the given value"
    people, at, hosts = rest.rpartition("@")
    name = people.partition(":")[0]
    return f"{scheme}://{name}:***@{_host(hosts)}" if at else f"{scheme}://{_host(hosts)}"


def _reason(refused: OperationFailure) -> str:
    return str((refused.details or {}).get("errmsg", "it does not say why")).rstrip(".")


def _host(rest: str) -> str:
    return re.split(r"[/?]", rest, maxsplit=1)[0]


def _clean(text: str, url: str) -> str:
    password = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    return text.replace(url, shown(url)).replace(password, "***") if password else text


def kept(path: Path, make: Callable[[], str]) -> str:
    """The secret that a file of ours holds; made at the first asking, readable by its owner only."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        found = path.read_text().strip()
        if found:
            return found
        descriptor = os.open(path, os.O_WRONLY)  # a full disk left it empty
    made = make()
    with open(descriptor, "w") as file:
        file.write(made + "\n")
    return made


def make_secret() -> str:
    """For MSINGI_SECRET: 256 bits."""
    return secrets.token_hex(32)


def make_password() -> str:
    """For the demo people: eight syllables, 52 bits, easily typed and safe between a shell's quotes."""
    words = ["".join(secrets.choice(SYLLABLES) for _ in range(2)) for _ in range(4)]
    return "-".join(words)
