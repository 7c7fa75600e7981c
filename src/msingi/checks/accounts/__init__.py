"""The accounts suite: docs/contracts/accounts*.md, held against a server; a file for each page, the core first."""

from msingi.checks.accounts import (  # isort: skip  (checks run in this order)
    core,
    addresses,
    sign_in,
    second_factors,
    keys_and_roles,
    organisations,
    openid,
    audit_and_data,
)

__all__ = [
    "addresses",
    "audit_and_data",
    "core",
    "keys_and_roles",
    "openid",
    "organisations",
    "second_factors",
    "sign_in",
]
