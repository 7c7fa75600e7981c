"""What accounts is made of."""

from msingi.kit.auth import identify_cookie_with, identify_key_with
from msingi.kit.product import Product
from msingi.kit.tokens import load_keys_with
from msingi.products.accounts import jobs, queries, seeds
from msingi.products.accounts.actions import api_keys, people, sessions, signing_keys
from msingi.products.accounts.key_secrets import PREFIX
from msingi.products.accounts.models.api_keys import api_keys as kept_keys
from msingi.products.accounts.models.clients import clients, consents, device_grants
from msingi.products.accounts.models.codes import codes
from msingi.products.accounts.models.defence import doors, known_devices
from msingi.products.accounts.models.exports import exports
from msingi.products.accounts.models.exports import parts as export_parts
from msingi.products.accounts.models.factors import factors, passkeys
from msingi.products.accounts.models.identities import identities
from msingi.products.accounts.models.organisations import invitations, memberships, organisations
from msingi.products.accounts.models.people import accounts, guards
from msingi.products.accounts.models.sessions import sessions as kept_sessions
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.models.signing_keys import stored_keys
from msingi.products.accounts.models.tickets import tickets
from msingi.products.accounts.pages import page_routes
from msingi.products.accounts.routes import root_routes, routes
from msingi.products.accounts.routes.api_keys import key_in_path
from msingi.products.accounts.routes.clients import client_in_path, consent_in_path
from msingi.products.accounts.routes.factors import passkey_in_path
from msingi.products.accounts.routes.organisations import organisation_in_path
from msingi.products.accounts.routes.sessions import session_in_path

identify_cookie_with(sessions.identify_cookie, anew=sessions.identify_cookie_anew)
identify_key_with(PREFIX, api_keys.identify_key)
load_keys_with(queries.signing_keys.published_keys)

product = Product(
    name="accounts",
    title="Accounts",
    summary="Who is who: registering, signing in, sessions that end at once for everybody, and who may do what.",
    routes=routes,
    root_routes=[*root_routes, *page_routes],
    dependencies={
        "session": session_in_path,
        "organisation": organisation_in_path,
        "client": client_in_path,
        "key": key_in_path,
        "consent": consent_in_path,
        "passkey": passkey_in_path,
    },
    stores=[
        accounts,
        kept_keys,
        organisations,
        memberships,
        invitations,
        kept_sessions,
        stored_keys,
        guards,
        codes,
        tickets,
        doors,
        known_devices,
        identities,
        factors,
        passkeys,
        clients,
        consents,
        device_grants,
        exports,
        export_parts,
    ],
    work=[jobs],
    plant=seeds.plant,
    grants={
        "admin": [
            *("users:manage", "users:impersonate", "roles:manage", "organisations:manage", "clients:manage"),
            "audit:read",
        ]
    },
    keeps={"admin": ["users:manage", "roles:manage"]},
    settings=AccountsSettings,
    exports=queries.exports.person,
    watch=[people.guard_admins, signing_keys.run_watch],
)
