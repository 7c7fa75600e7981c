"""OAuth 2.1 and OpenID Connect for programs: where everything is, tokens, and what they tell.

These routes speak as the standards say, not as the rest of the house: forms come in, and a refusal is `{"error": …}`.
"""

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler

from msingi.kit import audit, limits, state
from msingi.kit.auth import Actor
from msingi.kit.errors import QuotaExceeded
from msingi.kit.http import Given, get, post
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import authorizations, clients, devices, program_tokens
from msingi.products.accounts.models.clients import Client
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.rules.openid import InvalidRequest, OAuthError
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.openid import DeviceReply, PersonClaims, TokenReply

AnyRequest = Request[Any, Any, Any]
Given_ = Mapping[str, str]
NOT_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}
MOST_FIELDS = 30
REFUSALS = "60/minute"  # programs that did not prove themselves, from one address
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
BASIC = 'Basic realm="msingi", charset="UTF-8"'


# ---- where everything is


@get("/.well-known/openid-configuration", public=True, include_in_schema=False)
async def show_openid_configuration() -> Response[dict[str, Any]]:
    """Where everything is, and what is spoken (OpenID Connect Discovery)."""
    return _discovery()


@get("/.well-known/oauth-authorization-server", public=True, include_in_schema=False)
async def show_authorization_server() -> Response[dict[str, Any]]:
    """The same where RFC 8414 looks for it."""
    return _discovery()


def _discovery() -> Response[dict[str, Any]]:
    base = state.settings().base_url
    ways = ["client_secret_basic", "client_secret_post"]
    said = {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "userinfo_endpoint": f"{base}/oauth/userinfo",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "introspection_endpoint": f"{base}/oauth/introspect",
        "device_authorization_endpoint": f"{base}/oauth/device",
        "end_session_endpoint": f"{base}/oauth/logout",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials", DEVICE_CODE],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "token_endpoint_auth_methods_supported": [*ways, "none"],
        "revocation_endpoint_auth_methods_supported": [*ways, "none"],
        "introspection_endpoint_auth_methods_supported": ways,
        "scopes_supported": [*rules.openid.IDENTITY, *_product_scopes()],
        "claims_supported": [
            *("iss", "sub", "aud", "iat", "exp", "auth_time", "amr", "sid", "nonce", "at_hash"),
            *("name", "updated_at", "email", "email_verified"),
        ],
        "prompt_values_supported": ["none", "login", "consent"],
        "ui_locales_supported": ["en", "sw"],
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
    }
    return Response(said, headers={"Cache-Control": "public, max-age=300"})


def _product_scopes() -> list[str]:
    return [f"{each.name}:{way}" for each in state.current().products for way in ("read", "write")]


# ---- reading and refusing as RFC 6749 says


def tell_error(request: AnyRequest, error: OAuthError) -> Response[dict[str, str]]:
    """A refusal in the standards' words."""
    said = {"error": error.code, "error_description": str(error)}
    headers = {**NOT_KEPT, **({"WWW-Authenticate": BASIC} if error.status == 401 else {})}
    return Response(said, status_code=error.status, headers=headers)


