"""Remember an answer until a thing it was made from is written.

Every tag has a number in Redis, and a commit gives the tags of what it wrote new ones. An answer is kept together
with the numbers that its tags had *before* it was made, and read only while they are still the same: what was being
made while its source changed is never read. Value and numbers come in one round trip.

A process also keeps copies of what it read or made, up to `cache_memory` bytes. It believes them as it believes Redis:
for each request the numbers are asked anew, but the value is moved and decoded no more. What nobody can change, such
as kit.encoded.Encoded, is handed out as one object.

What can go wrong, and what then holds:

- Redis cannot be reached: answers are made each time, one at a time for each key in a process.
- A commit cannot tell Redis: its process owes the tags, does not trust them itself, and tries again ten times a second.
  Who saw the outage trusts nothing for DISTRUST seconds after it, so that debts are paid first. A process that saw
  none of it may read an old answer until the debt is paid: some tenths of a second after Redis can be reached again.
- Redis restarts or fails over and has lost the newest writes: all that was kept before is out of date (`redis_run`).
- Redis evicts or expires a tag: what was kept under it is out of date, since no number ever comes twice.
- A process is killed between its commit and the telling, or before it has paid: the old answer is read until its
  minutes are over. This is the one case that only the time limit bounds; what cannot bear it is not cached.
"""

import asyncio
import os
import time
import typing
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from functools import cached_property, wraps
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import msgspec
import structlog
from msgspec import UNSET, Struct, inspect

from msingi.kit import breaker, redis_lane, state, unit
from msingi.kit.clock import now

P = ParamSpec("P")
R = TypeVar("R")
log = structlog.get_logger("cache")

DISTRUST = 1.0  # seconds after an outage of Redis
DEBT_PAUSE = 0.1  # seconds between two tries to tell Redis what is out of date
TAG_LIFE = 86_400  # seconds; a tag that nobody wrote for so long gets a new number
LONGEST = 12 * 60  # minutes
MOST_OWED = 10_000  # tags; who owes more owes EVERYTHING
EVERYTHING = "everything"  # a tag that every answer has
COPY = 600  # bytes that a copy takes beside its answer
LARGEST = 16  # an answer that takes more than this part of the memory for copies is not copied


def cached(*, minutes: float, tags: Callable[P, Iterable[str]]) -> Callable[[Callable[P, Awaitable[R]]], "Ask[P, R]"]:
    """Keep what an async function answers for so many minutes, or until one of its `tags` is written.

    All arguments are part of the key, with all that they hold: an answer that differs by actor takes the actor as an
    argument. They are scalars, dates, enums, Structs, and lists, tuples, sets and dicts of such; others raise
    TypeError. The answer is kept as the function's return annotation says. After its minutes an answer is served once
    more, for at most as long again and a minute at most, while one call in each process makes it new. Inside an
    action nothing is cached: it reads its own snapshot.
    """
    if not 0 < minutes <= LONGEST:
        raise ValueError(f"keep answers for up to {LONGEST} minutes: a tag must outlive them")

    def wrap(ask: Callable[P, Awaitable[R]]) -> Ask[P, R]:
        if "return" not in getattr(ask, "__annotations__", {}):
            raise TypeError(f"{ask.__qualname__} does not say what it returns, so its answers cannot be kept")
        return Ask(ask, minutes * 60, tags)

    return wrap


