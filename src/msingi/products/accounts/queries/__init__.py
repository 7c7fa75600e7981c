"""What may be read: always for an actor, or by the house itself."""

from msingi.products.accounts.queries import people, sessions, signing_keys

__all__ = ["people", "sessions", "signing_keys"]
