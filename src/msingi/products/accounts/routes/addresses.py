"""Proving that an e-mail address is one's own: verification, a new password, another address."""

from typing import Any

from litestar import Request

from msingi.kit.auth import Actor
from msingi.kit.errors import Busy
from msingi.kit.http import Body, Given, post, put
from msingi.products.accounts import rules
from msingi.products.accounts.actions import arrivals, emails, resets, verification
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.addresses import AddressAsked, AskedView, NewPasswordShown, Shown, ShownByOwner

AnyRequest = Request[Any, Any, Any]
# What is said to who has a letter's ticket, and not the account.
NOT_THEIRS = [rules.factors.ProofMissing, rules.people.WrongPassword, rules.defence.TooManyTries, Busy]


@post("/verification", public=True, status_code=204, limit="60/minute", problems=[rules.tickets.BadTicket, *NOT_THEIRS])
async def verify(data: Body[ShownByOwner], request: AnyRequest) -> None:
    """Show the ticket of the letter, signed in or with the password: the account's address is verified."""
    await verification.verify(data.ticket, data.password, request.user)


@post("/verification/resend", public=True, status_code=202, limit="300/minute")
async def resend_verification(data: Body[AddressAsked], request: AnyRequest) -> AskedView:
    """Ask for another letter to verify an address."""
    await arrivals.ask_to_verify(data.email, visitor_of(request))
    return AskedView()


@post("/password-reset", public=True, status_code=202, limit="300/minute")
async def forget_password(data: Body[AddressAsked], request: AnyRequest) -> AskedView:
    """Ask for a letter with a link to set a new password."""
    await arrivals.forget_password(data.email, visitor_of(request))
    return AskedView()


@put(
    "/password-reset",
    public=True,
    status_code=204,
    limit="60/minute",
    problems=[rules.tickets.BadTicket, rules.people.WeakPassword, Busy],
)
async def reset_password(data: Body[NewPasswordShown]) -> None:
    """Show the ticket of the letter and set a new password. All sessions end, and none is opened."""
    await resets.reset(data.ticket, data.password)


@post("/me/email", status_code=202, step_up=True, limit="20/minute")
async def ask_for_another_email(data: Body[AddressAsked], actor: Given[Actor]) -> AskedView:
    """Ask for another address; a letter with a link goes to it."""
    await emails.ask(actor, data.email)
    return AskedView()


@put(
    "/me/email",
    public=True,
    status_code=204,
    limit="60/minute",
    problems=[rules.tickets.BadTicket, rules.people.EmailTaken, *NOT_THEIRS],
)
async def change_email(data: Body[ShownByOwner], request: AnyRequest) -> None:
    """Show the ticket of that letter, signed in or with the password: the account has the new address. The old one is
    told, and can undo it."""
    await emails.change(data.ticket, data.password, request.user)


@put(
    "/me/email/restoration",
    public=True,
    status_code=204,
    limit="60/minute",
    problems=[rules.tickets.BadTicket, rules.people.EmailTaken],
)
async def restore_email(data: Body[Shown]) -> None:
    """Show the ticket of the letter to the old address: the account has it again, and nobody is in."""
    await emails.undo(data.ticket)


routes = [
    verify,
    resend_verification,
    forget_password,
    reset_password,
    ask_for_another_email,
    change_email,
    restore_email,
]
