"""Tries of a password, counted exactly before it is known whether they are right: in Redis, for all processes.

A try takes its place first and gives it back if it was right, so that however many come at the same moment, no more
wrong ones are looked at than a door's patience allows. Without Redis each process counts its share alone: doors never
stand open.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from msingi.kit import breaker, clock, state
from msingi.kit.errors import Busy, Problem
from msingi.kit.ids import new_id
from msingi.products.accounts.rules.defence import Patience, TooManyTries

PATIENCE = 0.25  # seconds for Redis to answer: a password costs some 50 ms anyway, and exactness is worth the rest
DOORS_KEPT = 20_000  # that a process remembers while Redis is away


class Try(Struct, frozen=True):
    """A place that was taken at some doors."""

    id: str
    doors: dict[str, Patience]
    alone: bool


@asynccontextmanager
async def guess(door: str, patience: Patience, *wrong: type[Problem]) -> AsyncIterator[None]:
    """Let one guess be made inside: one of `wrong` raised there counts, any other problem does not.

    Raises TooManyTries, Busy.
    """
    tried = await begin({door: patience})
    try:
        yield
    except wrong:
        await was_wrong(tried)
        raise
    except Problem:  # nothing was guessed
        await was_right(tried)
        raise
    await was_right(tried)


async def begin(doors: dict[str, Patience]) -> Try:
    """Take a place at all of these doors. Raises TooManyTries; Busy while others' tries, still under way, hold it."""
    tried = Try(new_id(), doors, alone=False)
    answer = await _ask("begin", tried)
    if answer is None:
        state.part(_Alone).begin(tried)
        return Try(tried.id, doors, alone=True)
    wait, certain = answer
    if wait and certain:
        raise TooManyTries(retry_after=math.ceil(wait / 1000))
    if wait:
        raise Busy(retry_after=1)
    return tried


async def was_wrong(tried: Try) -> None:
    """The place stays taken."""
    if not tried.alone:
        await _ask("wrong", tried)


async def was_right(tried: Try) -> None:
    """The place is free again."""
    if tried.alone:
        state.part(_Alone).give_back(tried)
    else:
        await _ask("right", tried)


async def forget(doors: list[str]) -> None:
    """Open these doors."""
    state.part(_Alone).forget(doors)
    keys = [key for door in doors for key in _keys(door)]
    if keys:
        await breaker.ask(lambda: state.redis().delete(*keys), 0)


# Of each door: a sorted set of tries by their time, and a hash of how it is shut: until when, for the how manieth time
# (`level`), by which try, and whether that one is known to have been wrong.
SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[3])
local step, try = ARGV[1], ARGV[2]
local function each(act)
  for i = 1, #KEYS, 2 do
    local at = 4 + (i - 1) * 2
    local found = act(KEYS[i], KEYS[i + 1], tonumber(ARGV[at]), ARGV[at + 1] * 1000, ARGV[at + 2] * 1000,
      ARGV[at + 3] * 1000)
    if found then return found end
  end
end
if step == 'begin' then
  local refused = each(function(tries, shut)
    local how = redis.call('HMGET', shut, 'until', 'certain')
    local wait = (tonumber(how[1]) or 0) - now
    if wait > 0 then return {math.ceil(wait), tonumber(how[2])} end
  end)
  if refused then return refused end
  each(function(tries, shut, wrong, window, first, most)
    redis.call('ZREMRANGEBYSCORE', tries, '-inf', now - window)
    redis.call('ZADD', tries, now, try)
    redis.call('PEXPIRE', tries, window)
    if redis.call('ZCARD', tries) >= wrong then
      local how = redis.call('HMGET', shut, 'until', 'level')
      local level = 1
      if now < (tonumber(how[1]) or 0) + window then level = (tonumber(how[2]) or 0) + 1 end
      local wait = math.min(first * 2 ^ (level - 1), most)
      redis.call('HSET', shut, 'until', string.format('%.0f', now + wait), 'level', level, 'by', try, 'certain', 0)
      redis.call('PEXPIRE', shut, wait + window)
    end
  end)
elseif step == 'wrong' then
  each(function(tries, shut)
    if redis.call('HGET', shut, 'by') == try then redis.call('HSET', shut, 'certain', 1) end
  end)
else
  each(function(tries, shut, wrong)
    redis.call('ZREM', tries, try)
    local by = redis.call('HGET', shut, 'by')
    if by and by ~= '' and (by == try or redis.call('ZCARD', tries) < wrong) then
      redis.call('HSET', shut, 'until', string.format('%.0f', now), 'by', '')
      redis.call('HINCRBY', shut, 'level', -1)
    end
  end)
end
return {0, 0}
"""


async def _ask(step: str, tried: Try) -> tuple[int, int] | None:
    """Milliseconds to wait, and whether that is certain; None if Redis does not answer."""
    keys = [key for door in tried.doors for key in _keys(door)]
    said: list[Any] = [step, tried.id, int(clock.shift().total_seconds() * 1000)]
    for each in tried.doors.values():
        said += [each.wrong, each.window, each.first, each.most]
    run = state.part(_Script).run
    answer: list[int] | None = await breaker.ask(lambda: run(keys=keys, args=said), None, patience=PATIENCE)
    return None if answer is None else (answer[0], answer[1])


def _keys(door: str) -> tuple[str, str]:
    return f"door:{door}", f"door:{door}:shut"


class _Script:
    def __init__(self) -> None:
        self.run: Any = state.redis().register_script(SCRIPT)


class _Alone:
    """What a process counts without Redis: its share of each door's patience, and no less than one."""

    def __init__(self) -> None:
        self.tries: dict[str, dict[str, float]] = {}

    def begin(self, tried: Try) -> None:
        at = clock.seconds()
        if len(self.tries) > DOORS_KEPT:
            self.tries.clear()
        for door, patience in tried.doors.items():
            recent = {id: begun for id, begun in self.tries.get(door, {}).items() if at - begun < patience.window}
            self.tries[door] = recent
            if len(recent) >= max(1, patience.wrong // state.settings().processes):
                raise TooManyTries(retry_after=math.ceil(min(recent.values()) + patience.window - at))
        for door in tried.doors:
            self.tries[door][tried.id] = at

    def give_back(self, tried: Try) -> None:
        for door in tried.doors:
            self.tries.get(door, {}).pop(tried.id, None)

    def forget(self, doors: list[str]) -> None:
        for door in doors:
            self.tries.pop(door, None)

    def start_over(self) -> None:
        """Forget all: for tests, which empty Redis."""
        self.tries.clear()
