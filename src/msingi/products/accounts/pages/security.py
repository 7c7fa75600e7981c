"""What one signs in with: a password, an authenticator app, recovery codes, passkeys."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Response
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.clock import now
from msingi.kit.errors import InvalidFields, Problem
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import factors, identities, people, sessions
from msingi.products.accounts.models.factors import Factors
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show
from msingi.products.accounts.routes.factors import seed_to_show
from msingi.products.accounts.routes.sessions import NOT_KEPT, cookies_of
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.factors import Code, Label, NewPasskey, PasskeyPatch, TicketText
from msingi.products.accounts.schemas.people import GivenPassword, NewPassword, PasswordChange

HERE = "/account/security"
REMOVE_APP = Question(
    "Remove the authenticator app",
    "Its codes are good for nothing from then on. Without another second factor your password alone lets you in.",
    "Remove",
)
RENEW_CODES = Question(
    "New recovery codes",
    "You get ten new ones. Those from before are good for nothing from then on.",
    "Make new codes",
)
REMOVE_PASSKEY = Question(
    "Remove this passkey",
    "It lets nobody in any more. Your device may go on showing it until you remove it there as well.",
    "Remove",
)


class NewPasswords(Struct):
    """The password that one has, and the one to be."""

    current_password: GivenPassword
    new_password: NewPassword


class FirstPassword(Struct):
    """A password where there is none."""

    new_password: NewPassword


class AppCode(Struct):
    """What the app shows."""

    code: Code


class Made(Struct):
    """What the browser made: `credential` is JSON."""

    ticket: TicketText
    credential: str
    name: str = ""


class Named(Struct):
    """Another name."""

    name: Label


@page_at("/account/security", in_person=True)
async def show_security(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """What there is, and when it was used."""
    return await _security(request, actor)


async def _security(request: AnyRequest, actor: Actor, problem: Problem | None = None) -> Response[str]:
    kept = await queries.factors.my_factors(actor)
    return show(
        "security",
        request,
        problem,
        account=await queries.people.me(actor),
        kept=kept,
        app_used_at=_used_at(kept),
        passkeys=await queries.factors.my_passkeys(actor),
        session=await queries.sessions.session_of(actor),
    )


def _used_at(kept: Factors) -> datetime | None:
    """When a code of the app was used last: the step that it was for says so to half a minute."""
    return datetime.fromtimestamp(kept.totp_step * rules.factors.STEP, UTC) if kept.totp else None


# ---- the password


@form_at("/account/security", in_person=True, limit="20/minute")
async def change_password_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Another password: all sessions end, and this browser gets a new one."""
    try:
        form = await pages.form_of(request, NewPasswords)
        change = PasswordChange(current_password=form.current_password, new_password=form.new_password)
        account = await people.change_password(actor, change)
    except Problem as problem:
        return await _security(request, actor, pages.to_show(problem))
    methods = sorted({*actor.methods, "pwd"})
    proof = rules.sessions.proof_by_password(methods, actor.signed_in_at)
    opened = await sessions.open_session(account, "cookie", visitor_of(request), methods, **proof)
    reply = pages.gone_well(HERE, "password")
    return Redirect(reply.url, status_code=303, cookies=cookies_of(opened))


@page_at("/account/security/password", step_up=True)
async def show_first_password(request: AnyRequest) -> Response[str]:
    """For who signs in with a provider alone."""
    return show("first_password", request)


@form_at("/account/security/password", step_up=True, limit="20/minute")
async def set_first_password_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """A password beside that."""
    try:
        form = await pages.form_of(request, FirstPassword)
        await identities.set_first_password(actor, form.new_password)
    except Problem as problem:
        return show("first_password", request, pages.to_show(problem))
    return pages.gone_well(HERE, "password_set")


# ---- an authenticator app


