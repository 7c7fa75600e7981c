"""One's phone number, and signing in by a code to it."""

from typing import Any

from litestar import Request

from msingi.kit import csrf
from msingi.kit.auth import Actor
from msingi.kit.http import Body, Given, delete, post, put
from msingi.products.accounts import rules
from msingi.products.accounts.actions import arrivals, phones
from msingi.products.accounts.routes.sessions import Signed, check_page, signed
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.addresses import AskedView
from msingi.products.accounts.schemas.people import AccountView
from msingi.products.accounts.schemas.phones import CodeShown, PhoneAsked, PhoneSignIn

AnyRequest = Request[Any, Any, Any]


@put("/me/phone", status_code=202, step_up=True, limit="20/minute")
async def ask_for_phone(data: Body[PhoneAsked], actor: Given[Actor], request: AnyRequest) -> AskedView:
    """Ask for a phone number to be one's own; a code goes to it."""
    await phones.ask(actor, data.phone, visitor_of(request))
    return AskedView()


@post(
    "/me/phone/verification",
    status_code=200,
    in_person=True,
    limit="20/minute",
    problems=[rules.tickets.BadTicket, rules.addresses.PhoneTaken],
)
async def verify_phone(data: Body[CodeShown], actor: Given[Actor]) -> AccountView:
    """Show the code: the number is one's own."""
    view: AccountView = AccountView.of(await phones.verify(actor, data.code))
    return view


@delete("/me/phone", step_up=True)
async def remove_phone(actor: Given[Actor]) -> None:
    """Have no number any more."""
    await phones.remove(actor)


@post("/sign-in/phone", public=True, status_code=202, limit="300/minute", idempotency="off")
async def ask_for_code(data: Body[PhoneAsked], request: AnyRequest) -> AskedView:
    """Ask for a code to sign in with; it goes to a number that is somebody's."""
    await arrivals.ask_for_code(data.phone, visitor_of(request))
    return AskedView()


@post(
    "/sign-in/phone/code",
    public=True,
    status_code=200,
    limit="60/minute",
    idempotency="off",
    problems=[
        rules.addresses.BadCode,
        rules.defence.TooManyTries,
        rules.defence.SignInLocked,
        rules.addresses.EmailUnverified,
        rules.people.AccountDisabled,
        csrf.CrossSite,
    ],
)
async def sign_in_by_code(data: Body[PhoneSignIn], request: AnyRequest) -> Signed:
    """Show the code; get tokens, or a session cookie."""
    if data.session == "cookie":
        check_page(request)
    return await signed(await phones.sign_in(data.phone, data.code, data.session, visitor_of(request)))


routes = [ask_for_phone, verify_phone, remove_phone, ask_for_code, sign_in_by_code]
