"""Signing in with another provider: led there and back once, in one browser; and what an identity opens here."""

import secrets
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest, digest

import structlog
from msgspec import Struct

from msingi.kit import audit, revocations
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import AlreadyExists, Stale
from msingi.kit.events import emit
from msingi.kit.ids import first_id_at
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts import hashing, queries, rules
from msingi.products.accounts.actions import letters, sessions, tickets
from msingi.products.accounts.actions.sessions import Opened
from msingi.products.accounts.contract import PasswordChanged, UserRegistered
from msingi.products.accounts.models.api_keys import api_keys
from msingi.products.accounts.models.clients import consents, device_grants
from msingi.products.accounts.models.codes import codes
from msingi.products.accounts.models.defence import known_devices
from msingi.products.accounts.models.factors import factors, passkeys
from msingi.products.accounts.models.identities import Identity, identities
from msingi.products.accounts.models.people import Account, accounts, email_key, with_phone, words_to_find
from msingi.products.accounts.models.tickets import Ticket
from msingi.products.accounts.models.tickets import tickets as kept_tickets
from msingi.products.accounts.passwords import check_password
from msingi.products.accounts.providers import dialogue
from msingi.products.accounts.providers.configured import Provider
from msingi.products.accounts.providers.dialogue import Answer, provider_named
from msingi.products.accounts.rules.factors import SecondFactorNeeded
from msingi.products.accounts.rules.identities import Told
from msingi.products.accounts.rules.visitors import Visitor

PURPOSE = "provider"
LIFETIME = timedelta(minutes=10)
LEEWAY = timedelta(minutes=1)  # that clocks may differ
BROWSER_BYTES = 32
TRIES = 3  # when others are at the same account or identity at the same moment
log = structlog.get_logger("accounts")


class Begun(Struct, frozen=True):
    """Where the browser goes, and the secret that it keeps meanwhile."""

    url: str
    browser: str


class Finished(Struct, frozen=True):
    """A new session, or what it still needs, or neither after connecting an identity; and the page to go back to."""

    back: str
    opened: Opened | None = None
    needed: SecondFactorNeeded | None = None


# ---- there


async def begin(
    name: str, back: str, browser: str | None, joining: Actor | None, language: str, *, fresh: bool = False
) -> Begun:
    """Send a browser to a provider. Raises UnknownProvider, ProviderUnreachable.

    `browser` is the secret that it keeps already, if it is on its way in another tab; `joining` is who wants to connect
    an identity to their account instead of signing in. If it shall be `fresh`, the provider is to ask who it is.
    """
    provider = provider_named(name)
    kept = browser if browser is not None and _is_browser(browser) else secrets.token_urlsafe(BROWSER_BYTES)
    issued = await _issue(provider, back, kept, joining, language, fresh)
    nonce, verifier = _derived(kept, issued.secret, "nonce"), _derived(kept, issued.secret, "verifier")
    url = await dialogue.authorize_url(provider, state=issued.secret, nonce=nonce, verifier=verifier, fresh=fresh)
    return Begun(url, kept)


@guarded
async def _issue(
    provider: Provider, back: str, browser: str, joining: Actor | None, language: str, fresh: bool
) -> tickets.Issued:
    return await tickets.issue(
        PURPOSE,
        LIFETIME,
        account=joining.id if joining else "",
        session=joining.session if joining else "",
        provider=provider.name,
        back=back,
        browser=_mark(browser),
        language=language,
        fresh=fresh,
    )


def _is_browser(value: str) -> bool:
    return len(value) == 43 and value.isascii() and value.replace("-", "").replace("_", "").isalnum()


def _mark(browser: str) -> str:
    return sha256(browser.encode()).hexdigest()


def _derived(browser: str, state: str, what: str) -> str:
    """Nonce and PKCE verifier follow from what only the browser knows: no other can send a code, stolen or not."""
    made = digest(browser.encode(), f"{what}|{state}".encode(), sha256)
    return urlsafe_b64encode(made).rstrip(b"=").decode()


# ---- and back


