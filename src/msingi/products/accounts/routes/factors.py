"""One's own second factors: an authenticator app, recovery codes, passkeys; and resetting somebody else's."""

from typing import Any

import segno
from litestar import Request

from msingi.kit.auth import Actor
from msingi.kit.errors import AlreadyExists, NotFound, Stale
from msingi.kit.http import Body, Given, Path, delete, get, patch, post, put
from msingi.kit.replies import KitResponse
from msingi.products.accounts import ceremonies, queries, rules
from msingi.products.accounts.actions import factors
from msingi.products.accounts.actions.proofs import LIFETIME
from msingi.products.accounts.models.factors import Passkey
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.routes.sessions import NOT_KEPT
from msingi.products.accounts.routes.step_up import renewed
from msingi.products.accounts.schemas.factors import (
    AddedView,
    CeremonyView,
    CodesView,
    FactorsView,
    NewPasskey,
    PasskeyPatch,
    PasskeysView,
    PasskeyView,
    TotpCode,
    TotpView,
)

AnyRequest = Request[Any, Any, Any]
ISSUER = "Msingi"


@get("/me/factors", in_person=True)
async def show_factors(actor: Given[Actor]) -> FactorsView:
    """What one proves oneself with beside the password."""
    kept, passkeys = await queries.factors.my_factors(actor), await queries.factors.my_passkeys(actor)
    return FactorsView(
        methods=rules.factors.ways_of(kept, len(passkeys)),
        totp_confirmed_at=kept.totp_at,
        passkeys=[_passkey(each) for each in passkeys],
        recovery_codes_left=len(kept.codes),
    )


def _passkey(passkey: Passkey) -> PasskeyView:
    view: PasskeyView = PasskeyView.of(passkey)
    return view


# ---- an authenticator app


@post("/me/totp", step_up=True, idempotency="off", limit="60/minute")
async def begin_totp(actor: Given[Actor]) -> KitResponse[TotpView]:
    """Get a seed for an authenticator app. It counts once its first code was shown."""
    account, seed = await factors.begin_totp(actor)
    return KitResponse(seed_to_show(account, seed), status_code=201, headers=NOT_KEPT)


def seed_to_show(account: Account, seed: str) -> TotpView:
    """A seed in the ways in which an app takes it: typed, as a link, scanned."""
    uri = rules.factors.uri_of(seed, account.email, ISSUER)
    return TotpView(secret=seed, uri=uri, qr=segno.make(uri, error="m").svg_data_uri(scale=5, light="#fff"))


@put(
    "/me/totp",
    step_up=True,
    limit="60/minute",
    problems=[rules.factors.NothingToConfirm, rules.factors.WrongCode, Stale],
)
async def confirm_totp(data: Body[TotpCode], actor: Given[Actor], request: AnyRequest) -> KitResponse[AddedView]:
    """Show the first code. With the first second factor come recovery codes, and all other sessions end."""
    return await _added(request, await factors.confirm_totp(actor, data.code), 200)


async def _added(request: AnyRequest, added: factors.Added, status: int) -> KitResponse[AddedView]:
    view = AddedView(
        recovery_codes=added.codes,
        passkey=_passkey(added.passkey) if added.passkey else None,
        session=await renewed(request, added.opened),
    )
    return KitResponse(view, status_code=status, headers=NOT_KEPT)


@delete("/me/totp", step_up=True, problems=[NotFound, Stale])
async def remove_totp(actor: Given[Actor]) -> None:
    """Take the authenticator app away."""
    await factors.remove_totp(actor)


# ---- recovery codes


@post(
    "/me/recovery-codes",
    step_up=True,
    idempotency="off",
    limit="60/minute",
    problems=[rules.factors.NoSecondFactor],
)
async def renew_recovery_codes(actor: Given[Actor]) -> KitResponse[CodesView]:
    """Get new recovery codes. Those from before are void."""
    return KitResponse(CodesView(recovery_codes=await factors.renew_codes(actor)), status_code=201, headers=NOT_KEPT)


# ---- passkeys


async def passkey_in_path(passkey_id: Path[str], actor: Given[Actor]) -> Passkey:
    return await queries.factors.my_passkey(passkey_id, actor)


@post("/me/passkeys/options", step_up=True, status_code=200, idempotency="off", limit="60/minute")
async def begin_passkey(actor: Given[Actor]) -> KitResponse[CeremonyView]:
    """Get what the browser needs to make a passkey."""
    account, issued = await factors.begin_passkey(actor)
    options = ceremonies.options_to_make(account, await queries.factors.my_passkeys(actor), issued.secret)
    view = CeremonyView(ticket=issued.secret, expires_in=int(LIFETIME.total_seconds()), options=options)
    return KitResponse(view, headers=NOT_KEPT)


@post(
    "/me/passkeys",
    step_up=True,
    idempotency="off",
    limit="60/minute",
    problems=[
        rules.tickets.BadTicket,
        rules.factors.BadPasskey,
        rules.factors.TooManyPasskeys,
        AlreadyExists,
    ],
)
async def add_passkey(data: Body[NewPasskey], actor: Given[Actor], request: AnyRequest) -> KitResponse[AddedView]:
    """Keep the passkey that the browser made."""
    return await _added(request, await factors.add_passkey(actor, data), 201)


@get("/me/passkeys", in_person=True)
async def list_passkeys(actor: Given[Actor]) -> PasskeysView:
    """One's passkeys, newest first."""
    return PasskeysView(items=[_passkey(each) for each in await queries.factors.my_passkeys(actor)])


@patch("/me/passkeys/{passkey_id:str}", in_person=True)
async def rename_passkey(data: Body[PasskeyPatch], passkey: Given[Passkey]) -> PasskeyView:
    """Give a passkey another name."""
    return _passkey(await factors.rename_passkey(passkey, data))


@delete("/me/passkeys/{passkey_id:str}", step_up=True, problems=[rules.identities.LastWayIn, Stale])
async def remove_passkey(passkey: Given[Passkey], actor: Given[Actor]) -> None:
    """Take a passkey away."""
    await factors.remove_passkey(passkey, actor)


# ---- for somebody else


@delete("/users/{user_id:str}/factors", permission="users:manage", step_up=True, problems=[rules.roles.AboveYou, Stale])
async def reset_factors(user_id: Path[str], actor: Given[Actor]) -> None:
    """Take away all of somebody's second factors, who lost them. Their sessions end, and they are told."""
    await factors.reset(user_id, actor)


routes = [
    show_factors,
    begin_totp,
    confirm_totp,
    remove_totp,
    renew_recovery_codes,
    begin_passkey,
    add_passkey,
    list_passkeys,
    rename_passkey,
    remove_passkey,
    reset_factors,
]
