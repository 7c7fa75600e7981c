"""What a process keeps of the machine's memory: libraries it does not use, and what a load leaves behind.

Measured with all products, on glibc: what is loaded, and what a load of 1,000 sockets, uploads and sign-ins left in one
web process, is in docs/decisions/0020.
"""

import asyncio
import ctypes
import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Libraries of ours look for these, would load them whole, and do without: other ways of doing what the house does
# its own way (calling out, tracing, colours), or of what it never does. `make dev` and other programs install them.
NOT_USED = (
    "aiohttp",  # of engineio, for clients; so are the next two
    "requests",  # of stripe too, which calls through kit.fetch
    "websocket",
    "pycurl",  # of stripe
    "rich",  # of structlog, for people who read logs in colour; of httpx, for its command line
    "pygments",  # of httpx, as above
    "pydantic",  # of Litestar, which asks again when it builds; so is the next
    "attr",
    "opentelemetry",  # of redis, for its own metrics; kit.observe loads it where traces are wanted
    "pymongo.pyopenssl_context",  # for PyMongo's blocking client alone: the asynchronous one cannot use it
)
SERVERS_HEAP = ("_RJEM_MALLOC_CONF", "dirty_decay_ms:1000,muzzy_decay_ms:0")  # Granian's jemalloc
M_ARENA_MAX = -8  # as malloc.h has it
LOOKS_EVERY = 1.0  # seconds
QUIET = 0.03  # of a core: what counts as no load
WORKED = 0.3  # seconds of the processor after which there may be something to give back


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Let an import of these fail meanwhile, unless they are loaded already."""
    kept_out = [name for name in names if name not in sys.modules]
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(kept_out))  # None is how Python itself says that there is no such module
    try:
        yield
    finally:
        for name in kept_out:
            del sys.modules[name]


def be_thrifty() -> None:
    """Let threads share one heap, from which all that is free can be given back; before there are threads.

    glibc gives each thread a heap of its own, and keeps what is free at its end: after a password 19 MiB. Pages of
    their own for large pieces would go back by themselves, but cost a sign-in a third more of the processor.
    """
    os.environ.setdefault(*SERVERS_HEAP)
    if libc := _libc():
        libc.mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Return to the system what nobody needs any more: some ms, in which nothing else happens.

    Python looks for garbage that holds itself when enough was made anew. After a load nothing is, and what a
    connection leaves may be such garbage, with the buffers that the server had for it.
    """
    gc.collect()
    if libc := _libc():
        libc.malloc_trim(0)


async def run_watch() -> None:
    """Give back what a load left behind, when it is over; and now and then what is left by work that is none."""
    given_back = before = time.process_time()
    while True:
        await asyncio.sleep(LOOKS_EVERY)
        used, before = (time.process_time() - before) / LOOKS_EVERY, time.process_time()
        if used < QUIET and before - given_back > WORKED:
            give_back()
            given_back = time.process_time()


def _libc() -> ctypes.CDLL | None:
    """The C library, if it is glibc."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
