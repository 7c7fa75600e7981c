"""What may be read: always for an actor, or by the house itself."""

from msingi.products.accounts.queries import (
    api_keys,
    audit,
    clients,
    exports,
    factors,
    identities,
    limits,
    organisations,
    people,
    roles,
    sessions,
    signing_keys,
)

__all__ = [
    "api_keys",
    "audit",
    "clients",
    "exports",
    "factors",
    "identities",
    "limits",
    "organisations",
    "people",
    "roles",
    "sessions",
    "signing_keys",
]
