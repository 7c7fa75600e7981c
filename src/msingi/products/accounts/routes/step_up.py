"""The second step of signing in, signing in with a passkey, and proving once more who one is."""

from typing import Any

from litestar import Request

from msingi.kit import csrf, tokens
from msingi.kit.auth import Actor
from msingi.kit.errors import Busy, QuotaExceeded
from msingi.kit.http import Body, Given, post
from msingi.kit.replies import KitResponse
from msingi.products.accounts import ceremonies, rules
from msingi.products.accounts.actions import sessions, step_up
from msingi.products.accounts.actions.proofs import LIFETIME
from msingi.products.accounts.routes.sessions import NOT_KEPT, Signed, check_page, signed
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.factors import (
    CeremonyView,
    PasskeySignIn,
    RenewedView,
    SecondFactor,
    StepUp,
    StepUpOptionsView,
)

AnyRequest = Request[Any, Any, Any]
EXPIRES_IN = int(LIFETIME.total_seconds())
REFUSALS = [
    rules.tickets.BadTicket,
    rules.factors.ProofMissing,
    rules.factors.WrongCode,
    rules.factors.BadPasskey,
    rules.factors.PasskeyCloned,
    QuotaExceeded,
]


@post(
    "/sign-in/second-factor",
    public=True,
    status_code=200,
    limit="60/minute",
    idempotency="off",
    problems=[*REFUSALS, rules.people.AccountDisabled, csrf.CrossSite],
)
async def finish_sign_in(data: Body[SecondFactor], request: AnyRequest) -> Signed:
    """Show a second factor with the ticket of the first step; get what signing in gives."""
    if await step_up.kind_of(data.ticket) == "cookie":
        check_page(request)
    return await signed(await step_up.finish_sign_in(data, visitor_of(request)))


@post("/sign-in/passkey/options", public=True, status_code=200, limit="60/minute", idempotency="off")
async def begin_passkey_sign_in() -> KitResponse[CeremonyView]:
    """Get what the browser needs to sign in with any passkey of this site."""
    issued = await step_up.begin_passkey_sign_in()
    options = ceremonies.options_to_show([], issued.secret)
    return KitResponse(CeremonyView(ticket=issued.secret, expires_in=EXPIRES_IN, options=options), headers=NOT_KEPT)


@post(
    "/sign-in/passkey",
    public=True,
    status_code=200,
    limit="60/minute",
    idempotency="off",
    problems=[
        rules.tickets.BadTicket,
        rules.factors.BadPasskey,
        rules.factors.PasskeyCloned,
        rules.people.AccountDisabled,
        csrf.CrossSite,
    ],
)
async def sign_in_with_passkey(data: Body[PasskeySignIn], request: AnyRequest) -> Signed:
    """Show a passkey; get what signing in gives. It is two factors by itself."""
    if data.session == "cookie":
        check_page(request)
    return await signed(await step_up.sign_in_with_passkey(data, visitor_of(request)))


# ---- once more within a session


@post("/step-up/options", in_person=True, status_code=200, limit="60/minute", idempotency="off")
async def show_step_up_options(actor: Given[Actor]) -> KitResponse[StepUpOptionsView]:
    """What one can prove oneself with now, and what the browser needs if that is a passkey."""
    methods, issued, options = await step_up.options(actor)
    passkey = CeremonyView(ticket=issued.secret, expires_in=EXPIRES_IN, options=options) if issued else None
    return KitResponse(StepUpOptionsView(methods=methods, passkey=passkey), headers=NOT_KEPT)


@post(
    "/step-up",
    in_person=True,
    status_code=200,
    limit="60/minute",
    idempotency="off",
    problems=[*REFUSALS, rules.people.WrongPassword, rules.defence.TooManyTries, Busy],
)
async def prove_again(data: Body[StepUp], actor: Given[Actor], request: AnyRequest) -> KitResponse[RenewedView]:
    """Prove once more who one is, for what asks for a fresh proof. The session goes on."""
    return KitResponse(await renewed(request, await step_up.step_up(actor, data)), headers=NOT_KEPT)


async def renewed(request: AnyRequest, opened: sessions.Opened) -> RenewedView:
    """What replaces what this session came with: its secret stays as it is."""
    cookie = csrf.session_cookie(request.headers.get("cookie", ""))
    if opened.session.kind == "cookie" and cookie is not None:
        return RenewedView(csrf_token=csrf.token_for(cookie), expires_in=opened.expires_in)
    return RenewedView(
        access_token=await sessions.access_token(opened),
        token_type="Bearer",  # noqa: S106
        expires_in=min(tokens.LIFETIME, opened.lasts),
    )


routes = [finish_sign_in, begin_passkey_sign_in, sign_in_with_passkey, show_step_up_options, prove_again]
