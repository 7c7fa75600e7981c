"""Where a handler's argument comes from, said in one word each, and what all routes share."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, delete, get, patch, post, put
from litestar.di import NamedDependency as Given
from litestar.di import Provide
from litestar.params import FromPath as Path
from litestar.params import FromQuery as Query
from litestar.params import JSONBody as Body

from msingi.kit.actors import Actor
from msingi.kit.db import Paging, Where, is_storable, plain
from msingi.kit.errors import Invalid, SignInFirst
from msingi.kit.reading import read_texts

__all__ = [
    "DEPENDENCIES",
    "Body",
    "Filters",
    "Given",
    "Path",
    "Query",
    "delete",
    "form_at",
    "get",
    "operation_id",
    "page_at",
    "patch",
    "post",
    "provided",
    "put",
]

AnyRequest = Request[Any, Any, Any]
PAGING = frozenset({"limit", "after", "sort"})
COMPARISONS = {"gt": "$gt", "gte": "$gte", "lt": "$lt", "lte": "$lte", "ne": "$ne", "in": "$in", "nin": "$nin"}


class BadFilter(Invalid):
    """This list cannot be asked for `{given}`: {reason}."""


class BadIfMatch(Invalid):
    """If-Match wants one version in quotes, as the ETag of the last answer gave it: `"3"`."""


class Filters:
    """What a list may be filtered by: a name in the query, its type, and the field it stands for.

    `Filters(status=str, priority=int, due=datetime, label=("labels", str))` reads `status=open`,
    `priority[gte]=3`, `due[lt]=2026-01-01T00:00:00Z`, `label[in]=farm,home` and `assignee=null`. Put it on the route as
    `filters=…` and take `where: Given[Where]`. Values are converted to the type, so no operator of the
    database's gets in.
    """

    def __init__(self, **fields: Any) -> None:
        self.fields: dict[str, tuple[str, Any]] = {
            name: kind if isinstance(kind, tuple) else (name, kind) for name, kind in fields.items()
        }

    def read(self, query: Mapping[str, list[str]], also: frozenset[str]) -> Where:
        """The Mongo filter of a query string. Raises BadFilter for what the list does not know."""
        clauses: list[Where] = []
        for given, values in query.items():
            name, comparison = _split(given)
            if name not in self.fields:
                if given in also:
                    continue
                known = ", ".join([*self.fields, *sorted(also)])
                raise BadFilter(given=given, reason=f"it knows {known}")
            field, kind = self.fields[name]
            clauses.extend(_clause(given, field, kind, comparison, value) for value in values)
        return {"$and": clauses} if clauses else {}


def _split(given: str) -> tuple[str, str]:
    name, bracket, rest = given.partition("[")
    if not bracket:
        return name, "eq"
    return name, rest[:-1] if rest.endswith("]") else given


def _clause(given: str, field: str, kind: Any, comparison: str, value: str) -> Where:
    if comparison == "eq":
        return {field: _value(given, kind, value)}
    if comparison not in COMPARISONS:
        raise BadFilter(given=given, reason=f"compare with {', '.join(COMPARISONS)}")
    if comparison in ("in", "nin"):
        return {field: {COMPARISONS[comparison]: [_value(given, kind, each) for each in value.split(",")]}}
    return {field: {COMPARISONS[comparison]: _value(given, kind, value)}}


def _value(given: str, kind: Any, value: str) -> Any:
    if value == "null":
        return None
    try:
        read = msgspec.convert(value, kind, strict=False)
    except (msgspec.ValidationError, ValueError, OverflowError) as fault:  # the calendar has its own words for no
        raise BadFilter(given=given, reason=str(fault)) from None
    if isinstance(read, datetime) and read.tzinfo is None:
        raise BadFilter(given=given, reason="a time needs its zone, as in 2026-01-31T08:00:00Z")
    if not is_storable(read):
        raise BadFilter(given=given, reason="this is farther than anything reaches")
    return plain(read)


async def given_actor(request: AnyRequest) -> Actor:
    """The signed-in actor. On a public route use `request.user`, which may be None."""
    actor = request.scope.get("user")
    if not isinstance(actor, Actor):
        raise SignInFirst
    return actor


async def given_page(request: AnyRequest) -> Paging:
    """`limit`, `after` and `sort` of the query string. Raises InvalidFields."""
    asked = {name: value for name, value in request.query_params.items() if name in PAGING and value != ""}
    return read_texts(Paging, asked, "query")


async def given_where(request: AnyRequest) -> Where:
    """The filter that the route's `filters=Filters(…)` reads from the query string."""
    handler = request.route_handler
    filters: Filters = handler.opt.get("filters") or Filters()
    query: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        query.setdefault(name, []).append(value)
    return filters.read(query, PAGING | frozenset(handler.opt.get("also", ())))


async def given_if_match(request: AnyRequest) -> int | None:
    """The version that the caller decided on (`If-Match: "3"`), or None if the header is absent or `*`."""
    header = request.headers.get("if-match", "").strip()
    if header in ("", "*"):
        return None
    number = header.removeprefix("W/").strip('"')
    if not (number.isascii() and number.isdigit() and len(number) < 16):
        raise BadIfMatch
    return int(number)


def page_at(path: str, **options: Any) -> get:
    """A page for people, which the description for programs leaves out: `get` with what all pages have in common."""
    return get(path, page=True, include_in_schema=False, **options)


def form_at(path: str, **options: Any) -> post:
    """Where a page's form is sent to. It brings its own token, and a browser sends it again only when told to."""
    return post(path, page=True, include_in_schema=False, idempotency="off", **options)


def operation_id(handler: Any) -> str:
    """`notes_list_notes`: the product and the handler's name, which stay when the address moves."""
    product = handler.opt.get("product")
    return f"{product}_{handler.handler_name}" if product else str(handler.handler_name)


# What every handler may take as `Given[…]`.
DEPENDENCIES: Mapping[str, Any] = {
    "actor": given_actor,
    "page": given_page,
    "where": given_where,
    "if_match": given_if_match,
}


def provided(dependencies: Mapping[str, Any]) -> dict[str, Provide]:
    """Dependencies in Litestar's own wrapping: it reads the signature of each once, and not once for each handler.

    With five hundred handlers that is half of the time in which an application is built.
    """
    return {name: Provide(make) for name, make in dependencies.items()}
