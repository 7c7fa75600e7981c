"""Tickets: secrets that are good for one purpose, once, for a while."""

from msingi.kit.errors import Invalid


class BadTicket(Invalid):
    """This link or code is not, or no longer, good; ask for a new one."""
