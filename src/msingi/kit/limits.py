"""How often someone may ask, exactly and over all processes, and what every reply says of it (R1, R2, R3).

A limit of N in a window counts two windows: the one under way, which begins with the first request and not with the
clock's minute, and the share of the one before that still reaches into the last N seconds. So N at once are N, with
no refill while they arrive (a leaky bucket, GCRA, would let in more of a burst that takes seconds), and the turn of a
window is no moment to double the rate. The count is one Lua script on Redis's own clock.

Tight limits ask Redis each time. Generous ones lease tokens in blocks that grow while they are used up, at most a
twentieth of the quota, and spend them in the process: 14 µs instead of 200 (measured). What is not spent within a
second goes back with the next request. Without Redis each process keeps its own share of the quota: it never opens.
"""

import asyncio
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple
from weakref import ref

import structlog
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import Struct

from msingi.kit import redis_lane, state
from msingi.kit.db import Collection, Doc
from msingi.kit.errors import QuotaExceeded
from msingi.kit.followed import Followed, Rows
from msingi.kit.http import operation_id
from msingi.kit.layer import Layer

LEASE = 1.0  # seconds that leased tokens may be spent
REFUSAL = 0.25  # seconds at most that a process repeats Redis's refusal without asking again
GENEROUS = 100  # quotas from here on are leased in blocks
KEYS_KEPT = 20_000  # keys that a process remembers
LAG = 0.2  # seconds by which the event loop may be late before anonymous callers get half
RECOVERY = 20.0  # seconds after the last such lag
log = structlog.get_logger("limits")
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


