"""Passwords are hashed in threads beside the requests, as many as are a process's share of the cores; who comes when
eight wait already hears 503.

Argon2id with 19 MiB (OWASP's first choice) costs some 14 ms of one core by libsodium, which uses the widest registers
that the processor has (argon2-cffi takes 19, OpenSSL 18 for the same). In threads of its own a storm of sign-ins keeps
the other requests' latency; without a bound it would keep their memory, but not their turn.
"""

import asyncio
import os
import sys
import threading
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from hmac import digest
from typing import TypeVar

import structlog
from msgspec import Struct
from nacl.exceptions import InvalidkeyError
from nacl.pwhash import argon2id

from msingi.kit import state
from msingi.kit.errors import Busy
from msingi.kit.sealing import Key, keys_for
from msingi.products.accounts import foreign_hashes
from msingi.products.accounts.rules.people import normal

WAITING = 8
MOST_THREADS = 4  # of a process: 19 MiB each
PEPPER = "accounts.pepper"
T = TypeVar("T")
log = structlog.get_logger("accounts")


class Costs(Struct, frozen=True):
    """What one hash costs: KiB, and passes over them. There is one lane, as libsodium has it."""

    memory: int = 19_456
    passes: int = 2

    @property
    def sign(self) -> str:
        """What an encoding of these costs begins with."""
        return f"$argon2id$v=19$m={self.memory},t={self.passes},p=1$"


costs = Costs()


class Hashing:
    """A process's threads for passwords."""

    def __init__(self) -> None:
        self.threads = threads_of(state.settings().processes)
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="passwords", initializer=_step_back)
        self.at_work = 0

    def check_room(self) -> None:
        """Raise Busy if too many wait."""
        if self.at_work >= self.threads + WAITING:
            raise Busy(retry_after=1)

    async def do(self, work: Callable[[], T]) -> T:
        """Do it when its turn has come. Raises Busy if too many wait."""
        self.check_room()
        self.at_work += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, work)
        finally:
            self.at_work -= 1


def threads_of(processes: int) -> int:
    """How many threads a process has for passwords: its share of the cores that this machine lets us use."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(cores // processes, MOST_THREADS))


def _step_back() -> None:
    """Requests that need no hash come first where there are too few cores for all. Only Linux has it by thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def check_room() -> None:
    """Raise Busy where a password would not be hashed anyway: before there is any other work for it."""
    state.part(Hashing).check_room()


async def hashed(password: str) -> str:
    """What is kept of a password. Raises Busy."""
    pepper = keys_for(PEPPER)[0]
    encoded = await state.part(Hashing).do(lambda: _encoded(_peppered(pepper, password)))
    return f"{pepper.id.hex()}{encoded}"


async def fits(kept: str | None, password: str) -> bool:
    """Whether a password is the one that was kept. It takes as long where nothing was kept. Raises Busy."""
    if kept and foreign_hashes.is_foreign(kept):
        return await state.part(Hashing).do(lambda: foreign_hashes.fits(kept, password))
    pepper, encoded = _read(kept)
    return await state.part(Hashing).do(lambda: _is_it(encoded or _nobodys(), _peppered(pepper, password)))


def is_outdated(kept: str) -> bool:
    """Whether the password should be hashed anew, since the costs were changed, the pepper, or its maker."""
    pepper, dollar, rest = kept.partition("$")
    return pepper != keys_for(PEPPER)[0].id.hex() or not (dollar + rest).startswith(costs.sign)


def _read(kept: str | None) -> tuple[Key, str | None]:
    """The pepper that a password was hashed with, and its encoding; today's and none, where nothing was kept."""
    peppers = keys_for(PEPPER)
    if not kept:  # nobody, or somebody who has no password
        return peppers[0], None
    id, dollar, rest = kept.partition("$")
    for pepper in peppers:
        if pepper.id.hex() == id:
            return pepper, dollar + rest
    log.warning("pepper_unknown", key=id)
    return peppers[0], None


def _nobodys() -> str:
    """An encoding that no password fits, with today's costs."""
    salt, result = (b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (16, 32))
    return f"{costs.sign}{salt}${result}"


def _encoded(peppered: bytes) -> str:
    return argon2id.str(peppered, opslimit=costs.passes, memlimit=costs.memory * 1024).decode()


def _is_it(encoded: str, peppered: bytes) -> bool:
    try:
        return argon2id.verify(encoded.encode(), peppered)
    except InvalidkeyError:
        return False


def _peppered(pepper: Key, password: str) -> bytes:
    """The stored hashes are worth nothing to whoever has the database and not the secret."""
    return digest(pepper.raw, normal(password), sha256)
