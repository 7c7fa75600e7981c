"""The OpenAPI 3.1 description: what Litestar reads from the handlers, and what all routes of the house share."""

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.types.internal_types import PathParameterDefinition
from msgspec import inspect as mi

from msingi.kit.auth import InsufficientUserAuthentication
from msingi.kit.errors import Problem, code_of
from msingi.kit.http import COMPARISONS, Filters

Json = dict[str, Any]

PROBLEM: Json = {
    "type": "object",
    "description": "What went wrong and what to do about it (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "examples": ["/problems/not_found"]},
        "title": {"type": "string", "examples": ["Not found"]},
        "status": {"type": "integer", "examples": [404]},
        "detail": {"type": "string", "examples": ["There is no such thing, or none that you may see."]},
        "code": {"type": "string", "examples": ["not_found"]},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "examples": ["/title"]},
                    "in": {"type": "string", "enum": ["body", "query", "path", "header"]},
                    "message": {"type": "string"},
                },
            },
        },
    },
}
COMMON: dict[int, str] = {
    400: "The request cannot be read.",
    401: "Sign in first.",
    403: "Seen, but not allowed.",
    404: "There is no such thing, or none that you may see.",
    409: "This clashes with how things stand now.",
    413: "The request is too large.",
    415: "This kind of content is not taken here.",
    422: "The request can be read, but does not hold what it should.",
    429: "Too many requests; `Retry-After` says when to try again.",
    503: "Too much is going on right now, or the database cannot be reached; `Retry-After` says when to try again.",
}
PAGE: list[Json] = [
    {
        "name": "limit",
        "in": "query",
        "description": "How many items the page may hold.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    },
    {"name": "after", "in": "query", "description": "The `next` of the page before.", "schema": {"type": "string"}},
    {"name": "sort", "in": "query", "description": "A field; `-` before it: descending.", "schema": {"type": "string"}},
]
IF_MATCH: Json = {
    "name": "If-Match",
    "in": "header",
    "description": 'The version that this is decided on, as the ETag gave it: `"3"`.',
    "schema": {"type": "string"},
}
IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Any text up to 255 characters: the same key with the same request is done once and answered alike.",
    "schema": {"type": "string", "maxLength": 255},
}


@lru_cache(maxsize=32)
def describe(app: Litestar, product: str | None = None) -> Json:
    """The description of all that this process serves, or of one product: made once, and not to be changed."""
    return _whole(app) if product is None else _part(describe(app), product)


def _whole(app: Litestar) -> Json:
    described = deepcopy(app.openapi_schema.to_schema())
    components = described.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM
    components["responses"] = {str(status): _problem_reply(text) for status, text in COMMON.items()}
    for path, method, handler in _operations(app):
        operation = described["paths"].get(path, {}).get(method)
        if operation is not None:
            _complete(operation, path, method, handler)
            _refuse_unknown_fields(components["schemas"], operation, handler)
    return described