class Quota(Struct, frozen=True):
    """So many in so many seconds."""

    quota: int
    window: int

    @property
    def rate(self) -> float:
        """How many a second, in the long run."""
        return self.quota / self.window

    @property
    def block(self) -> int:
        """How many tokens a process may lease at once, a thousandth of a great quota; 1: none beyond what it needs."""
        return min(max(50, self.quota // 1000), self.quota // 20) if self.quota >= GENEROUS else 1


class Taken(NamedTuple):
    """What came of asking for a token. Times are whole seconds, rounded up."""

    allowed: bool
    remaining: int
    reset: int  # until the window ends, or until trying again is of use
    retry_after: int  # until it is worth trying again; 0 if it was allowed


@lru_cache(maxsize=256)
def parse(text: str) -> Quota:
    """`30/minute`, `5/10 seconds`, `1000/hour` as a Quota. Raises ValueError for anything else."""
    found = re.fullmatch(r"([1-9]\d*)/(?:([1-9]\d*) ?)?(second|minute|hour|day)s?", text)
    if not found:
        raise ValueError(f"{text!r} is no limit: write 30/minute or 5/10 seconds")
    return Quota(int(found[1]), int(found[2] or 1) * UNITS[found[3]])


async def take(key: str, quota: Quota, cost: int = 1) -> Taken:
    """Take `cost` tokens of a quota, if they are to be had; `key` says whose and of what."""
    keeper = state.part(Keeper)
    if quota.block == 1 or cost > 1:
        answer = await _ask(key, quota, want=cost, least=cost)
        return keeper.take_alone(key, quota, cost) if answer is None else answer.as_taken()
    lease = keeper.leases.get(key)
    if lease is not None and (spent := lease.spend(time.monotonic())):
        return spent
    return await keeper.renew(key, quota)


async def check(key: str, quotas: Sequence[Quota], problem: type[QuotaExceeded] = QuotaExceeded) -> None:
    """Take one token of each of these quotas, such as 3 a minute and 10 an hour. Raises `problem` (429).

    `key` says whose and of what; it stands in Redis as it is, so that what is personal in it wants `sealing.blind`.
    """
    for quota in quotas:
        taken = await take(f"{key}:{quota.window}", quota)
        if not taken.allowed:
            wait = taken.retry_after
            headers = {"retry-after": str(wait)}
            raise problem(quota=quota.quota, window=quota.window, retry_after=wait, headers=headers)


def parse_all(text: str) -> list[Quota]:
    """Several limits, separated by commas: `3/minute, 10/hour`. Raises ValueError."""
    return [parse(each.strip()) for each in text.split(",")]


def forget() -> None:
    """Forget what this process remembers; what Redis knows stays. For tests that empty Redis."""
    state.part(Keeper).forget()


# ---- in Redis

# What is kept under a key: when the window began, how many were taken in it, how many in the one before.
SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local quota, window = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
local want, least, back, back_from = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local kept = redis.call('HMGET', KEYS[1], 'start', 'taken', 'before')
local start, taken, before = tonumber(kept[1]) or now, tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
if back > 0 and kept[1] == back_from then taken = math.max(0, taken - back) end
local windows = math.floor((now - start) / window)
if windows == 1 then
  start, before, taken = start + window, taken, 0
elseif windows ~= 0 then
  start, before, taken = now, 0, 0
end
local gone = (now - start) / window
local left = math.floor(quota - taken - before * (1 - gone) + 1e-9)
local given = math.min(want, left)
local wait = 0
if given < least then
  given = 0
  local over = taken + least - quota
  if over > 0 then
    local share = 1
    if over <= taken and least <= quota then share = over / taken end
    wait = start + window * (1 + share) - now
  else
    wait = start + window * (1 + over / before) - now
  end
end
if given > 0 or back > 0 then
  redis.call('HSET', KEYS[1], 'start', string.format('%.0f', start), 'taken', taken + given, 'before', before)
  redis.call('PEXPIRE', KEYS[1], 2 * window)
end
return {given, math.max(0, left - given), start + window - now, math.ceil(wait), string.format('%.0f', start)}
"""


@dataclass
class Answer:
    """What Redis said: tokens given, tokens left, milliseconds to the window's end, and to wait; when it began."""

    given: int
    left: int
    reset: float
    wait: float
    start: str

    def as_taken(self) -> Taken:
        """The same for whoever asked for just these tokens."""
        if self.given:
            return Taken(True, self.left, _seconds(self.reset), 0)
        return Taken(False, 0, _seconds(self.wait), _seconds(self.wait))


async def _ask(key: str, quota: Quota, *, want: int, least: int, back: int = 0, start: str = "") -> Answer | None:
    """Ask Redis for `want` tokens, at `least` so many, while giving some `back`; None if it does not answer."""
    arguments: list[int | str] = [quota.quota, quota.window, want, least, back, start]
    answer = await redis_lane.run(state.part(Keeper).script, [f"limit:{key}"], arguments)
    if answer is None:
        return None
    given, left, reset, wait, began = answer
    return Answer(given, left, reset, wait, began.decode())


def _seconds(milliseconds: float) -> int:
    return max(1, math.ceil(milliseconds / 1000))


# ---- in this process


class Lease:
    """Tokens that this process may spend on one key, or the refusal it was told."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.size = 1  # of the last block: it doubles while blocks are used up in time
        self.tokens = 0
        self.left = 0  # in Redis, when last asked
        self.ends = self.resets = self.refused_until = 0.0
        self.retry_at = 0.0
        self.start = ""

    def spend(self, now: float) -> Taken | None:
        """Pay one from what is here, or repeat a refusal; None if Redis must be asked."""
        if self.tokens and now < self.ends:
            self.tokens -= 1
            return Taken(True, self.left + self.tokens, math.ceil(self.resets - now) or 1, 0)
        if now < self.refused_until:
            wait = math.ceil(self.retry_at - now) or 1
            return Taken(False, 0, wait, wait)
        return None

    def next_size(self, block: int) -> int:
        """Twice the last block if that was used up in time, half if it was not."""
        return min(block, self.size * 2) if self.tokens == 0 else max(1, self.size // 2)

    def fill(self, answer: Answer, size: int, now: float) -> None:
        """Note what Redis said."""
        self.tokens, self.left, self.start = answer.given, answer.left, answer.start
        self.resets, self.size = now + answer.reset / 1000, size
        self.ends = now + LEASE
        if answer.given == 0:
            self.retry_at = now + answer.wait / 1000
            self.refused_until = min(self.retry_at, now + REFUSAL)


class Window:
    """The same count as the script's, for a process on its own."""

    def __init__(self, now: float) -> None:
        self.start, self.taken, self.before = now, 0, 0

    def take(self, cost: int, quota: Quota, now: float) -> Taken:
        windows = int((now - self.start) // quota.window)
        if windows == 1:
            self.start, self.before, self.taken = self.start + quota.window, self.taken, 0
        elif windows:
            self.start, self.before, self.taken = now, 0, 0
        ends = self.start + quota.window
        left = math.floor(quota.quota - self.taken - self.before * (ends - now) / quota.window + 1e-9)
        reset = math.ceil(ends - now) or 1
        if left < cost:
            return Taken(False, 0, reset, reset)
        self.taken += cost
        return Taken(True, left - cost, reset, 0)


class Keeper:
    """What a process remembers of limits."""

    def __init__(self) -> None:
        self.script: Any = state.redis().register_script(SCRIPT)
        self.leases: dict[str, Lease] = {}
        self.windows: dict[str, Window] = {}

    async def renew(self, key: str, quota: Quota) -> Taken:
        """Lease the next block and take one; those who come meanwhile wait for it instead of leasing their own."""
        lease = self.leases.get(key) or self._new_lease(key)
        async with lease.lock:
            if spent := lease.spend(time.monotonic()):
                return spent
            size, back = lease.next_size(quota.block), lease.tokens
            lease.tokens = 0
            answer = await _ask(key, quota, want=size, least=1, back=back, start=lease.start)
            if answer is None:
                return self.take_alone(key, quota, 1)
            now = time.monotonic()
            lease.fill(answer, size, now)
            return lease.spend(now) or answer.as_taken()

    def take_alone(self, key: str, quota: Quota, cost: int) -> Taken:
        """Without Redis: this process's share of the quota, and at least one."""
        share = Quota(max(1, quota.quota // state.settings().processes), quota.window)
        now = time.monotonic()
        if len(self.windows) > KEYS_KEPT:
            self.windows.clear()
        return self.windows.setdefault(key, Window(now)).take(cost, share, now)

    def forget(self) -> None:
        self.leases.clear()
        self.windows.clear()

    def _new_lease(self, key: str) -> Lease:
        if len(self.leases) > KEYS_KEPT:
            now = time.monotonic()
            self.leases = {name: each for name, each in self.leases.items() if each.ends > now or each.lock.locked()}
            if len(self.leases) > KEYS_KEPT:  # all in use: some tokens are lost, none are made
                self.leases.clear()
        lease = self.leases[key] = Lease()
        return lease


# ---- how busy this process is


class Meter:
    """How late the event loop is: a late loop means more work than the process can do."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.home = ref(state.current())  # weak: the meter stops when nobody holds the state any more
        self.strained_until = float("-inf")
        self.due = 0.0
        self._again()

    @property
    def strained(self) -> bool:
        """Whether the loop was more than LAG seconds late within the last RECOVERY seconds."""
        return self.loop.time() < self.strained_until

    def _again(self) -> None:
        self.due = self.loop.time() + LAG / 2
        self.loop.call_at(self.due, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        if now - self.due > LAG:
            self.strained_until = now + RECOVERY
        if self.home() is not None:
            self._again()


# ---- how tight they are now


class ChangedLimit(Doc):
    """A limit that an admin changed while the house runs. Its id is the limit's name."""

    limit: str


def _learn(rows: Rows[ChangedLimit] | None) -> None:
    changed = {name: row.limit for name, row in (rows or {}).items() if row is not None}
    state.part(Table).learn(changed)


changed_limits = Collection(ChangedLimit, "limits")
followed = Followed(changed_limits, _learn)
GENERAL = ("anonymous", "member")
ROLE = "role."  # `role.admin`: what members with this role get instead of the member's limit


class Table:
    """The limits as they are now: those of the settings and the routes, and what an admin made of them."""

    def __init__(self) -> None:
        self.learn({})

    def learn(self, changed: Mapping[str, str]) -> None:
        """Know what was changed, by the limits' names. What is no limit changes nothing."""
        self.changed = {name: quota for name, text in changed.items() if (quota := _understood(name, text))}
        general = {name: parse(text) for name, text in general_limits().items()} | self.changed
        self.anonymous, self.member = general["anonymous"], general["member"]
        self.halved = _half(self.anonymous)
        self.roles = {name.removeprefix(ROLE): each for name, each in general.items() if name.startswith(ROLE)}
        self.of_roles: dict[frozenset[str], Quota] = {}

    def general_of(self, roles: frozenset[str]) -> Quota:
        """What a member with these roles gets: the most generous of what the roles are given, else the member's."""
        quota = self.of_roles.get(roles)
        if quota is None:
            given = [self.roles[role] for role in roles if role in self.roles]
            quota = max(given, key=lambda each: each.rate, default=self.member)
            if len(self.of_roles) > KEYS_KEPT:
                self.of_roles.clear()
            self.of_roles[roles] = quota
        return quota


def _understood(name: str, text: str) -> Quota | None:
    try:
        return parse(text)
    except ValueError:
        log.error("limit_not_understood", name=name)
        return None


def general_limits() -> dict[str, str]:
    """The limits of all requests of a caller together, by name, as the settings give them."""
    settings = state.settings()
    by_role = dict(each.strip().split("=", 1) for each in settings.role_limits.split(",") if each.strip())
    return {
        "anonymous": settings.anonymous_limit,
        "member": settings.member_limit,
        **{f"{ROLE}{role}": limit for role, limit in by_role.items()},
    }


def route_limits(app: Litestar) -> dict[str, tuple[str, str]]:
    """The routes that have a limit of their own: by the operation's name the route, and the limit that it says."""
    found: dict[str, tuple[str, str]] = {}
    for route in app.routes:
        for method, one in getattr(route, "route_handler_map", {}).items():
            handler = one[0] if isinstance(one, tuple) else one
            limit = handler.opt.get("limit", "off") if isinstance(handler, HTTPRouteHandler) else "off"
            if limit != "off":
                found[operation_id(handler)] = (f"{method} {route.path_format}", limit)
    return found


# ---- in front of the routes


class Share(NamedTuple):
    """One limit that a request falls under, and what came of it."""

    name: str
    quota: Quota
    taken: Taken

    @property
    def policy(self) -> bytes:
        return _policy(self.name, self.quota)

    @property
    def service(self) -> bytes:
        return f'"{self.name}";r={self.taken.remaining};t={self.taken.reset}'.encode()


@lru_cache(maxsize=256)
def _policy(name: str, quota: Quota) -> bytes:
    return f'"{name}";q={quota.quota};w={quota.window}'.encode()


class Limit(Layer):
    """Counts each request against its route's `limit="30/minute"`, if it has one, and against the caller's general one.

    The caller is the actor, or the address (the /64 of an IPv6 address), so it stands behind the gate. Each reply
    tells both limits, the route's first. `limit="off"` exempts a route. Raises QuotaExceeded (429).
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        asked = scope["route_handler"].opt.get("limit")
        if asked == "off" or scope["type"] != ScopeType.HTTP:
            await next_app(scope, receive, send)
            return
        headers = _quick(scope) if asked is None else None
        if headers is None:
            headers = _headers(await _take_all(scope, asked))

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        await next_app(scope, receive, send_with_limits)


async def count_refusal(scope: Scope) -> None:
    """Count a request that the gate turned away against its address. Raises QuotaExceeded when there were too many."""
    if scope["type"] == ScopeType.HTTP and scope["route_handler"].opt.get("limit") != "off":
        scope["user"] = None
        await _take_all(scope, None)


async def count_unknown(scope: Scope) -> None:
    """Count what somebody unknown asks for on a socket against their address, as a request. Raises QuotaExceeded."""
    asking: Any = {**scope, "user": None}
    name, quota = _general(asking)
    _granted([], Share(name, quota, await take(f"{name}:{client_of(scope)}", quota)))


def _quick(scope: Scope) -> list[tuple[bytes, bytes]] | None:
    """What most requests need: one token of a lease that is here. None where there is more to ask or to tell."""
    name, quota = _general(scope)
    lease = state.part(Keeper).leases.get(f"{name}:{_caller(scope)}")
    taken = lease.spend(time.monotonic()) if lease is not None else None
    if taken is None or not taken.allowed:
        return None
    service = b'"%b";r=%d;t=%d' % (name.encode(), taken.remaining, taken.reset)
    return [(b"ratelimit-policy", _policy(name, quota)), (b"ratelimit", service)]


async def _take_all(scope: Scope, asked: str | None) -> list[Share]:
    """The shares of a request: the route's, if it limits, and the caller's general one."""
    who = _caller(scope)
    shares: list[Share] = []
    if asked is not None:
        quota = _of_route(scope, asked)
        key = f"{scope['method']} {scope['path_template']}:{who}"  # type: ignore[typeddict-item]
        shares.append(_granted(shares, Share("route", quota, await take(key, quota))))
    name, quota = _general(scope)
    shares.append(_granted(shares, Share(name, quota, await take(f"{name}:{who}", quota))))
    return shares


def _caller(scope: Scope) -> str:
    actor: Any = scope.get("user")
    return f"actor:{actor.id}" if actor is not None else client_of(scope)


def _general(scope: Scope) -> tuple[str, Quota]:
    """The limit that all of a caller's requests fall under together."""
    table, actor = state.part(Table), scope.get("user")
    if actor is None:
        return "anonymous", table.halved if state.part(Meter).strained else table.anonymous
    return "member", table.general_of(actor.roles) if table.roles else table.member


def _of_route(scope: Scope, asked: str) -> Quota:
    """The limit of a route: what it says, unless an admin said otherwise."""
    changed = state.part(Table).changed
    return (changed and changed.get(operation_id(scope["route_handler"]))) or parse(asked)


def _granted(others: Sequence[Share], share: Share) -> Share:
    """The share, if it was allowed. Raises QuotaExceeded, whose headers tell of the other shares too."""
    if share.taken.allowed:
        return share
    wait = share.taken.retry_after
    headers = {name.decode(): value.decode() for name, value in _headers([share, *others])}
    raise QuotaExceeded(
        quota=share.quota.quota,
        window=share.quota.window,
        retry_after=wait,
        headers={**headers, "retry-after": str(wait)},
    )


def _headers(shares: Sequence[Share]) -> list[tuple[bytes, bytes]]:
    """RateLimit fields for HTTP, draft of September 2025."""
    return [
        (b"ratelimit-policy", b", ".join([share.policy for share in shares])),
        (b"ratelimit", b", ".join([share.service for share in shares])),
    ]


@lru_cache(maxsize=16)
def _half(quota: Quota) -> Quota:
    return Quota(max(1, quota.quota // 2), quota.window)


def client_of(scope: Scope) -> str:
    """Where an anonymous request comes from: its IPv4 address, or the /64 of its IPv6 address."""
    client = scope.get("client")
    return network_of(client[0]) if client else "nowhere"


@lru_cache(maxsize=10_000)
def network_of(address: str) -> str:
    """The part of an address that one subscriber holds."""
    try:
        read = ip_address(address)
    except ValueError:  # a name, as in tests, or a Unix socket
        return f"address:{address}"
    if isinstance(read, IPv6Address):
        if read.ipv4_mapped:
            return f"address:{read.ipv4_mapped}"
        return f"network:{IPv6Address(int(read) >> 64 << 64)}/64"
    return f"address:{read}"
