"""The keys that the house's data is sealed with: made by chance, kept in the database wrapped under MSINGI_SECRET.

So the secret can be changed without touching what is sealed: only the wrapping is done anew (decision 0010). Reading
the keys is done with PyMongo's blocking client, once when a process starts: whoever needs one afterwards, needs it at
once and in the middle of something.
"""

import asyncio
import os
import threading
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import structlog
from msgspec import Struct
from pymongo import MongoClient
from pymongo.collection import Collection as BlockingCollection
from pymongo.errors import DuplicateKeyError, PyMongoError

from msingi.kit import state
from msingi.kit.ciphers import Key, key_from, seal, unseal
from msingi.kit.clock import now
from msingi.kit.config import BadSettings, Settings
from msingi.kit.errors import Busy

COLLECTION = "data_keys"
FIRST = 1  # the key of all purposes but sealed fields: those whose results are compared, not opened
ANNOUNCED = timedelta(seconds=60)  # before a new key seals, so that every process knows it by then
LOOKED_AT = 20.0  # seconds after which a process looks whether there is a new key
AGAIN = 1.0  # seconds in which a key that nobody knows is looked for once
Row = dict[str, Any]
log = structlog.get_logger("data_keys")


class SecretChanged(BadSettings):
    """The data keys are wrapped under a secret that this process does not have."""

    def __init__(self, key: int) -> None:
        super().__init__(
            [
                f"MSINGI_SECRET does not open data key {key:06d}: what is sealed in this database would be lost. Set"
                " MSINGI_SECRET_OLD to the secret it had before, or set that one again."
            ]
        )


class KeysLost(BadSettings):
    """Something is sealed, and there is no data key at all: a new one would only hide that."""

    def __init__(self, database: str, store: str) -> None:
        super().__init__(
            [
                f"{database} holds no data keys, but {store} holds what was sealed with one: restore the collection"
                f" {COLLECTION} of the same backup (docs/keys.md)."
            ]
        )


class DataKey(Struct, frozen=True):
    """One of them: its number, its bytes, and from when on new values are sealed with it."""

    number: int
    raw: bytes
    seals_from: datetime

    def __repr__(self) -> str:
        return f"DataKey({self.number:06d})"


class Ring:
    """The data keys that this process knows."""

    def __init__(self) -> None:
        self.keys: dict[int, DataKey] = {}
        self.looked_at = self.failed_at = -LOOKED_AT
        self.lock = threading.Lock()

    def first(self) -> DataKey:
        """The key that never changes."""
        self.need()
        return self.keys[FIRST]

    def newest(self) -> DataKey:
        """The key to seal with now."""
        self.need()
        if len(self.keys) == 1:
            return self.keys[FIRST]
        at = now()
        return max((key for key in self.keys.values() if key.seals_from <= at), key=lambda key: key.number)

    def all(self) -> list[DataKey]:
        """All of them, the newest first."""
        self.need()
        return sorted(self.keys.values(), key=lambda key: -key.number)

    def find(self, number: int) -> DataKey | None:
        """The key of this number; one that was made a moment ago is looked for."""
        if number not in self.keys and monotonic() - self.looked_at > AGAIN:
            self.load()
        return self.keys.get(number)

    def need(self) -> None:
        """Have keys, now. While the database is away each request hears so without waiting for it. Raises Busy."""
        if self.keys:
            return
        if monotonic() - self.failed_at < AGAIN:
            raise Busy(retry_after=1)
        try:
            self.load()
        except PyMongoError as error:
            self.failed_at = monotonic()
            raise Busy(retry_after=1) from error

    def load(self) -> None:
        """Read the keys; make the first if there is none. Raises SecretChanged, KeysLost."""
        with self.lock:
            settings = state.settings()
            with _stored(settings) as stored:
                self.keys = _load(stored, settings, self.keys)
            self.looked_at = monotonic()


def ring() -> Ring:
    """This process's ring."""
    return state.part(Ring)


async def load() -> None:
    """Have the keys before the first request. A database that is away is met later. Raises SecretChanged, KeysLost."""
    try:
        await asyncio.to_thread(ring().load)
    except PyMongoError as error:
        log.warning("data_keys_not_loaded", reason=str(error))


async def run_watch() -> None:
    """Know of new keys before they are used."""
    while True:
        with suppress(SecretChanged):  # of a key made under a newer secret, while the secret is being changed
            await load()
        await asyncio.sleep(LOOKED_AT if ring().keys else AGAIN)


