"""What the pages of accounts share: the list of places at their side, and what came of the last form."""

import re
from collections.abc import Iterator
from typing import Any

from litestar import Request, Response
from msgspec import Struct

from msingi.kit import audit, pages
from msingi.kit.errors import Problem

AnyRequest = Request[Any, Any, Any]
# Where one can go, by the permission that it takes.
OWN = [
    ("/account", "Profile"),
    ("/account/security", "Security"),
    ("/account/sessions", "Sessions"),
    ("/account/connections", "Connections"),
    ("/account/api-keys", "API keys"),
    ("/account/organisations", "Organisations"),
    ("/account/activity", "Activity"),
    ("/account/data", "Your data"),
]
OTHERS = [
    ("/admin/users", "People", "users:manage"),
    ("/admin/roles", "Roles", "roles:manage"),
    ("/admin/organisations", "Organisations", "organisations:manage"),
    ("/admin/audit", "Audit log", "audit:read"),
    ("/admin/clients", "Programs", "clients:manage"),
    ("/admin/limits", "Limits", "limits:manage"),
]
# What a page says of the form that led to it: `/account?done=saved`.
DONE = {
    "saved": "Saved.",
    "email_asked": "A letter is on its way to the new address. Follow its link, and the address is yours.",
    "letter_sent": "A letter is on its way. Follow its link, and your address is confirmed.",
    "phone_asked": "A message with a code is on its way to that number.",
    "phone": "Your phone number is confirmed.",
    "phone_removed": "Your phone number is removed.",
    "password": "Your new password is set. You are signed out everywhere else.",
    "password_set": "Your password is set.",
    "app_removed": "The authenticator app is removed.",
    "passkey_added": "The passkey is added.",
    "passkey_removed": "The passkey is removed.",
    "session_ended": "That session is ended.",
    "others_ended": "All other sessions are ended.",
    "disconnected": "The connection is removed.",
    "consent_taken_back": "That program may do nothing in your name any more.",
    "key_revoked": "The key is revoked.",
    "organisation_made": "The organisation is made.",
    "invited": "The invitation is on its way.",
    "invitation_revoked": "The invitation is taken back.",
    "member_removed": "They are removed.",
    "left": "You have left the organisation.",
    "joined": "Welcome: you are in.",
    "handed_over": "It has its new owner.",
    "organisation_removed": "The organisation is deleted.",
    "user_added": "The account is made.",
    "user_disabled": "The account is disabled.",
    "user_enabled": "The account is enabled.",
    "user_erased": "The account is erased.",
    "factors_reset": "All second factors are removed.",
    "reset_letter": "The letter is on its way.",
    "sessions_ended": "All sessions are ended.",
    "role_made": "The role is made.",
    "role_removed": "The role is deleted.",
    "role_reset": "The role is what the code makes of it.",
    "limit_changed": "The limit is changed.",
    "limit_reset": "The limit is its default again.",
    "client_removed": "The program is deleted.",
    "export_asked": "Your data is being put together. A letter will say when it is ready.",
}
# What the fields of forms are called in the labels before them.
FIELDS = {
    "code": "Code",
    "current_password": "Current password",
    "email": "E-mail",
    "expires_in_days": "Good for",
    "limit": "Limit",
    "logo": "Sign",
    "name": "Name",
    "new_password": "New password",
    "password": "Password",
    "password_hash": "Hash of the password",
    "permissions": "What it may do",
    "phone": "Phone",
    "post_logout_redirect_uris": "Where people go after signing out",
    "reason": "Reason",
    "redirect_uris": "Where people are sent back to",
    "role": "Role",
    "roles": "Roles",
    "scopes": "What it may do",
    "since": "From",
    "slug": "Short name",
    "sure": "Yes",
    "until": "Until",
}


class Question(Struct, frozen=True):
    """What is asked before something that cannot be taken back, in words: above the button, and on it."""

    title: str
    lead: str
    button: str


class Nothing(Struct):
    """A form with nothing but its token."""


def show(name: str, request: AnyRequest, problem: Problem | None = None, **context: Any) -> Response[str]:
    """The page of `templates/<name>.html`, which extends `accounts/frame.html`; with a problem, what went wrong."""
    if problem is not None:  # it was caught on its way to where refusals are noted
        audit.refused(request.scope, problem)
    others = [(path, title) for path, title, permission in OTHERS if request.user.may(permission)]
    is_for_others = request.scope["path"].startswith("/admin/")
    return pages.page(
        f"accounts/{name}.html",
        request,
        status=problem.status if problem else 200,
        places=others if is_for_others else [*OWN, *((path, "Look after others") for path, _ in others[:1])],
        place=request.scope["path"],
        problem=problem,
        faults=[*faults_of(problem, pages.language_of(request))],
        done=DONE.get(request.query_params.get("done", "")),
        **context,
    )


def ask(
    question: Question, request: AnyRequest, back: str, *, about: str = "", problem: Problem | None = None
) -> Response[str]:
    """The page that asks it, about a thing of this name; its form goes to the page's own address."""
    return show("question", request, problem, question=question, back=back, about=about)


def faults_of(problem: Problem | None, language: str) -> Iterator[tuple[str, str]]:
    """What is wrong with which field of the form, as a person says it."""
    for error in problem.details.get("errors", []) if problem else []:
        field = error["pointer"].strip("/").partition("/")[0]
        fault, count = _fault(field, error["message"])
        said = pages.translate(fault, language, "accounts").format(count=count)
        yield pages.translate(FIELDS.get(field, ""), language, "accounts"), said


def _fault(field: str, message: str) -> tuple[str, str]:
    """A message of the API in words, and the number in them."""
    length = re.search(r"of length (>=|<=) (\d+)", message)
    if length and length[2] == "1":
        return "This is required", ""
    if length:
        return "at least {count} characters" if length[1] == ">=" else "at most {count} characters", length[2]
    if field == "email":
        return "this is no e-mail address", ""
    return ("this will not do", "") if "`" in message else (message, "")