def _operations(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        handlers: Mapping[str, Any] = getattr(route, "route_handler_map", {})
        for method, found in handlers.items():
            handler = found[0] if isinstance(found, tuple) else found
            if isinstance(handler, HTTPRouteHandler) and method != "OPTIONS":
                yield _openapi_path(route), method.lower(), handler


def _openapi_path(route: Any) -> str:
    named = (isinstance(part, PathParameterDefinition) for part in route.path_components)
    parts = [f"{{{part.name}}}" if name else part for part, name in zip(route.path_components, named, strict=True)]
    return "/" + "/".join(parts)


def _complete(operation: Json, path: str, method: str, handler: HTTPRouteHandler) -> None:
    """What the handlers need not say each for itself."""
    opt = handler.opt
    operation["summary"] = _words(handler.handler_name)
    taken = set(handler.parsed_fn_signature.parameters)
    more: list[Json] = [*PAGE] if "page" in taken else []
    if "where" in taken and isinstance(opt.get("filters"), Filters):
        more += _filter_parameters(opt["filters"])
    if "if_match" in taken:
        more.append(IF_MATCH)
    if method == "post" and opt.get("idempotency") != "off":
        more.append(IDEMPOTENCY_KEY | {"required": opt.get("idempotency") == "required"})
    if more:
        operation["parameters"] = [*operation.get("parameters", []), *more]
    if isinstance(opt.get("upload"), tuple):
        operation["requestBody"] = _upload(opt["upload"])
    public = opt.get("public") is True
    operation["security"] = [] if public else [{"bearer": []}, {"session": []}]
    statuses = {429, 503, *({400, 413, 415, 422} if "requestBody" in operation else set())}
    statuses |= set() if public else {401}
    statuses |= {404} if "{" in path else set()
    statuses |= {403} if opt.get("permission") else set()
    statuses |= {409} if method in ("post", "put", "patch", "delete") else set()
    statuses |= {422} if more else set()
    replies = operation.setdefault("responses", {})
    replies.pop("400", None)  # Litestar's own guess, in a shape that is not ours
    for status in sorted(statuses):
        replies[str(status)] = {"$ref": f"#/components/responses/{status}"}
    if opt.get("step_up") is True:
        replies["401"] = _named(None, InsufficientUserAuthentication)
    for problem in opt.get("problems", ()):
        replies[str(problem.status)] = _named(replies.get(str(problem.status)), problem)


def _upload(kinds: Iterable[str]) -> Json:
    """A file, as it is or as the one file of a form."""
    form = {"type": "object", "properties": {"file": {"type": "string", "contentMediaType": ", ".join(kinds)}}}
    content: Json = {kind: {} for kind in kinds}
    return {"required": True, "content": content | {"multipart/form-data": {"schema": form}}}


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _named(reply: Json | None, problem: type[Problem]) -> Json:
    """A reply whose description names each problem of this status that the operation can answer with."""
    line = f"`{code_of(problem)}`: {(problem.__doc__ or '').strip()}"
    before = reply.get("description") if reply and "$ref" not in reply else COMMON.get(problem.status)
    return _problem_reply("\n\n".join(text for text in (before, line) if text))


def _problem_reply(text: str) -> Json:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": text, "content": content}


def _filter_parameters(filters: Filters) -> list[Json]:
    found = []
    for name, (_, kind) in filters.fields.items():
        found.append({"name": name, "in": "query", "schema": _filter_schema(kind)})
        comparisons = ", ".join(f"`{name}[{comparison}]=`" for comparison in COMPARISONS)
        found[-1]["description"] = f"Equal to; also {comparisons}."
    return found


def _filter_schema(kind: Any) -> Json:
    """The schema of a filter's value, with nothing in it that stands elsewhere."""
    if kind is datetime:
        return {"type": "string", "format": "date-time"}
    (schema,), named = msgspec.json.schema_components([kind], ref_template="{name}")
    return named[schema["$ref"]] if "$ref" in schema else schema


def _refuse_unknown_fields(schemas: Json, operation: Json, handler: HTTPRouteHandler) -> None:
    """Say of the form that an operation takes, and of those within it, that they refuse what they do not know."""
    field = handler.parsed_data_field
    if field is None:
        return
    strict = {kind.__name__ for kind in _strict_structs(mi.type_info(field.annotation))}
    for name in _reachable(schemas, _references(operation.get("requestBody", {}))):
        # Where two classes have the same name, the names here begin with their modules'.
        if re.split(r"[._]", name)[-1] in strict:
            schemas[name]["additionalProperties"] = False


def _strict_structs(info: Any, seen: tuple[type, ...] = ()) -> Iterator[type]:
    """The Structs in a type that refuse unknown fields."""
    if isinstance(info, mi.StructType):
        if info.cls in seen:
            return
        seen = (*seen, info.cls)
        if info.forbid_unknown_fields:
            yield info.cls
    inner = [field.type for field in getattr(info, "fields", ())]
    inner += [getattr(info, name) for name in ("type", "item_type", "value_type") if hasattr(info, name)]
    for each in [*inner, *getattr(info, "types", ()), *(getattr(info, "item_types", ()))]:
        yield from _strict_structs(each, seen)


def _part(whole: Json, product: str) -> Json:
    paths = {
        path: kept
        for path, operations in whole["paths"].items()
        if (kept := {method: each for method, each in operations.items() if product in each.get("tags", ())})
    }
    part = {**whole, "paths": paths, "info": {**whole["info"], "title": f"Msingi {product}"}}
    schemas = whole["components"]["schemas"]
    kept_names = _reachable(schemas, [*_references(paths), "Problem"])
    part["components"] = {**whole["components"], "schemas": {name: schemas[name] for name in sorted(kept_names)}}
    return part


def _reachable(schemas: Mapping[str, Json], names: list[str]) -> set[str]:
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name in schemas and name not in seen:
            seen.add(name)
            names += _references(schemas[name])
    return seen


def _references(value: Any) -> list[str]:
    text = msgspec.json.encode(value).decode()
    return re.findall(r"#/components/schemas/([^\"]+)", text)


def postman(described: Json, base_url: str) -> Json:
    """The same as a Postman collection (v2.1): a folder a product; signing in fills in the token for the others."""
    folders: dict[str, list[Json]] = {}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["house"])[0]
            folders.setdefault(tag, []).append(_postman_item(described, path, method, operation))
    return {
        "info": {
            "name": described["info"]["title"],
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
        },
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{access_token}}", "type": "string"}]},
        "variable": [{"key": "base_url", "value": base_url}, {"key": "access_token", "value": ""}],
        "item": [{"name": name, "item": items} for name, items in sorted(folders.items())],
    }