@page_at("/account/security/app", step_up=True)
async def show_app(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """The seed that waits for its first code, to scan or to type; without one, the button that makes it."""
    return await _app(request, actor)


@form_at("/account/security/app", step_up=True, limit="60/minute")
async def begin_app(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """A new seed."""
    await pages.form_of(request, Nothing)
    await factors.begin_totp(actor)
    return Redirect("/account/security/app", status_code=303)


@form_at("/account/security/app/code", step_up=True, back="/account/security/app", limit="60/minute")
async def confirm_app(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Its first code: from now on it counts. With the first second factor come recovery codes, shown this once."""
    try:
        form = await pages.form_of(request, AppCode)
        added = await factors.confirm_totp(actor, form.code)
    except Problem as problem:
        return await _app(request, actor, pages.to_show(problem))
    return _codes(request, added.codes) if added.codes else pages.gone_well(HERE)


async def _app(request: AnyRequest, actor: Actor, problem: Problem | None = None) -> Response[str]:
    kept, account = await queries.factors.my_factors(actor), await queries.people.me(actor)
    waits = rules.factors.still_waits(kept, now()) and kept.totp_new
    seed = seed_to_show(account, waits) if waits else None
    return show("app", request, problem, seed=seed, replaces=kept.totp is not None)


@page_at("/account/security/app/removal", step_up=True)
async def show_app_removal(request: AnyRequest) -> Response[str]:
    """Ask before the app goes."""
    return ask(REMOVE_APP, request, HERE)


@form_at("/account/security/app/removal", step_up=True)
async def remove_app(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """It is gone."""
    await pages.form_of(request, Nothing)
    await factors.remove_totp(actor)
    return pages.gone_well(HERE, "app_removed")


# ---- recovery codes


@page_at("/account/security/codes", step_up=True)
async def show_renewal(request: AnyRequest) -> Response[str]:
    """Ask before those that one has become void."""
    return ask(RENEW_CODES, request, HERE)


@form_at("/account/security/codes", step_up=True, limit="60/minute")
async def renew_codes_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """New ones, shown this once."""
    await pages.form_of(request, Nothing)
    try:
        return _codes(request, await factors.renew_codes(actor))
    except Problem as problem:
        return ask(RENEW_CODES, request, HERE, problem=pages.to_show(problem))


def _codes(request: AnyRequest, codes: list[str]) -> Response[str]:
    reply = show("codes", request, codes=codes)
    reply.headers.update(NOT_KEPT)
    return reply


# ---- passkeys


@page_at("/account/security/passkeys", step_up=True)
async def show_new_passkey(request: AnyRequest) -> Response[str]:
    """Where the browser is asked for one."""
    return show("new_passkey", request)


@form_at("/account/security/passkeys", step_up=True, limit="60/minute")
async def add_passkey_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Keep what it made."""
    try:
        form = await pages.form_of(request, Made)
        added = await factors.add_passkey(actor, _passkey_of(form))
    except Problem as problem:
        return show("new_passkey", request, pages.to_show(problem))
    return _codes(request, added.codes) if added.codes else pages.gone_well(HERE, "passkey_added")


def _passkey_of(form: Made) -> NewPasskey:
    """Raises InvalidFields for what no browser makes."""
    try:
        credential = msgspec.json.decode(form.credential)
        given = {"ticket": form.ticket, "credential": credential, "name": form.name.strip() or None}
        return msgspec.convert(given, NewPasskey)
    except (msgspec.DecodeError, msgspec.ValidationError) as fault:
        error = {"pointer": "/credential", "in": "body", "message": str(fault)}
        raise InvalidFields(errors=[error]) from None


@form_at("/account/security/passkeys/{passkey_id:str}", in_person=True)
async def rename_passkey_on_page(request: AnyRequest, passkey_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """Call one something else."""
    try:
        form = await pages.form_of(request, Named)
        passkey = await queries.factors.my_passkey(passkey_id, actor)
        await factors.rename_passkey(passkey, PasskeyPatch(name=form.name))
    except Problem as problem:
        return await _security(request, actor, pages.to_show(problem))
    return pages.gone_well(HERE)


@page_at("/account/security/passkeys/{passkey_id:str}/removal", step_up=True)
async def show_passkey_removal(request: AnyRequest, passkey_id: Path[str], actor: Given[Actor]) -> Response[str]:
    """Ask before one goes."""
    passkey = await queries.factors.my_passkey(passkey_id, actor)
    return ask(REMOVE_PASSKEY, request, HERE, about=passkey.name)


@form_at("/account/security/passkeys/{passkey_id:str}/removal", step_up=True)
async def remove_passkey_on_page(request: AnyRequest, passkey_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It is gone."""
    await pages.form_of(request, Nothing)
    passkey = await queries.factors.my_passkey(passkey_id, actor)
    try:
        await factors.remove_passkey(passkey, actor)
    except rules.identities.LastWayIn as problem:
        return ask(REMOVE_PASSKEY, request, HERE, about=passkey.name, problem=pages.to_show(problem))
    return pages.gone_well(HERE, "passkey_removed")


routes: list[ControllerRouterHandler] = [
    show_security,
    change_password_on_page,
    show_first_password,
    set_first_password_on_page,
    show_app,
    begin_app,
    confirm_app,
    show_app_removal,
    remove_app,
    show_renewal,
    renew_codes_on_page,
    show_new_passkey,
    add_passkey_on_page,
    rename_passkey_on_page,
    show_passkey_removal,
    remove_passkey_on_page,
]