async def finish(name: str, answer: Answer, browser: str | None, actor: Actor | None, visitor: Visitor) -> Finished:
    """Let in, or connect, whoever comes back from a provider.

    Raises UnknownProvider, WrongState, RefusedThere, ProviderUnreachable, ProviderAnswerRefused; EmailNeeded,
    EmailInUse, EmailUnverified, AccountDisabled; and to who connects IdentityTaken.
    """
    provider = provider_named(name)
    ticket = await _redeemed(provider, answer.state, browser, actor)
    kept = browser or ""
    nonce, verifier = _derived(kept, answer.state, "nonce"), _derived(kept, answer.state, "verifier")
    told = await dialogue.told(provider, answer, nonce=nonce, verifier=verifier)
    back: str = ticket.facts["back"]
    if ticket.account:
        await connect(ticket.account, told)
        return Finished(back)
    account = await account_of(told, ticket.facts["language"])
    try:
        return Finished(back, await sessions.let_in(account, "cookie", visitor, _methods(ticket, told)))
    except SecondFactorNeeded as needed:
        return Finished(back, needed=needed)


def _methods(ticket: Ticket, told: Told) -> list[str]:
    """How who comes back proved who they are. Only a provider that was asked to, and says when, asked them just now."""
    asked_at = int((ticket.created_at - LEEWAY).timestamp())
    return ["fed", "user"] if ticket.facts["fresh"] and told.signed_in_at >= asked_at else ["fed"]


async def _redeemed(provider: Provider, state: str, browser: str | None, actor: Actor | None) -> Ticket:
    """The ticket of a way that this very browser began. One that another shows stays good for its own."""
    try:
        ticket = await tickets.look_at(PURPOSE, state)
        same = browser is not None and compare_digest(ticket.facts["browser"], _mark(browser))
        if not same or ticket.facts["provider"] != provider.name or not _is_whose(ticket, actor):
            raise rules.tickets.BadTicket
        return await tickets.redeem(PURPOSE, state)
    except rules.tickets.BadTicket:
        log.info("provider_state_refused", provider=provider.name)
        raise rules.identities.WrongState from None


def _is_whose(ticket: Ticket, actor: Actor | None) -> bool:
    """Who began to connect an identity ends it too, in the same session."""
    if not ticket.account:
        return True
    return (
        actor is not None and actor.in_person and (actor.id, actor.session) == (ticket.account, ticket.facts["session"])
    )


# ---- whose an identity is


async def account_of(told: Told, language: str = "en") -> Account:
    """The account that this identity opens; made or linked where nobody has the identity yet.

    Raises EmailNeeded, EmailInUse, AccountDisabled.
    """
    for left in reversed(range(TRIES)):
        try:
            return await _account_of(told, language)
        except (AlreadyExists, Stale):  # somebody was faster: look again at how things stand
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


async def _account_of(told: Told, language: str) -> Account:
    known = await queries.identities.identity_of(told.issuer, told.subject)
    if known is not None:
        account = await accounts.find({"_id": known.account})
        if account is not None:
            await _note_use(known, told)
            return account
        await _forget(known)
    local = await queries.people.account_by_email(told.email) if told.email else None
    way = rules.identities.way_in(local, told)
    if local is None:
        return await _make(told, language)
    if local.disabled:
        raise rules.people.AccountDisabled
    return await (_link if way == "link" else _claim)(local, told)


@guarded
async def _note_use(identity: Identity, told: Told) -> None:
    await identities.change(identity.id, {"$set": {"email": told.email, "last_used_at": now()}})


@guarded
async def _forget(identity: Identity) -> None:
    """An identity whose account is gone is nobody's."""
    await identities.remove(identity)


@atomic
async def _make(told: Told, language: str) -> Account:
    account = Account(
        email=told.email,
        email_verified=told.email_verified,
        language=language,
        name=told.name,
        password="",
        words=words_to_find(told.name, told.email),
    )
    await accounts.add(account)
    await _add(account.id, told)
    await emit(UserRegistered(user_id=account.id))
    await audit.note("accounts.registered", actor=account.id, about=account.id, provider=told.provider)
    return account


@atomic
async def _link(local: Account, told: Told) -> Account:
    """Both sides proved the address. The account is touched, so that whoever decides on it meanwhile decides again."""
    meant = {"email_key": email_key(told.email), "email_verified": True, "disabled": False, "epoch": local.epoch}
    account = await accounts.change(local.id, {}, meant)
    await _add(account.id, told)
    await _tell(account, told)
    return account


