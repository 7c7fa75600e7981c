"""Pages that the links in letters lead to, and the one that asks for such a letter.

Looking at one changes nothing: mail scanners follow links too. What is meant is done by the form's button.
"""

from collections.abc import Awaitable
from typing import Any

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages
from msingi.kit.errors import Problem
from msingi.kit.http import form_at, page_at
from msingi.products.accounts.actions import arrivals, defence, emails, resets, verification
from msingi.products.accounts.pages.shell import AnyRequest
from msingi.products.accounts.routes.sessions import NOT_KEPT
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.people import Email, GivenPassword, NewPassword


class Place(Struct, frozen=True):
    """One such page, in words: before the button, on it, and after it."""

    path: str
    title: str
    lead: str
    button: str
    done: str
    asks: str = ""


class Ticket(Struct):
    """A form with nothing but the ticket."""

    ticket: str


class Proof(Struct):
    """The ticket, and the account's password unless one is signed in to it."""

    ticket: str
    password: GivenPassword = ""


class Password(Struct):
    """The ticket, and a new password."""

    ticket: str
    password: NewPassword


class Address(Struct):
    """Where the letter is to go."""

    email: Email


VERIFY = Place(
    "/verify",
    "Confirm your e-mail address",
    "One click, and the address is confirmed.",
    "Confirm",
    "Your address is confirmed. You can sign in now.",
    asks="proof",
)
FORGOT = Place(
    "/forgot",
    "Set a new password",
    "We send you a letter with a link.",
    "Send the letter",
    "If there is an account with this address, the letter is on its way.",
    asks="email",
)
RESET = Place(
    "/reset",
    "Set a new password",
    "At least 15 characters; a sentence is easier to remember than a riddle. You are signed out everywhere.",
    "Set the password",
    "Your new password is set. Sign in with it.",
    asks="password",
)
EMAIL = Place(
    "/email",
    "Use this e-mail address",
    "From now on you sign in with the address that the letter came to.",
    "Use this address",
    "Your account has its new address.",
    asks="proof",
)
UNDO = Place(
    "/email/undo",
    "Take the old e-mail address back",
    "Your account gets the address again that the letter came to, and everybody is signed out.",
    "Take it back",
    "Your account has its old address again, and nobody is in. Set a new password now: the one before is void.",
)


UNLOCK = Place(
    "/unlock",
    "Sign in again",
    "Too many wrong passwords locked your account's door. One click, and you may try your password again.",
    "Open the door",
    "The door is open. Sign in with your password.",
)


@page_at("/verify", public=True)
async def show_verify(request: AnyRequest) -> Response[str]:
    """Confirm an address."""
    return _show(VERIFY, request)


@form_at("/verify", public=True, limit="60/minute")
async def verify_on_page(request: AnyRequest) -> Response[str]:
    """It is confirmed."""
    form = await pages.form_of(request, Proof)
    return await _done(VERIFY, request, verification.verify(form.ticket, form.password, request.user))


@page_at("/forgot", public=True)
async def show_forgot(request: AnyRequest) -> Response[str]:
    """Ask for a letter to set a new password."""
    return _show(FORGOT, request)


@form_at("/forgot", public=True, limit="60/minute")
async def forget_on_page(request: AnyRequest) -> Response[str]:
    """It is on its way."""
    form = await pages.form_of(request, Address)
    return await _done(FORGOT, request, arrivals.forget_password(form.email, visitor_of(request)))


@page_at("/reset", public=True)
async def show_reset(request: AnyRequest) -> Response[str]:
    """Set a new password."""
    return _show(RESET, request)


@form_at("/reset", public=True, limit="60/minute")
async def reset_on_page(request: AnyRequest) -> Response[str]:
    """It is set."""
    try:
        form = await pages.form_of(request, Password)
    except Problem as problem:
        return _show(RESET, request, pages.to_show(problem))
    return await _done(RESET, request, resets.reset(form.ticket, form.password))


@page_at("/email", public=True)
async def show_email(request: AnyRequest) -> Response[str]:
    """Confirm a new address."""
    return _show(EMAIL, request)


@form_at("/email", public=True, limit="60/minute")
async def change_email_on_page(request: AnyRequest) -> Response[str]:
    """It is the account's."""
    form = await pages.form_of(request, Proof)
    return await _done(EMAIL, request, emails.change(form.ticket, form.password, request.user))


@page_at("/email/undo", public=True)
async def show_undo(request: AnyRequest) -> Response[str]:
    """Take the old address back."""
    return _show(UNDO, request)


@form_at("/email/undo", public=True, limit="60/minute")
async def undo_on_page(request: AnyRequest) -> Response[str]:
    """It is the account's again."""
    form = await pages.form_of(request, Ticket)
    return await _done(UNDO, request, emails.undo(form.ticket))


@page_at("/unlock", public=True)
async def show_unlock(request: AnyRequest) -> Response[str]:
    """Open a door that was locked."""
    return _show(UNLOCK, request)


@form_at("/unlock", public=True, limit="60/minute")
async def unlock_on_page(request: AnyRequest) -> Response[str]:
    """It is open."""
    form = await pages.form_of(request, Ticket)
    return await _done(UNLOCK, request, defence.unlock(form.ticket))


async def _done(place: Place, request: AnyRequest, work: Awaitable[Any]) -> Response[str]:
    try:
        await work
    except Problem as problem:
        return _show(place, request, pages.to_show(problem))
    return _show(place, request, done=True)


def _show(place: Place, request: AnyRequest, problem: Problem | None = None, *, done: bool = False) -> Response[str]:
    """The page. Its address holds the ticket, which a failed form brings along in its body; nobody keeps a copy."""
    reply = pages.page(
        "accounts/arriving.html",
        request,
        status=problem.status if problem else 200,
        place=place,
        problem=problem,
        done=done,
        ticket=request.query_params.get("ticket", ""),
    )
    reply.headers.update(NOT_KEPT)
    return reply


routes: list[ControllerRouterHandler] = [
    show_verify,
    verify_on_page,
    show_forgot,
    forget_on_page,
    show_reset,
    reset_on_page,
    show_email,
    change_email_on_page,
    show_undo,
    undo_on_page,
    show_unlock,
    unlock_on_page,
]
