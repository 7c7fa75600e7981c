"""Leading a browser to a provider, and asking the provider who came back (RFC 6749 with PKCE, RFC 7636)."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import msgspec
import structlog
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from msgspec import Struct

from msingi.kit import fetch, state
from msingi.products.accounts import rules
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.providers import facebook, github, openid
from msingi.products.accounts.providers.answers import Refused, Tokens
from msingi.products.accounts.providers.configured import Provider
from msingi.products.accounts.rules.identities import Told

PATIENCE = 5.0  # seconds for all that is asked of a provider within one request
KINDS = {"openid": openid, "github": github, "facebook": facebook}
log = structlog.get_logger("accounts")


class Answer(Struct, frozen=True):
    """What a browser brings back from a provider."""

    state: str = ""
    code: str = ""
    error: str = ""
    iss: str = ""


def provider_named(name: str) -> Provider:
    """The provider of this name. Raises UnknownProvider."""
    for each in state.part(AccountsSettings).providers:
        if each.name == name:
            return each
    raise rules.identities.UnknownProvider


def redirect_uri(provider: Provider) -> str:
    """Where the provider sends people back to: the one address that is registered there."""
    return f"{state.settings().base_url}/sign-in/with/{provider.name}/callback"


async def authorize_url(provider: Provider, *, state: str, nonce: str, verifier: str, fresh: bool) -> str:
    """Where a browser begins; if it shall be `fresh`, the provider is to ask who it is. Raises ProviderUnreachable."""
    async with _in_time(provider):
        endpoints = await KINDS[provider.kind].endpoints(provider)
        asks = {"prompt": "login", "max_age": "0"} if fresh and provider.kind == "openid" else {}
        url: str = prepare_grant_uri(
            endpoints.authorize,
            provider.client,
            "code",
            redirect_uri=redirect_uri(provider),
            scope=endpoints.scope,
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            **asks,
        )
        return url


async def told(provider: Provider, answer: Answer, *, nonce: str, verifier: str) -> Told:
    """Who came back. Raises RefusedThere, ProviderUnreachable, ProviderAnswerRefused."""
    async with _in_time(provider):
        kind = KINDS[provider.kind]
        endpoints = await kind.endpoints(provider)
        # RFC 9207: who answers must be whom the browser was sent to, and who promised to say so must.
        if (answer.iss or endpoints.names_itself) and answer.iss not in endpoints.issuers:
            raise Refused("iss")
        if answer.error or not answer.code:
            raise rules.identities.refusal(provider.title, answer.error)
        tokens = await _tokens(provider, endpoints.token, endpoints.methods, answer.code, verifier)
        said: Told = await kind.told(provider, tokens, nonce)
        return said


async def _tokens(provider: Provider, url: str, methods: list[str], code: str, verifier: str) -> Tokens:
    """Swap the code for tokens. Raises RefusedThere for a code that was used, or is not for us."""
    body: str = prepare_token_request(
        "authorization_code", redirect_uri=redirect_uri(provider), code=code, code_verifier=verifier
    )
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    if provider.secret and "client_secret_basic" in methods:
        headers["authorization"] = _basic(provider)
    else:
        secret = f"&client_secret={quote(provider.secret, safe='')}" if provider.secret else ""
        body += f"&client_id={quote(provider.client, safe='')}{secret}"
    reply = await fetch.post(url, content=body.encode(), headers=headers, tries=1)
    if reply.status >= 500 or reply.status == 429:
        raise fetch.Unreachable(host=provider.name, reason=str(reply.status))
    tokens = reply.json(Tokens)
    if not reply.ok or tokens.error or not tokens.access_token:  # GitHub says 200 and an error
        log.info("provider_refused_code", provider=provider.name, status=reply.status)
        raise rules.identities.refusal(provider.title, tokens.error or "invalid_grant")
    return tokens


def _basic(provider: Provider) -> str:
    pair = f"{quote(provider.client, safe='')}:{quote(provider.secret, safe='')}"
    return f"Basic {b64encode(pair.encode()).decode()}"


@asynccontextmanager
async def _in_time(provider: Provider) -> AsyncIterator[None]:
    """What goes wrong over there is told as that, and nothing over there keeps a request longer than PATIENCE."""
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except (fetch.Unreachable, fetch.ReplyTooLarge, TimeoutError) as fault:
        log.warning("provider_unreachable", provider=provider.name, reason=str(fault)[:200])
        raise rules.identities.ProviderUnreachable(provider=provider.title) from None
    except (Refused, msgspec.MsgspecError, UnicodeDecodeError) as fault:
        log.warning("provider_answer_refused", provider=provider.name, reason=_reason(fault))
        raise rules.identities.ProviderAnswerRefused(provider=provider.title) from None


def _reason(fault: Exception) -> str:
    """What was wrong, without a value of it: msgspec names types and places only."""
    return str(fault) if isinstance(fault, Refused) else f"{type(fault).__name__}: {fault}"[:200]
