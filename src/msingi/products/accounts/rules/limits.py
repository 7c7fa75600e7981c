"""Decisions about limits: which can be changed, and to what."""

from msingi.kit.errors import Invalid, NotFound
from msingi.kit.limits import Quota, parse

SLOWEST = 10 / 60  # requests a second that everybody keeps: an admin has to be able to undo it


class NoSuchLimit(NotFound):
    """There is no limit of this name."""


class BadLimit(Invalid):
    """This is no limit: {reason}."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason, errors=[{"pointer": "/limit", "in": "body", "message": reason}])


def limit_of(text: str, *, general: bool) -> Quota:
    """A limit as people write it. Raises BadLimit, also for a general one that would let nobody undo it."""
    try:
        quota = parse(text)
    except ValueError as fault:
        raise BadLimit(str(fault)) from None
    if general and quota.rate < SLOWEST:
        raise BadLimit("all requests of a caller together need at least 10/minute")
    return quota
