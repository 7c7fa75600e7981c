"""The HTTP face, a file for each noun."""

from msingi.products.accounts.routes import people, sessions, signing_keys

routes = [*people.routes, *sessions.routes]
root_routes = [*signing_keys.root_routes]