async def form_of(request: AnyRequest) -> dict[str, str]:
    """The fields of a form. Raises InvalidRequest."""
    if request.content_type[0] != "application/x-www-form-urlencoded":
        raise InvalidRequest(reason="its body is to be application/x-www-form-urlencoded")
    try:
        body = (await request.body()).decode("ascii")
        pairs = parse_qsl(body, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:  # UnicodeDecodeError is one too
        raise InvalidRequest(reason="its body cannot be read") from None
    return rules.openid.once(pairs)


async def client_of(request: AnyRequest, form: Given_) -> Client:
    """The program that asks, proven by client_secret_basic or _post. Raises InvalidClient, InvalidRequest."""
    client_id, secret = _credentials(request.headers.get("authorization", ""), form)
    try:
        client = await clients.prove(client_id, secret)
    except rules.openid.InvalidClient:
        await _count(f"nobody:{limits.client_of(request.scope)}", REFUSALS)
        await audit.note("accounts.client_refused", actor=None, outcome="refused", client=client_id[:64])
        raise
    # A program speaks for many people, so it is counted by itself; without a secret anybody could use up its share.
    if client.kind == "confidential":
        await _count(client.id, state.settings().member_limit)
    else:
        await _count(f"{client.id}:{limits.client_of(request.scope)}", state.settings().anonymous_limit)
    return client


def _credentials(header: str, form: Given_) -> tuple[str, str | None]:
    if not header:
        return form.get("client_id", ""), form.get("client_secret")
    if "client_secret" in form:
        raise InvalidRequest(reason="the program proves itself in two ways at once")
    client_id, secret = _basic(header)
    if form.get("client_id", client_id) != client_id:
        raise InvalidRequest(reason="client_id and the Authorization header name different programs")
    return client_id, secret


async def _count(who: str, most: str) -> None:
    """Raise QuotaExceeded when a program comes too often."""
    quota = limits.parse(most)
    taken = await limits.take(f"oauth:{who}", quota)
    if not taken.allowed:
        wait = taken.retry_after
        headers = {"Retry-After": str(wait)}
        raise QuotaExceeded(quota=quota.quota, window=quota.window, retry_after=wait, headers=headers)


def _basic(header: str) -> tuple[str, str]:
    """Both parts are form-encoded before they are put together (RFC 6749, 2.3.1)."""
    scheme, _, encoded = header.partition(" ")
    try:
        said = b64decode(encoded, validate=True).decode() if scheme.lower() == "basic" else ""
    except (NotBase64, ValueError):
        said = ""
    client_id, colon, secret = said.partition(":")
    if not colon:
        raise rules.openid.InvalidClient
    return unquote_plus(client_id), unquote_plus(secret)


def _needed(form: Given_, name: str) -> str:
    if name not in form:
        raise InvalidRequest(reason=f"{name} is missing")
    return form[name]


def _endpoint(path: str) -> Callable[[Callable[..., Any]], HTTPRouteHandler]:
    """A route that a program comes to with its own credentials."""
    return post(
        path,
        public=True,
        identify=False,
        idempotency="off",
        limit="off",  # client_of counts
        status_code=200,
        include_in_schema=False,
        exception_handlers={OAuthError: tell_error},
    )


def _told(reply: Any) -> Response[bytes]:
    return Response(msgspec.json.encode(reply), media_type="application/json", headers=NOT_KEPT)


# ---- tokens


@_endpoint("/oauth/token")
async def give_tokens(request: AnyRequest) -> Response[bytes]:
    """Tokens for a code, a refresh token, a device's code, or a program's own credentials."""
    form = await form_of(request)
    client = await client_of(request, form)
    give = GRANTS.get(_needed(form, "grant_type"))
    if give is None:
        raise rules.openid.UnsupportedGrantType
    return _told(await give(client, form, visitor_of(request)))


async def _for_code(client: Client, form: Given_, visitor: Visitor) -> TokenReply:
    code, back = _needed(form, "code"), _needed(form, "redirect_uri")
    return await authorizations.redeem_code(client, code, back, _needed(form, "code_verifier"), visitor)


async def _for_refresh_token(client: Client, form: Given_, visitor: Visitor) -> TokenReply:
    return await authorizations.refresh(client, _needed(form, "refresh_token"), form.get("scope"))


async def _for_itself(client: Client, form: Given_, visitor: Visitor) -> TokenReply:
    return await authorizations.own_token(client, form.get("scope"))


async def _for_device(client: Client, form: Given_, visitor: Visitor) -> TokenReply:
    return await devices.collect(client, _needed(form, "device_code"), visitor)


GRANTS: Mapping[str, Callable[[Client, Given_, Visitor], Awaitable[TokenReply]]] = {
    "authorization_code": _for_code,
    "refresh_token": _for_refresh_token,
    "client_credentials": _for_itself,
    DEVICE_CODE: _for_device,
}


@_endpoint("/oauth/device")
async def begin_device(request: AnyRequest) -> Response[bytes]:
    """Codes for a device: one that it shows, one that it asks with (RFC 8628)."""
    form = await form_of(request)
    begun = await devices.begin(await client_of(request, form), form.get("scope", ""))
    shown, place = rules.openid.shown_code(begun.typed), f"{state.settings().base_url}/device"
    reply = DeviceReply(
        device_code=begun.secret,
        user_code=shown,
        verification_uri=place,
        verification_uri_complete=f"{place}?user_code={shown}",
        expires_in=rules.openid.DEVICE_LIVES,
        interval=begun.grant.interval,
    )
    return _told(reply)


@_endpoint("/oauth/revoke")
async def revoke_token(request: AnyRequest) -> Response[bytes]:
    """Give a token back: its session ends. What is no token of this program gets the same answer (RFC 7009)."""
    form = await form_of(request)
    client = await client_of(request, form)
    await program_tokens.give_back(client, _needed(form, "token"))
    return _told({})


@_endpoint("/oauth/introspect")
async def look_at_token(request: AnyRequest) -> Response[bytes]:
    """Whether a token is good, and for what (RFC 7662)."""
    form = await form_of(request)
    client = await client_of(request, form)
    return _told(await program_tokens.state_of(client, _needed(form, "token")))


# ---- who it is


@get("/oauth/userinfo", scope="openid", include_in_schema=False)
async def show_person(actor: Given[Actor]) -> Response[bytes]:
    """What the token's scopes allow to know of the person."""
    return await _person(actor)


@post("/oauth/userinfo", scope="openid", idempotency="off", status_code=200, include_in_schema=False)
async def show_person_to_post(actor: Given[Actor]) -> Response[bytes]:
    """The same for who asks by POST."""
    return await _person(actor)


async def _person(actor: Actor) -> Response[bytes]:
    account = await queries.people.me(actor)
    return _told(PersonClaims(**authorizations.claims_of(account, actor.scopes)))


root_routes = [
    show_openid_configuration,
    show_authorization_server,
    give_tokens,
    begin_device,
    revoke_token,
    look_at_token,
    show_person,
    show_person_to_post,
]
