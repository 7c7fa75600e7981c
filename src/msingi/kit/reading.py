"""What a request says, read with suspicion: bytes that are no JSON are the sender's fault, never ours."""

from collections.abc import Callable, Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
from litestar import Request
from litestar.datastructures import FormMultiDict
from litestar.exceptions import SerializationException
from litestar.serialization import default_deserializer
from litestar.types import Empty
from litestar.utils.scope.state import ScopeState
from msgspec import UNSET, Struct

from msingi.kit.errors import InvalidFields, Malformed, Problem, UnsupportedMedia

DEEPEST = 64  # levels of nesting; MongoDB stores a hundred, and nobody means that many
MOST_FAULTS = 50
R = TypeVar("R")


class KitRequest(Request[Any, Any, Any]):
    """A request whose body, when it cannot be read, raises Malformed (400) or UnsupportedMedia (415)."""

    async def json(self) -> Any:
        """The body as the form that the handler takes, else as plain JSON.

        A form is read strictly: `"3"` is no number. Raises UnsupportedMedia for what says that it is no JSON, and
        InvalidFields, which names every fault.
        """
        kind = self._said_type()
        if kind and kind != "application/json" and not kind.endswith("+json"):
            raise UnsupportedMedia(wanted="application/json")
        body = await self.body()
        form = _form_of(self.scope["route_handler"])
        if form is None or body.count(b"[") + body.count(b"{") > DEEPEST:
            plain = await self._plain(body)
            return plain if form is None else strictly(form, plain)
        try:
            return _decoder(form).decode(body or b"null")
        except msgspec.ValidationError:
            return strictly(form, await self._plain(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise Malformed(reason=_reason(fault)) from None

    async def _plain(self, body: bytes) -> Any:
        try:
            read = await super().json()
        except (SerializationException, UnicodeDecodeError, RecursionError, ValueError) as fault:
            raise Malformed(reason=_reason(fault)) from None
        if body.count(b"[") + body.count(b"{") > DEEPEST and _is_deeper(read, DEEPEST):
            raise Malformed(reason=f"it is nested more than {DEEPEST} levels deep")
        return read

    async def msgpack(self) -> Any:
        """The body as MessagePack."""
        try:
            return await super().msgpack()
        except (SerializationException, UnicodeDecodeError, RecursionError, ValueError) as fault:
            raise Malformed(reason=_reason(fault)) from None

    async def form(self) -> FormMultiDict:
        """The body as a form."""
        try:
            return await super().form()
        except (UnicodeDecodeError, LookupError, ValueError) as fault:
            raise Malformed(reason=_reason(fault)) from None

    def _said_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@cache
def _form_of(handler: Any) -> Any:
    """The Struct that a handler takes as its body, if it takes one."""
    field = getattr(handler, "parsed_data_field", None)
    kind = _container(field.annotation, {}) if field is not None else None
    return kind if _is_struct(kind) else None


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, dec_hook=default_deserializer)


def strictly(kind: Any, raw: Any) -> Any:
    """A form from plain JSON. Raises InvalidFields with all that is wrong."""
    try:
        return msgspec.convert(raw, kind, dec_hook=default_deserializer)
    except msgspec.ValidationError as fault:
        errors = field_errors(kind, raw) or [{"pointer": "", "in": "body", "message": str(fault)}]
        raise InvalidFields(errors=errors) from None


def json_read(request: Request[Any, Any, Any]) -> Any:
    """The JSON body that was read before, else None: for an exception handler, which cannot wait for it."""
    read = ScopeState.from_scope(request.scope).json
    return None if read is Empty else read


def _reason(fault: Exception) -> str:
    if isinstance(fault, RecursionError):
        return f"it is nested more than {DEEPEST} levels deep"
    if isinstance(fault, UnicodeDecodeError):
        return "it is not valid UTF-8"
    text, _, _ = str(fault).partition(" - at `")
    return text or "its content is broken"


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested deeper than this. Without recursion, since it looks at hostile input."""
    layer = [value]
    for _ in range(levels):
        layer = [child for each in layer for child in _children(each)]
        if not layer:
            return False
    return True


def _children(value: Any) -> list[Any]:
    found: Any = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in found if isinstance(each, (dict, list))]


def read_texts(kind: type[R], texts: Any, place: str) -> R:
    """What a query string or a page's form says, as a Struct: all values are text, so `"3"` is a number here.

    `place` is where it stands: `query` or `body`. Raises InvalidFields, which names every fault.
    """
    try:
        return msgspec.convert(texts, kind, strict=False)
    except msgspec.ValidationError as fault:
        errors = field_errors(kind, texts, place, strict=False)
        raise InvalidFields(errors=errors or [{"pointer": "", "in": place, "message": str(fault)}]) from None


def field_errors(kind: Any, raw: Any, place: str = "body", *, strict: bool = True) -> list[dict[str, str]]:
    """All that is wrong with a decoded JSON value, held against a msgspec type: `[{"pointer", "in", "message"}, …]`.

    `pointer` is a JSON Pointer (RFC 6901) into the body. msgspec by itself stops at the first fault; here every field
    of every nested Struct and list is looked at, up to MOST_FAULTS. An empty list means that the value will do.
    A number that comes as text is a fault, if `strict`.
    """
    found: list[dict[str, str]] = []
    for pointer, message in _faults(kind, raw, "", strict):
        found.append({"pointer": pointer, "in": place, "message": message})
        if len(found) == MOST_FAULTS:
            break
    return found


def _faults(kind: Any, raw: Any, pointer: str, strict: bool) -> Iterator[tuple[str, str]]:
    wanted = _container(kind, raw)
    parts: Callable[[], Iterator[tuple[str, str]]] | None = None
    if isinstance(raw, dict) and _is_struct(wanted):
        parts = lambda: _faults_of_fields(wanted, raw, pointer, strict)  # noqa: E731
    elif isinstance(raw, list) and get_origin(wanted) in (list, set, frozenset, tuple) and get_args(wanted):
        parts = lambda: _faults_of_items(get_args(wanted)[0], raw, pointer, strict)  # noqa: E731
    some = False
    for fault in parts() if parts else ():
        some = True
        yield fault
    if not some:
        # The parts are right each by itself; what is left is a fault of the whole: its length, its __post_init__.
        yield from _fault_of_whole(kind, raw, pointer, strict)


def _faults_of_fields(kind: type[Struct], raw: dict[str, Any], pointer: str, strict: bool) -> Iterator[tuple[str, str]]:
    config = kind.__struct_config__
    names = {config.tag_field} if config.tag_field else set()
    for each in msgspec.structs.fields(kind):
        name = each.encode_name
        names.add(name)
        if name in raw:
            yield from _faults(each.type, raw[name], f"{pointer}/{_escaped(name)}", strict)
        elif each.required:
            yield f"{pointer}/{_escaped(name)}", "This is required"
    if config.forbid_unknown_fields:
        for name in raw.keys() - names:
            yield f"{pointer}/{_escaped(name)}", "There is no such field"


def _faults_of_items(kind: Any, raw: list[Any], pointer: str, strict: bool) -> Iterator[tuple[str, str]]:
    for index, item in enumerate(raw):
        yield from _faults(kind, item, f"{pointer}/{index}", strict)


def _fault_of_whole(kind: Any, raw: Any, pointer: str, strict: bool) -> Iterator[tuple[str, str]]:
    try:
        msgspec.convert(raw, kind, strict=strict, dec_hook=default_deserializer)
    except msgspec.ValidationError as fault:
        message, _, path = str(fault).partition(" - at `$")
        yield pointer + _pointer(path.rstrip("`")), message
    except Problem as problem:
        yield pointer, str(problem)


def _container(kind: Any, raw: Any) -> Any:
    """The Struct or list among what a field may hold, without `Annotated`, None and UNSET around it."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, UnionType):
        return kind
    fitting = [_container(each, raw) for each in get_args(kind) if each not in (type(None), type(UNSET))]
    # Among several Structs the tag decides, which msgspec reads better than we would.
    return fitting[0] if len(fitting) == 1 else kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct) and not kind.__struct_config__.array_like


def _pointer(path: str) -> str:
    """msgspec's `.items[0].name` as a JSON Pointer. A key that it does not name (`[...]`) ends the pointer."""
    return path.partition("[...]")[0].replace("[", "/").replace("]", "").replace(".", "/")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
