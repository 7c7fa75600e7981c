"""Who asks, and the gate: without an actor nothing opens but what a route declares public."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from msingi.kit import csrf, limits, revocations, state, tokens
from msingi.kit.actors import Actor, grant, keep, permissions_of
from msingi.kit.errors import Forbidden, SignInFirst
from msingi.kit.layer import Layer
from msingi.kit.roles import HOUSE_GRANTS

__all__ = [
    "STEP_UP",
    "Actor",
    "Gate",
    "InPersonOnly",
    "InsufficientScope",
    "InsufficientUserAuthentication",
    "SecondFactorRequired",
    "grant",
    "identify_cookie_with",
    "identify_key_with",
    "lacks_second_factor",
    "permissions_of",
]

Identify = Callable[[str], Awaitable[Actor | None]]
STEP_UP = 300  # seconds for which a proof of who one is stays fresh enough for what matters most
_cookie: list[Identify] = []
_anew: list[Identify] = []


def identify_cookie_with(identify: Identify, *, anew: Identify | None = None) -> None:
    """Register who can tell the actor of a session cookie: the product that keeps the sessions.

    `anew` does so whatever was remembered of it; it is asked when the proof that is known seems too old.
    """
    _cookie[:], _anew[:] = [identify], [anew or identify]


_keys: dict[str, Identify] = {}


def identify_key_with(prefix: str, identify: Identify) -> None:
    """Register who can tell the actor of a secret with this prefix that comes as `Authorization: Bearer <prefix>…`."""
    _keys[prefix] = identify


class InsufficientUserAuthentication(SignInFirst):
    """Prove once more that it is you: this needs a sign-in that is no older than {max_age} seconds."""

    def __init__(self) -> None:
        super().__init__(max_age=STEP_UP)
        self.headers = {"WWW-Authenticate": f'Bearer error="insufficient_user_authentication", max_age="{STEP_UP}"'}


class SecondFactorRequired(Forbidden):
    """Whoever may do this has to sign in with a second factor; set one up, or sign in again with it."""


class InsufficientScope(Forbidden):
    """This key or program may not do that: it was not granted the scope {scope}."""

    def __init__(self, scope: str) -> None:
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        super().__init__(scope=scope, headers={"WWW-Authenticate": challenge})


class InPersonOnly(Forbidden):
    """Only the person may do this: no API key, no program on their behalf, and nobody who acts for them."""


class Gate(Layer):
    """Finds the actor of a request and turns away whoever has no business with the route.

    401 without an actor unless the route says `public=True`; 403 without the route's `permission`. A bad token is
    401 on public routes too: who shows one means to be known. Who comes with an API key or for somebody else's
    program also needs the route's `scope`, which is `<product>:read` or `<product>:write` unless the route says so
    itself. `in_person=True` keeps out all but the person; `step_up=True` does so too, and asks (RFC 9470) for a
    sign-in of the last STEP_UP seconds. With `identify=False` nobody is looked for: a public route to which programs
    come with credentials of another kind, and where a cookie means nothing.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        try:
            await _let_in(scope)
        except SignInFirst:
            # It ends here, before the limits: who tries tokens one after the other shall still run out of tries.
            await limits.count_refusal(scope)
            raise
        await next_app(scope, receive, send)


async def _let_in(scope: Scope) -> None:
    opt: Mapping[str, Any] = scope["route_handler"].opt
    actor = None if opt.get("identify") is False else await _actor_of(scope)
    if actor is not None and opt.get("step_up") is True and not actor.is_proven(STEP_UP):
        actor = await _actor_of(scope, _anew)  # it may have been proved since, in another process
    scope["user"] = actor
    if actor is not None:
        scope["state"]["actor_id"] = actor.id
    if actor is None and opt.get("public") is not True:
        raise SignInFirst
    if actor is not None:
        _check_reach(actor, scope, opt)
    permission = opt.get("permission")
    if permission is None:
        return
    if actor is None or not actor.may(permission):
        raise Forbidden
    if lacks_second_factor(actor):
        raise SecondFactorRequired
    # Whoever holds power is looked up anew while it is not sure that we hear at once of what was revoked.
    if not revocations.fresh() and await revocations.is_revoked_now(actor):
        raise SignInFirst


def lacks_second_factor(actor: Actor) -> bool:
    """Whether the house asks who holds power for a second factor, and this one did not show any."""
    is_required = state.settings().admin_second_factor == "required"
    return is_required and actor.scopes is None and "mfa" not in actor.methods


def _check_reach(actor: Actor, scope: Scope, opt: Mapping[str, Any]) -> None:
    """Raise unless whoever comes for the actor may go this way, and the proof of who they are is fresh enough."""
    if actor.scopes is not None and opt.get("public") is not True:
        safe = scope["type"] == ScopeType.WEBSOCKET or scope["method"] in csrf.SAFE
        needed = opt.get("scope") or f"{opt.get('product', 'house')}:{'read' if safe else 'write'}"
        if not actor.reaches(needed):
            raise InsufficientScope(needed)
    step_up = opt.get("step_up") is True
    if (step_up or opt.get("in_person") is True) and not actor.in_person:
        raise InPersonOnly
    if step_up and not actor.is_proven(STEP_UP):
        raise InsufficientUserAuthentication


async def _actor_of(scope: Scope, cookie: list[Identify] = _cookie) -> Actor | None:
    bearer = cookies = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            bearer = value
        elif name == b"cookie":
            cookies = _one_cookie_header(scope) if cookies else value
    if bearer:
        known = tokens.known_actor(bearer[7:]) if bearer[:7] == b"Bearer " else None
        if known is not None and not revocations.is_revoked(known):
            return known
        return await _actor_of_bearer(bearer)
    if cookies and cookie:
        return await _actor_of_cookie(scope, cookies.decode("latin-1"), cookie[0])
    return None


def _one_cookie_header(scope: Scope) -> bytes:
    """HTTP/2 may bring cookies in several headers (RFC 9113, 8.2.3): whoever reads them from here on finds one."""
    joined = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
    scope["headers"] = [*(each for each in scope["headers"] if each[0] != b"cookie"), (b"cookie", joined)]
    return joined


async def _actor_of_bearer(header: bytes) -> Actor:
    scheme, _, shown = header.partition(b" ")
    token = shown.decode("latin-1")
    identify = next((each for prefix, each in _keys.items() if token.startswith(prefix)), tokens.identify_token)
    actor = await identify(token) if scheme.lower() == b"bearer" else None
    if actor is None or revocations.is_revoked(actor):
        raise SignInFirst
    return actor


async def _actor_of_cookie(scope: Scope, header: str, identify: Identify) -> Actor | None:
    value = csrf.session_cookie(header)
    if value is None:
        return None
    actor = await identify(value)
    if actor is None or revocations.is_revoked(actor):
        return None
    csrf.check(scope, value)
    return actor


def roles_known(products: Iterable[Any]) -> None:
    """Give each role the permissions that the house and the products grant it."""
    for role, permissions in HOUSE_GRANTS.items():
        grant(role, permissions)
    for product in products:
        for role, permissions in product.grants.items():
            grant(role, permissions)
        for role, permissions in product.keeps.items():
            keep(role, permissions)