def renew() -> int:
    """Make a new key for what is sealed a minute from now; returns its number. Blocks."""
    settings = state.settings()
    ring().load()
    with _stored(settings) as stored:
        while True:
            number = int(stored.find_one({}, sort=[("_id", -1)])["_id"]) + 1
            if _made(stored, number, settings, now() + ANNOUNCED):
                log.info("data_key_made", key=number)
                return number


def rewrap() -> int:
    """Keep every key under today's secret alone, so that older ones open nothing any more; returns how many. Blocks."""
    settings = state.settings()
    with _stored(settings) as stored:
        keys = _load(stored, settings, {})
        kek = _kek(settings.secret)
        for number, key in keys.items():
            wraps = {kek.id.hex(): seal(kek, key.raw, _place(number))}
            stored.update_one({"_id": f"{number:06d}"}, {"$set": {"wraps": wraps}})
    return len(keys)


def _load(stored: BlockingCollection[Row], settings: Settings, known: Mapping[int, DataKey]) -> dict[int, DataKey]:
    rows = list(stored.find({}, sort=[("_id", 1)]))
    if not rows:
        _check_nothing_is_sealed(stored)
        _made(stored, FIRST, settings, now())
        rows = list(stored.find({}, sort=[("_id", 1)]))
    found = {int(row["_id"]): row for row in rows}
    return {
        number: known[number] if _is_known(number, row, known) else _unwrapped(stored, number, row, settings)
        for number, row in found.items()
    }


def _is_known(number: int, row: Row, known: Mapping[int, DataKey]) -> bool:
    """Whether it is the key that is known: after an older backup was restored another may have got its number."""
    return number in known and known[number].seals_from == row["seals_from"]


def _check_nothing_is_sealed(stored: BlockingCollection[Row]) -> None:
    """Raise KeysLost if a product of this process has something that was sealed."""
    kept = (getattr(product, "all_stores", ()) for product in state.current().products)  # tests have lesser products
    for store in (store for stores in kept for store in stores if store.sealed):
        there = stored.database.client[state.database_name(store.product)][store.name]
        for field in store.sealed.decoders:
            if there.find_one({field: {"$type": "binData"}}, {"_id": 1}):
                raise KeysLost(stored.database.name, f"{store.product}.{store.name}")


def _made(stored: BlockingCollection[Row], number: int, settings: Settings, seals_from: datetime) -> bool:
    """Add a key; of several processes that do so at once one succeeds."""
    kek, raw = _kek(settings.secret), os.urandom(32)
    wraps = {kek.id.hex(): seal(kek, raw, _place(number))}
    try:
        stored.insert_one({"_id": f"{number:06d}", "wraps": wraps, "seals_from": seals_from, "created_at": now()})
    except DuplicateKeyError:
        return False
    return True


def _unwrapped(stored: BlockingCollection[Row], number: int, row: Row, settings: Settings) -> DataKey:
    """The key, opened with the first secret that opens it, and wrapped under today's if it is not yet.

    The wrapping under the old secret stays until `rewrap`: processes that only know that one may still start.
    """
    today = _kek(settings.secret)
    for kek in (today, *(_kek(each) for each in settings.secrets_before)):
        wrapped = row["wraps"].get(kek.id.hex())
        if wrapped is None:
            continue
        raw = unseal(kek, wrapped, _place(number))
        if kek != today:
            anew = {f"wraps.{today.id.hex()}": seal(today, raw, _place(number))}
            stored.update_one({"_id": row["_id"]}, {"$set": anew})
            log.info("data_key_rewrapped", key=number)
        return DataKey(number, raw, row["seals_from"])
    raise SecretChanged(number)


def _kek(secret: str) -> Key:
    return key_from(secret.encode(), "kit.data_keys")


def _place(number: int) -> str:
    return f"kit/{COLLECTION}/{number:06d}/raw"


@contextmanager
def _stored(settings: Settings) -> Any:
    client: MongoClient[Row] = MongoClient(
        settings.mongo_url,
        appname="msingi keys",
        tz_aware=True,
        serverSelectionTimeoutMS=3000,
        connectTimeoutMS=3000,
        w="majority",
    )
    with client:
        yield client[f"{settings.database}_kit"][COLLECTION]
