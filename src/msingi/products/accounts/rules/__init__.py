"""Decisions only: no database, no clock, no await."""

from msingi.products.accounts.rules import people, sessions, tickets, visitors

__all__ = ["people", "sessions", "tickets", "visitors"]