class Ask(Generic[P, R]):
    """A function whose answers are kept. `fresh` asks past the cache."""

    def __init__(self, ask: Callable[P, Awaitable[R]], seconds: float, tags: Callable[P, Iterable[str]]) -> None:
        wraps(ask)(self)
        self.fresh, self.seconds, self.tags = ask, seconds, tags
        self.name = f"{ask.__module__}.{ask.__qualname__}"

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if unit.current.get() is not None:
            return await self.fresh(*args, **kwargs)
        key = self.key_of(args, kwargs)
        tags = [EVERYTHING, *sorted(set(self.tags(*args, **kwargs)))]
        copy, stamp = await state.part(Cache).look_up(key, tags)
        if copy is None or copy.fresh_until <= now().timestamp():
            making = state.part(Cache).make(key, stamp, lambda: self.make(key, tags, stamp, args, kwargs))
            # Past its minutes, but nothing it was made from has changed: it does until the new one is there.
            copy = copy if copy is not None else await asyncio.shield(making)
        answer = self.read(copy)
        note = noted.get()
        if note is not None:
            note.append(Used(tags, copy.stamp, copy.fresh_until, answer))
        return answer

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The function, the shape of what it returns, and all arguments with their types."""
        given = ([type(each).__qualname__ for each in args], args, kwargs)
        try:
            raw = msgspec.msgpack.encode(given, order="deterministic", enc_hook=_refuse)
        except TypeError as error:
            raise TypeError(f"{self.name} cannot be cached for these arguments: {error}") from None
        return f"cache:{self.name}:{self.shape}:{blake2b(raw, digest_size=16).hexdigest()}"

    @cached_property
    def kind(self) -> Any:
        return typing.get_type_hints(self.fresh, include_extras=True)["return"]

    @cached_property
    def shape(self) -> str:
        """A version of the return type: another field, another key, so that a new release reads no old answers."""
        schema = msgspec.json.encode(msgspec.json.schema(self.kind, schema_hook=_opaque), order="deterministic")
        return blake2b(schema, digest_size=4).hexdigest()

    @cached_property
    def decoder(self) -> msgspec.msgpack.Decoder[R]:
        return msgspec.msgpack.Decoder(self.kind)

    @cached_property
    def is_constant(self) -> bool:
        """Whether nobody can change an answer."""
        return _is_constant(inspect.type_info(self.kind))

    def read(self, copy: "Copy") -> R:
        """Everybody gets an object of their own, unless nobody can change it."""
        if not self.is_constant:
            return self.decoder.decode(copy.answer)
        if copy.value is UNSET:
            copy.value, copy.answer = self.decoder.decode(copy.answer), b""
        value: R = copy.value
        return value

    async def make(
        self, key: str, tags: list[str], stamp: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> "Copy":
        """Ask, and keep the answer under the numbers that the tags had before."""
        if stamp == "":
            stamp = await _number(tags)
            task = asyncio.current_task()
            if stamp and task:  # who comes now sees the numbers, and should find this making under them
                state.part(Cache).call((key, stamp), task)
        answer = msgspec.msgpack.encode(await self.fresh(*args, **kwargs))
        copy = Copy(stamp or "", now().timestamp() + self.seconds, answer)
        if stamp:
            state.part(Cache).keep_copy(key, copy)
            await _keep(key, Kept(copy.stamp, copy.fresh_until, answer), self.seconds)
        return copy


def _refuse(value: Any) -> Any:
    raise TypeError(f"a {type(value).__qualname__} has no value to tell it by")


def _opaque(kind: type) -> dict[str, Any]:
    return {"title": kind.__qualname__}


def _is_constant(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.StructType):
        return kind.cls.__struct_config__.frozen and all(_is_constant(each.type) for each in kind.fields)
    if isinstance(kind, inspect.UnionType):
        return all(map(_is_constant, kind.types))
    scalars = (inspect.NoneType, inspect.BoolType, inspect.IntType, inspect.FloatType, inspect.StrType)
    return isinstance(kind, (*scalars, inspect.BytesType, inspect.DateTimeType, inspect.DateType, inspect.EnumType))


class Kept(Struct, array_like=True, frozen=True):
    """An answer with the numbers that its tags had, and the time (seconds since 1970) up to which it is fresh."""

    stamp: str
    fresh_until: float
    answer: bytes


_kept_decoder = msgspec.msgpack.Decoder(Kept)


class Copy(Struct):
    """The same in this process: encoded, or once it was read, and if nobody can change it, as what it is."""

    stamp: str
    fresh_until: float
    answer: bytes
    value: Any = UNSET


# ---- what a process remembers


class Used(NamedTuple):
    """An answer that somebody got, and what it was made from, as far as that is known."""

    tags: Sequence[str]
    stamp: str
    fresh_until: float
    answer: Any


noted: ContextVar[list[Used] | None] = ContextVar("noted", default=None)  # where it is noted who used what, if anywhere


class Copies:
    """What this process keeps in memory, up to so many bytes; what was not asked for the longest goes first."""

    def __init__(self) -> None:
        self.most = state.settings().cache_memory
        self.taken = 0
        self.found: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any) -> Any:
        """What is kept, or None. Whether it is still true, only Redis knows."""
        found = self.found.get(key)
        if found is None:
            return None
        self.found.move_to_end(key)
        return found[0]

    def keep(self, key: Any, value: Any, size: int) -> None:
        """Keep something of so many bytes, in the place of what was longest not asked for."""
        self.drop(key)
        if size * LARGEST > self.most:
            return
        self.found[key] = value, size
        self.taken += size
        while self.taken > self.most:
            self.drop(next(iter(self.found)))

    def drop(self, key: Any) -> None:
        """Keep it no longer."""
        _, size = self.found.pop(key, (None, 0))
        self.taken -= size


class Cache:
    """Answers being made, tags that Redis must still be told of, and how many commits this process made."""

    def __init__(self) -> None:
        self.copies = Copies()
        self.making: dict[tuple[str, str], asyncio.Task[Copy]] = {}
        self.owed: set[str] = set()
        self.paying: asyncio.Task[None] | None = None
        self.commits = 0

    async def look_up(self, key: str, tags: list[str]) -> tuple[Copy | None, str | None]:
        """What is kept and still valid, and the tags' stamp: "" if some have no number, None if it cannot be known."""
        copy: Copy | None = self.copies.get(key)
        if copy is not None and copy.fresh_until <= now().timestamp():
            copy = None  # another process may have made a newer one
        found = await self._read(tags, [key] if copy is None else [])
        stamp = _stamp(found, tags) if found is not None else None
        if found is None or not stamp:
            return None, stamp
        if copy is not None and copy.stamp == stamp:
            return copy, stamp
        if copy is not None:
            self.copies.drop(key)
            return await self.look_up(key, tags)  # another process may have made the new one
        raw = found[key]
        kept = _kept_decoder.decode(raw) if raw is not None else None
        if kept is None or kept.stamp != stamp:
            return None, stamp
        copy = Copy(stamp, kept.fresh_until, kept.answer)
        self.keep_copy(key, copy)
        return copy, stamp

    def keep_copy(self, key: str, copy: Copy) -> None:
        """Keep an answer in this process too."""
        self.copies.keep(key, copy, len(copy.answer) + len(key) + COPY)

    async def holds(self, used: Sequence[Used]) -> bool:
        """Whether the minutes of these answers last, and nothing that they were made from has been written."""
        tags = [tag for each in used for tag in each.tags]
        if min(each.fresh_until for each in used) <= now().timestamp():
            return False
        found = await self._read(tags, [])
        return found is not None and all(_stamp(found, each.tags) == each.stamp for each in used)

    async def _read(self, tags: Sequence[str], keys: Sequence[str]) -> redis_lane.Found | None:
        """What Redis has under these keys and of these tags; None if it does not say, or cannot be believed."""
        if self._distrusts(tags):
            return None
        found = await redis_lane.read([*keys, *map(_tag_key, tags)])
        return None if self._distrusts(tags) else found

    def make(self, key: str, stamp: str | None, make: Callable[[], Coroutine[Any, Any, Copy]]) -> "asyncio.Task[Copy]":
        """The making of an answer, one for each key and stamp; where there is none yet, it begins.

        Nobody joins a making that began before a commit they know of: without a stamp, one of this process.
        """
        name = (key, stamp or f"after {self.commits}")
        return self.making.get(name) or self.call(name, asyncio.create_task(make()))

    def call(self, name: tuple[str, str], task: "asyncio.Task[Copy]") -> "asyncio.Task[Copy]":
        """Let a making be found under this name until it is done."""
        self.making[name] = task
        task.add_done_callback(lambda done: self._made(name, done))
        return task

    def _made(self, name: tuple[str, str], done: "asyncio.Task[Copy]") -> None:
        self.making.pop(name, None)
        if not done.cancelled():
            done.exception()  # whoever waits gets it raised; a refresh that nobody waits for is tried again

    async def forget(self, tags: set[str]) -> None:
        """Give tags new numbers; owe it if Redis does not take them now."""
        self.commits += 1
        if not await _renumber(tags):
            self.owed = self.owed | tags if len(self.owed) < MOST_OWED else {EVERYTHING}
            log.warning("stale_tags_owed", tags=len(self.owed))
            if self.paying is None:
                self.paying = asyncio.create_task(self._pay())

    async def _pay(self) -> None:
        try:
            while self.owed:
                await asyncio.sleep(DEBT_PAUSE)
                due = set(self.owed)
                if await _renumber(due):
                    self.owed -= due
            log.info("stale_tags_told")
        finally:
            self.paying = None

    def _distrusts(self, tags: Sequence[str]) -> bool:
        """Whether Redis may not know yet what is out of date."""
        health = state.part(breaker.Breaker)
        if health.open:
            health.look()
            return True
        return time.monotonic() - health.closed_at < DISTRUST or not self.owed.isdisjoint(tags)