@atomic
async def _claim(local: Account, told: Told) -> Account:
    """Give an account to who proved its address, and take it from whoever made it without: with all ways in."""
    account = await accounts.change(
        local.id,
        {"$set": {"password": "", "email_verified": True}, "$inc": {"token_version": 1, "epoch": 1}},
        {"email_key": email_key(told.email), "email_verified": False, "disabled": False, "epoch": local.epoch},
    )
    await drop_ways_in(account.id)
    await _add(account.id, told)
    await revocations.revoke(actor=account.id, below=account.token_version)
    await audit.note("accounts.claimed", actor=account.id, about=account.id, provider=told.provider)
    return account


async def drop_ways_in(account_id: str, since: datetime | None = None) -> None:
    """Remove whatever else opens an account, in the @atomic unit under way: it turned out to be another's.

    With `since` older identities, keys and second factors stay, and tickets, which their own rules make void.
    """
    mine = {"account": account_id}
    made = {**mine, "_id": {"$gt": first_id_at(since)}} if since else mine
    await identities.remove_many(made)
    await passkeys.remove_many(made)
    await factors.remove_many({"_id": account_id, **({"totp_at": {"$gt": since}} if since else {})})
    await api_keys.change_many({**made, "revoked_at": None}, {"$set": {"revoked_at": now()}})
    for store in (codes, consents, device_grants, known_devices):
        await store.remove_many({"whose": account_id} if store is codes else mine)
    if since is None:
        await kept_tickets.remove_many(mine)
    await accounts.change(account_id, {"$set": with_phone(None)})


async def _add(account_id: str, told: Told) -> Identity:
    identity = Identity(
        account=account_id, provider=told.provider, issuer=told.issuer, subject=told.subject, email=told.email
    )
    await identities.add(identity)
    await audit.note("accounts.connected", actor=account_id, about=account_id, provider=told.provider)
    return identity


async def _tell(account: Account, told: Told) -> None:
    """Write to the account's address that there is one more way in."""
    await letters.write("connected", account, provider=told.title)


# ---- one's own connections


async def connect(account_id: str, told: Told) -> Identity:
    """Let an identity open this account too: who asks is signed in and proved both. Raises IdentityTaken."""
    known = await queries.identities.identity_of(told.issuer, told.subject)
    if known is None:
        try:
            return await _connect(account_id, told)
        except AlreadyExists:
            known = await queries.identities.identity_of(told.issuer, told.subject)
    if known is None or known.account != account_id:
        raise rules.identities.IdentityTaken(provider=told.title)
    await _note_use(known, told)
    return known


@atomic
async def _connect(account_id: str, told: Told) -> Identity:
    await _tell(await accounts.change(account_id, {}, {"disabled": False}), told)
    return await _add(account_id, told)


@atomic
async def disconnect(actor: Actor, connection_id: str) -> None:
    """Remove a connection. Raises NotFound, LastWayIn.

    The account is touched first: of two who remove the last two ways in at the same moment one comes second.
    """
    account = await accounts.change(actor.id, {})
    identity = await queries.identities.my_connection(connection_id, actor)
    await identities.remove(identity)
    await check_way_in(account)
    await audit.note("accounts.disconnected", actor=actor, about=actor.id, provider=identity.provider)


async def check_way_in(account: Account) -> None:
    """Raise LastWayIn if the unit under way, which has touched the account, has taken all of them."""
    mine = {"account": account.id}
    if not (account.password or await identities.exists(mine) or await passkeys.exists(mine)):
        raise rules.identities.LastWayIn


async def set_first_password(actor: Actor, password: str) -> Account:
    """Give an account a password that has none. Raises HasPassword, WeakPassword, Busy."""
    account = await accounts.get(actor.id)
    if account.password:
        raise rules.identities.HasPassword
    check_password(password, email=account.email, name=account.name, pointer="/new_password")
    return await _set_first_password(actor, await hashing.hashed(password))


@atomic
async def _set_first_password(actor: Actor, password: str) -> Account:
    update = {"$set": {"password": password}}
    account = await accounts.change(actor.id, update, {"password": ""}, rules.identities.HasPassword)
    await emit(PasswordChanged(user_id=actor.id))
    await audit.note("accounts.password_set", actor=actor, about=actor.id)
    return account
