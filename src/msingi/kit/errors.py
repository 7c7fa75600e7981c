"""What a caller may be told: an exception whose docstring is the message.

The class name is the code, the base class the status. It goes out as `application/problem+json` (RFC 9457).
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar


class Problem(Exception):
    """Something went wrong on our side; trying again later may help."""

    status: ClassVar[int] = 500
    headers: Mapping[str, str] = {}

    def __init__(self, **details: Any) -> None:
        """`details` fill the `{names}` of the docstring and go out as members of the problem.

        A detail named `headers` (a mapping) goes out as headers of the reply instead.
        """
        super().__init__()
        self.headers = details.pop("headers", {})
        self.details = details

    @property
    def code(self) -> str:
        """The name of the class in snake_case: stable, for programs to decide on."""
        return code_of(type(self))

    @property
    def title(self) -> str:
        """The name of the class in words: the same for each occurrence, as RFC 9457 asks."""
        return self.code.replace("_", " ").capitalize()

    def __str__(self) -> str:
        return (type(self).__doc__ or "").strip().format(**self.details)

    def body(self) -> dict[str, Any]:
        """The members of the problem document."""
        return {
            "type": f"/problems/{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": str(self),
            "code": self.code,
            **self.details,
        }


def code_of(kind: type[Problem]) -> str:
    """The stable code of a kind of problem: `BoardIsFull` is `board_is_full`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


class Malformed(Problem):
    """The request cannot be read: {reason}."""

    status = 400


class Invalid(Problem):
    """The request can be read, but does not hold what it should."""

    status = 422


class InvalidFields(Invalid):
    """Some fields are not as they should be; `errors` names each of them."""


class SignInFirst(Problem):
    """Sign in first: this needs an access token (`Authorization: Bearer …`) or a session cookie."""

    status = 401

    def __init__(self, **details: Any) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"}, **details)


class Forbidden(Problem):
    """You may see this, but not do that."""

    status = 403


class NotFound(Problem):
    """There is no such thing, or none that you may see."""

    status = 404


class Conflict(Problem):
    """This clashes with how things stand now."""

    status = 409


class AlreadyExists(Conflict):
    """There is one with the same {fields} already."""


class Stale(Conflict):
    """It changed while you were at it; look again, and decide on what you see then."""


class TooLarge(Problem):
    """The request holds more than the {limit} bytes that are taken here."""

    status = 413


class UnsupportedMedia(Problem):
    """This kind of content is not taken here; send {wanted}."""

    status = 415


class QuotaExceeded(Problem):
    """Too many requests: {quota} are allowed in {window} seconds; try again in {retry_after} seconds."""

    status = 429


class Busy(Problem):
    """Too much is going on right now; try again in {retry_after} seconds."""

    status = 503

    def __init__(self, *, retry_after: int = 1, **details: Any) -> None:
        super().__init__(headers={"Retry-After": str(retry_after)}, retry_after=retry_after, **details)


def allow(yes: bool) -> None:
    """Go on if `yes`; else the actor sees the thing but may not do this with it (403)."""
    if not yes:
        raise Forbidden
