"""What happened to one's account, in plain words."""

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit.actors import Actor
from msingi.kit.audit import Entry
from msingi.kit.db import Paging
from msingi.kit.http import Given, page_at
from msingi.products.accounts import queries
from msingi.products.accounts.contract import PeopleAsked
from msingi.products.accounts.pages.shell import AnyRequest, show

KINDS = {
    "access.refused": "Something was asked for that was not allowed",
    "accounts.admin_granted": "The account became an admin's",
    "accounts.claimed": "The account was taken over with proof of its address",
    "accounts.client_changed": "A program was changed",
    "accounts.client_refused": "A program was not let in",
    "accounts.client_registered": "A program was registered",
    "accounts.client_removed": "A program was removed",
    "accounts.client_secret_renewed": "A program got a new secret",
    "accounts.code_replayed": "A program's code was shown a second time",
    "accounts.connected": "An account elsewhere was connected",
    "accounts.consent_given": "A program was allowed to act in your name",
    "accounts.consent_taken_back": "What a program was allowed was taken back",
    "accounts.device_let_in": "A device was let in by its code",
    "accounts.disconnected": "The connection to an account elsewhere was removed",
    "accounts.email_change_asked": "Another e-mail address was asked for",
    "accounts.email_changed": "The e-mail address was changed",
    "accounts.email_restored": "The old e-mail address was taken back",
    "accounts.email_verified": "The e-mail address was confirmed",
    "accounts.export_asked": "A copy of your data was asked for",
    "accounts.export_ready": "The copy of your data was ready",
    "accounts.factors_reset": "All second factors were removed",
    "accounts.impersonation_began": "Somebody began to act in your name",
    "accounts.impersonation_ended": "Somebody stopped acting in your name",
    "accounts.invitation_declined": "An invitation was declined",
    "accounts.invitation_revoked": "An invitation was taken back",
    "accounts.invited": "Somebody was invited to an organisation",
    "accounts.key_made": "An API key was made",
    "accounts.key_revoked": "An API key was revoked",
    "accounts.limit_changed": "A limit was changed",
    "accounts.limit_reset": "A limit was set back",
    "accounts.member_joined": "An organisation got a new member",
    "accounts.member_left": "A member left an organisation",
    "accounts.member_role_changed": "A member's role in an organisation was changed",
    "accounts.organisation_changed": "An organisation was changed",
    "accounts.organisation_made": "An organisation was made",
    "accounts.organisation_removed": "An organisation was deleted",
    "accounts.passkey_added": "A passkey was added",
    "accounts.passkey_cloned": "A passkey was shown that may be a copy",
    "accounts.passkey_removed": "A passkey was removed",
    "accounts.password_changed": "The password was changed",
    "accounts.password_reset": "A new password was set by a letter's link",
    "accounts.password_reset_asked": "A letter to set a new password was asked for",
    "accounts.password_set": "A password was set",
    "accounts.phone_removed": "The phone number was removed",
    "accounts.phone_verified": "The phone number was confirmed",
    "accounts.program_let_in": "A program signed in in your name",
    "accounts.recovery_code_used": "A recovery code was used",
    "accounts.recovery_codes_renewed": "New recovery codes were made",
    "accounts.refresh_replayed": "A session was ended, since its secret was in two hands",
    "accounts.registered": "The account was made",
    "accounts.reset_letter_sent": "A letter to set a new password was sent by an admin",
    "accounts.role_changed": "What a role may do was changed",
    "accounts.role_made": "A role was made",
    "accounts.role_removed": "A role was removed",
    "accounts.second_factor_refused": "A wrong second factor was shown",
    "accounts.session_ended": "A session was ended",
    "accounts.sessions_ended": "All sessions were ended by an admin",
    "accounts.sign_in_locked": "Signing in was locked after many wrong passwords",
    "accounts.sign_in_refused": "Signing in failed",
    "accounts.sign_in_unlocked": "Signing in was unlocked",
    "accounts.signed_in": "You signed in",
    "accounts.signed_out": "You signed out",
    "accounts.step_up_refused": "A fresh proof of who you are was wrong",
    "accounts.stepped_up": "You proved again that it is you",
    "accounts.totp_added": "An authenticator app was set up",
    "accounts.totp_removed": "The authenticator app was removed",
    "accounts.user_added": "The account was made by an admin",
    "accounts.user_changed": "An account was changed",
    "accounts.user_erased": "An account was erased",
    "house.job_discarded": "A failed job was discarded",
    "house.job_run_again": "A failed job was run again",
}


class Line(Struct, frozen=True):
    """An entry as its person sees it: `who` is a name, or nothing for the house; `acting` the name of who acted."""

    entry: Entry
    what: str
    mine: bool
    who: str
    acting: str
    here: bool  # whether it was in the session under way


@page_at("/account/activity")
async def show_activity(request: AnyRequest, actor: Given[Actor], page: Given[Paging]) -> Response[str]:
    """The list, newest first."""
    found = await queries.audit.my_entries(actor, {}, page)
    ids = {id for each in found.items for id in (each.actor, each.acting)} - {"", actor.id}
    names = {each.id: each.name for each in await queries.people.people(PeopleAsked(ids=sorted(ids)))}
    lines = [_line(each, actor, names) for each in found.items]
    return show("activity", request, lines=lines, next=found.next)


def _line(entry: Entry, actor: Actor, names: dict[str, str]) -> Line:
    return Line(
        entry=entry,
        what=KINDS.get(entry.kind, entry.kind),
        mine=entry.actor == actor.id,
        who=names.get(entry.actor, entry.actor),
        acting=names.get(entry.acting, entry.acting),
        here=entry.session == actor.session,
    )


routes: list[ControllerRouterHandler] = [show_activity]
