"""Decisions about programs that people sign in to with their account here."""

from msingi.kit.errors import Conflict


class PublicClient(Conflict):
    """A public program has no secret."""