async def forget(tags: Iterable[str]) -> None:
    """Let no answer made from these be read again. Commits do this by themselves."""
    await state.part(Cache).forget(set(tags))


async def forget_everything() -> None:
    """Let no answer that is kept be read again: after a restore of the database, for one."""
    await forget({EVERYTHING})


unit.on_stale(forget)


# ---- in Redis


def _tag_key(tag: str) -> str:
    return f"tag:{tag}"


def _stamp(found: redis_lane.Found, tags: Iterable[str]) -> str:
    """The numbers of these tags as one text; "" if one of them has none."""
    numbers = [found[_tag_key(tag)] for tag in tags]
    told = [number.decode() for number in numbers if number is not None]
    return "|".join([state.current().redis_run, *told]) if len(told) == len(numbers) else ""


def _numbered(tag: str, *more: str) -> redis_lane.Command:
    """What gives a tag a new number: 18 hexadecimal digits of chance, so that none ever comes twice."""
    return ("SET", _tag_key(tag), os.urandom(9).hex(), "EX", TAG_LIFE, *more)


async def _renumber(tags: set[str]) -> bool:
    """Whether Redis took new numbers for all of the tags."""
    return await redis_lane.ask(lambda: [_numbered(tag) for tag in tags]) is not None


async def _number(tags: list[str]) -> str | None:
    """The stamp of tags of which some had no number: they get one, unless somebody was faster."""
    names = list(map(_tag_key, tags))
    replies = await redis_lane.ask(lambda: [*(_numbered(tag, "NX") for tag in tags), ("MGET", *names)])
    return _stamp(dict(zip(names, replies[-1], strict=True)), tags) if replies is not None else None


async def _keep(key: str, kept: Kept, seconds: float) -> None:
    life = int((seconds + min(seconds, 60)) * 1000)
    raw = msgspec.msgpack.encode(kept)
    await redis_lane.ask(lambda: [("SET", key, raw, "PX", max(1, life))])
