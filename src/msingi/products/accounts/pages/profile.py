"""One's own name, language, address and phone number."""

from typing import Any

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, Struct, UnsetType

from msingi.kit import pages, state
from msingi.kit.actors import Actor
from msingi.kit.errors import Problem
from msingi.kit.http import Given, form_at, page_at
from msingi.products.accounts import queries
from msingi.products.accounts.actions import arrivals, emails, people, phones
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.people import Email, Language, Name, ProfilePatch
from msingi.products.accounts.schemas.phones import Digits, Phone

YEAR = 365 * 24 * 3600
REMOVE_PHONE = Question(
    "Remove your phone number",
    "You cannot sign in with a code to it any more.",
    "Remove",
)


class Profile(Struct):
    """The form."""

    name: Name | UnsetType = UNSET
    language: Language | UnsetType = UNSET


class Address(Struct):
    """Another address."""

    email: Email


class Number(Struct):
    """A phone number."""

    phone: Phone


class Code(Struct):
    """What the message to it said."""

    code: Digits


@page_at("/account")
async def show_profile(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """Who one is here."""
    return await _profile(request, actor)


@form_at("/account")
async def save_profile(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Change it. The pages speak the language from then on, too."""
    try:
        form = await pages.form_of(request, Profile)
        patch = ProfilePatch(name=form.name, language=form.language)
        account = await people.rename(await queries.people.me(actor), patch, None)
    except Problem as problem:
        return await _profile(request, actor, pages.to_show(problem))
    reply = pages.gone_well("/account")
    if form.language is not UNSET:
        secure = state.settings().base_url.startswith("https://")
        reply.set_cookie("lang", account.language, max_age=YEAR, httponly=True, samesite="lax", secure=secure)
    return reply


async def _profile(request: AnyRequest, actor: Actor, problem: Problem | None = None) -> Response[str]:
    return show("profile", request, problem, account=await queries.people.me(actor))


# ---- the address


@form_at("/account/email/verification", in_person=True)
async def send_letter_again(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Another letter to confirm the address."""
    await pages.form_of(request, Nothing)
    account = await queries.people.me(actor)
    try:
        await arrivals.ask_to_verify(account.email, visitor_of(request))
    except Problem as problem:
        return await _profile(request, actor, pages.to_show(problem))
    return pages.gone_well("/account", "letter_sent")


@page_at("/account/email", step_up=True)
async def show_new_email(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """Ask for another address."""
    return await _email(request, actor)


@form_at("/account/email", step_up=True, limit="20/minute")
async def ask_for_email(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """A letter goes there."""
    try:
        form = await pages.form_of(request, Address)
        await emails.ask(actor, form.email)
    except Problem as problem:
        return await _email(request, actor, pages.to_show(problem))
    return pages.gone_well("/account", "email_asked")


async def _email(request: AnyRequest, actor: Actor, problem: Problem | None = None) -> Response[str]:
    return show("email", request, problem, account=await queries.people.me(actor))


# ---- the phone


@page_at("/account/phone", step_up=True)
async def show_phone(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """Ask for a number."""
    return await _phone(request, actor)


@form_at("/account/phone", step_up=True, limit="20/minute")
async def ask_for_number(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """A message with a code goes there."""
    try:
        form = await pages.form_of(request, Number)
        await phones.ask(actor, form.phone, visitor_of(request))
    except Problem as problem:
        return await _phone(request, actor, pages.to_show(problem))
    return pages.gone_well("/account/phone/code", "phone_asked")


async def _phone(request: AnyRequest, actor: Actor, problem: Problem | None = None) -> Response[str]:
    return show("phone", request, problem, account=await queries.people.me(actor))


@page_at("/account/phone/code", in_person=True)
async def show_phone_code(request: AnyRequest) -> Response[str]:
    """Where that code is typed."""
    return show("phone_code", request)


@form_at("/account/phone/code", in_person=True, limit="20/minute")
async def confirm_phone(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """The number is one's own."""
    try:
        form = await pages.form_of(request, Code)
        await phones.verify(actor, form.code)
    except Problem as problem:
        return show("phone_code", request, pages.to_show(problem))
    return pages.gone_well("/account", "phone")


@page_at("/account/phone/removal", step_up=True)
async def show_phone_removal(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """Ask before the number goes."""
    account = await queries.people.me(actor)
    return ask(REMOVE_PHONE, request, "/account", about=account.phone or "")


@form_at("/account/phone/removal", step_up=True)
async def remove_phone(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """It is gone."""
    await pages.form_of(request, Nothing)
    await phones.remove(actor)
    return pages.gone_well("/account", "phone_removed")


routes: list[ControllerRouterHandler] = [
    show_profile,
    save_profile,
    send_letter_again,
    show_new_email,
    ask_for_email,
    show_phone,
    ask_for_number,
    show_phone_code,
    confirm_phone,
    show_phone_removal,
    remove_phone,
]
