"""What accounts is made of."""

from msingi.kit.auth import identify_cookie_with
from msingi.kit.product import Product
from msingi.kit.tokens import load_keys_with
from msingi.products.accounts import jobs, queries, seeds
from msingi.products.accounts.actions import people, sessions, signing_keys
from msingi.products.accounts.models.people import accounts, guards
from msingi.products.accounts.models.sessions import sessions as kept_sessions
from msingi.products.accounts.models.signing_keys import stored_keys
from msingi.products.accounts.models.tickets import tickets
from msingi.products.accounts.pages import page_routes
from msingi.products.accounts.routes import root_routes, routes
from msingi.products.accounts.routes.sessions import session_in_path

identify_cookie_with(sessions.identify_cookie)
load_keys_with(queries.signing_keys.published_keys)

product = Product(
    name="accounts",
    title="Accounts",
    summary="Who is who: registering, signing in, sessions that end at once for everybody, and who may do what.",
    routes=routes,
    root_routes=[*root_routes, *page_routes],
    dependencies={"session": session_in_path},
    stores=[accounts, kept_sessions, stored_keys, guards, tickets],
    work=[jobs],
    plant=seeds.plant,
    grants={"admin": ["users:manage"]},
    settings=seeds.AccountsSettings,
    watch=[people.guard_admins, signing_keys.run_watch],
)
