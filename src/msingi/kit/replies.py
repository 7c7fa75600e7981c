"""How an answer goes out: what was made as a Struct gets the headers that follow from it; what failed, a problem."""

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import structlog
from litestar import Litestar, MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.response import Redirect
from litestar.response.base import ASGIResponse
from litestar.serialization import default_serializer
from litestar.types import Receive, Scope, Send
from msgspec import Struct
from pymongo.errors import ConnectionFailure, ExecutionTimeout, NetworkTimeout, PyMongoError, WTimeoutError

from msingi.kit import audit, pages
from msingi.kit.auth import InsufficientUserAuthentication
from msingi.kit.db import Page
from msingi.kit.encoded import Encoded
from msingi.kit.errors import Busy, Invalid, InvalidFields, Malformed, NotFound, Problem, SignInFirst
from msingi.kit.problem_json import MEDIA_TYPE, document
from msingi.kit.reading import field_errors, json_read

log = structlog.get_logger("http")
AnyRequest = Request[Any, Any, Any]
T = TypeVar("T")
JSON = b"application/json"
SAID = ("media_type", "status_code")  # by the route, where the reply does not
BODILESS = (204, 304)
FRAMING = frozenset({"content-type", "content-length"})
_encode = msgspec.json.Encoder(enc_hook=default_serializer).encode


class MethodNotAllowed(Problem):
    """This address does not know that method; it knows {allowed}."""

    status = 405


class Sent(ASGIResponse):
    """A reply that is nothing but a status, headers and JSON: what `ASGIResponse` would send, at a fifth of the work.

    It is the most part of what a house says, and Litestar looks at each for what only others have.
    """

    __slots__ = ("start", "told")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        told = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        told += ((b"content-type", JSON), (b"content-length", b"%d" % len(body)))
        self.start: Any = {"type": "http.response.start", "status": status, "headers": told}
        self.told: Any = {"type": "http.response.body", "body": body, "more_body": False}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self.start)
        await send(self.told)


class KitResponse(Response[T]):
    """A reply whose ETag is the version of what it holds, and whose Link is the page that follows."""

    def to_asgi_response(self, app: Litestar | None, request: AnyRequest, **more: Any) -> ASGIResponse:
        content: Any = self.content
        if type(content) is Encoded:
            self.content = content.body  # type: ignore[assignment]
            self.headers.setdefault("ETag", content.tag)
        version = getattr(content, "version", None)
        if isinstance(version, int):
            self.headers.setdefault("ETag", f'"{version}"')
        # Not isinstance: on a generic class that costs two microseconds.
        following = content.next if type(content) in (Page, Encoded) else None
        if following:
            query = [(name, value) for name, value in request.query_params.multi_items() if name != "after"]
            # The path comes decoded: as it is, a line break in it would begin a header of the caller's own.
            path = quote(request.scope.get("root_path", "") + request.scope["path"])
            self.headers["Link"] = f'<{path}?{urlencode([*query, ("after", following)])}>; rel="next"'
        if isinstance(content, (Struct, dict, list)) and self._is_plain(more):
            status = self.status_code or more.get("status_code") or 200
            with suppress(TypeError, msgspec.EncodeError):  # Litestar says what is wrong with it
                return Sent(status, self.headers, content.body if type(content) is Encoded else _encode(content))
        return super().to_asgi_response(app, request, **more)

    def _is_plain(self, more: Mapping[str, Any]) -> bool:
        """Whether it goes out as JSON, with nothing more to it than a status and headers of its own."""
        return (
            (self.media_type or more.get("media_type") or MediaType.JSON) == MediaType.JSON
            and (self.status_code or more.get("status_code")) not in BODILESS
            and not (self.cookies or self.background or self.response_type_encoders)
            and not any(value for name, value in more.items() if name not in SAID)
            and FRAMING.isdisjoint(map(str.lower, self.headers))
        )


def sent(answer: Encoded) -> KitResponse[Any]:
    """An answer that is JSON already, with the headers that follow from it."""
    return KitResponse(answer, media_type="application/json")


def created(view: T, location: str) -> KitResponse[T]:
    """201, and where the new thing is from now on."""
    return KitResponse(view, status_code=201, headers={"Location": location})


def reply_of(problem: Problem, request: AnyRequest) -> Response[Any]:
    """A Problem as `application/problem+json` (RFC 9457); as a page to who looks at one in a browser."""
    if not request.scope["path"].startswith("/v1/") and "text/html" in request.headers.get("accept", ""):
        reply = pages.page("kit/problem.html", request, status=problem.status, problem=problem)
        reply.headers.update(problem.headers)
        return reply
    body = document(problem, request.scope["state"].get("request_id", ""))
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=dict(problem.headers))