def _postman_item(described: Json, path: str, method: str, operation: Json) -> Json:
    placed = re.sub(r"\{(\w+)\}", r":\1", path)
    request: Json = {
        "method": method.upper(),
        "url": {"raw": "{{base_url}}" + placed, "host": ["{{base_url}}"], "path": placed.strip("/").split("/")},
        "description": operation.get("description", ""),
        "header": [],
    }
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        request["header"].append({"key": "Content-Type", "value": "application/json"})
        sample = msgspec.json.format(msgspec.json.encode(sample_of(body, described["components"]["schemas"])), indent=2)
        request["body"] = {"mode": "raw", "raw": sample.decode(), "options": {"raw": {"language": "json"}}}
    if operation.get("security") == []:
        request["auth"] = {"type": "noauth"}
    item: Json = {"name": operation.get("summary") or operation["operationId"], "request": request}
    if path.endswith("/sign-in"):
        keep = "pm.collectionVariables.set('access_token', pm.response.json().access_token);"
        item["event"] = [{"listen": "test", "script": {"type": "text/javascript", "exec": [keep]}}]
    return item


def sample_of(schema: Json, schemas: Mapping[str, Json], depth: int = 0) -> Any:
    """A value that fits a schema: its first example or default, else the simplest thing of its type."""
    if "$ref" in schema:
        return sample_of(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas, depth + 1) if depth < 6 else {}
    for known in ("examples", "enum"):
        if schema.get(known):
            return next(iter(schema[known].values())) if isinstance(schema[known], dict) else schema[known][0]
    for known in ("const", "default"):
        if known in schema:
            return schema[known]
    for several in ("oneOf", "anyOf"):
        if schema.get(several):
            return sample_of(schema[several][0], schemas, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        wanted = schema.get("required", [])
        return {
            name: sample_of(each, schemas, depth + 1)
            for name, each in schema.get("properties", {}).items()
            if name in wanted or each.get("examples")
        }
    if kind == "array":
        return [sample_of(schema["items"], schemas, depth + 1) for _ in range(schema.get("minItems", 0))]
    formats = {"date-time": "2026-01-31T08:00:00Z", "date": "2026-01-31", "email": "ann@msingi.test"}
    simple = {"string": formats.get(schema.get("format", ""), "text"), "integer": 1, "number": 1.5, "boolean": True}
    return simple.get(str(kind))