def on_problem(request: AnyRequest, problem: Problem) -> Response[Any]:
    """What a product or the kit raised on purpose.

    Who opens a page without signing in is led to where one does, and whose proof is too old to where one renews it:
    from there back to the page, or to the one that a route's `back="/…"` names.
    """
    audit.refused(request.scope, problem)
    handler = request.scope.get("route_handler")
    opt: Mapping[str, Any] = handler.opt if handler is not None else {}
    if opt.get("page") is True:
        back = urlencode({"back": opt.get("back") or request.scope["path"]})
        if isinstance(problem, InsufficientUserAuthentication):
            return Redirect(f"/step-up?{back}", status_code=303)
        if isinstance(problem, SignInFirst) and request.method == "GET":
            return Redirect(f"/sign-in?{back}", status_code=303)
    return reply_of(problem, request)


def on_http_exception(request: AnyRequest, error: HTTPException) -> Response[dict[str, Any]]:
    """What Litestar raised while it read or routed the request."""
    if error.status_code < 500:
        return reply_of(_problem_of(request, error), request)
    # Litestar takes a field of the body for a dependency of the same name, and blames us for what is wrong with it.
    faults = _body_faults(request) if isinstance(error.__cause__, msgspec.ValidationError) else []
    return reply_of(InvalidFields(errors=faults), request) if faults else on_anything(request, error)


def on_database(request: AnyRequest, error: PyMongoError) -> Response[dict[str, Any]]:
    """The database did not answer in time: the caller may try again. Anything else of it is our fault."""
    if isinstance(error, (ConnectionFailure, NetworkTimeout, ExecutionTimeout, WTimeoutError)) or error.timeout:
        log.warning("database_unreachable", error=type(error).__name__)
        return reply_of(Busy(retry_after=2), request)
    return on_anything(request, error)


def on_anything(request: AnyRequest, error: Exception) -> Response[dict[str, Any]]:
    """A fault of ours: logged whole, told without a detail."""
    log.error("unhandled_error", path=request.scope["path"], exc_info=error)
    return reply_of(Problem(), request)


HANDLERS: dict[Any, Any] = {
    Problem: on_problem,
    HTTPException: on_http_exception,
    PyMongoError: on_database,
    Exception: on_anything,
}


def _problem_of(request: AnyRequest, error: HTTPException) -> Problem:
    if isinstance(error, ValidationException):
        return InvalidFields(errors=_errors_of(request, error))
    if error.status_code == 404:
        return NotFound()
    if error.status_code == 405:
        allowed = (error.headers or {}).get("allow", "")
        return MethodNotAllowed(allowed=allowed or "others", headers={"Allow": allowed} if allowed else {})
    if error.status_code == 400:
        return Malformed(reason=_sentence(error.detail))
    return _plain(error)


def _errors_of(request: AnyRequest, error: ValidationException) -> list[dict[str, str]]:
    """All that is wrong with the body where that is the trouble; Litestar itself stops at the first."""
    listed = error.extra if isinstance(error.extra, list) else []
    about_body = any(str(getattr(each.get("source"), "value", each.get("source"))) == "body" for each in listed)
    if about_body or not listed:
        found = _body_faults(request)
        if found:
            return found
    return [
        {
            "pointer": "/" + re.sub(r"[.\[]", "/", str(each.get("key", ""))).replace("]", ""),
            "in": str(getattr(each.get("source"), "value", each.get("source") or "body")),
            "message": _sentence(str(each.get("message", ""))),
        }
        for each in listed
    ]


def _body_faults(request: AnyRequest) -> list[dict[str, str]]:
    field = getattr(request.route_handler, "parsed_data_field", None)
    return field_errors(field.annotation, json_read(request)) if field is not None else []


def _plain(error: HTTPException) -> Problem:
    """A status that has no class of its own here."""
    kind = _kind_of(error.status_code)
    return kind(reason=_sentence(error.detail), headers=dict(error.headers or {}))


@lru_cache(maxsize=64)
def _kind_of(status: int) -> type[Problem]:
    """The kind of problem that a status is, with its phrase for a code."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Refused"
    name = "".join(word.capitalize() for word in re.findall(r"[A-Za-z]+", phrase))
    return type(name, (Invalid,), {"__doc__": "{reason}", "status": status})


def _sentence(text: str) -> str:
    """Without the framework's own prefixes and line breaks, which tell a caller nothing."""
    return " ".join(re.sub(r"^Validation failed for .*$", "the request does not fit", text).split())[:300]
