"""Which stored fields a view shows, so that a list asks for these alone and reads them as views at once."""

from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import NODEFAULT, Struct

Row = dict[str, Any]
V = TypeVar("V", bound=Struct)


class Shown(Generic[V]):
    """A view as rows are read into it: `fields` is what to ask for, as a projection of MongoDB's.

    A page of 20 tasks costs 62 µs this way, and 108 by way of documents (docs/decisions/0021). A field that a row lacks
    is what the document says it is then.
    """

    def __init__(self, stored: type[Struct], view: type[V]) -> None:
        held = {each.name: each for each in msgspec.structs.fields(stored)}
        self.fields: Row = {}
        defaults: list[Any] = []
        for each in msgspec.structs.fields(view):
            own = held.get(each.name)
            if own is None or own.type != each.type or each.encode_name != each.name:
                raise TypeError(f"{view.__name__}.{each.name} is not stored as such in {stored.__name__}")
            self.fields[own.encode_name] = 1
            defaults.append((each.name, each.type, _default(own)))
        # It is the view, under its name; in its order too, since that puts what has a default last, and here all have.
        reader = msgspec.defstruct(view.__name__, defaults, bases=(view,), module=view.__module__, kw_only=True)
        self._many = list[reader]  # type: ignore[valid-type]

    def read(self, rows: list[Row]) -> list[V]:
        """The views of these rows, which it takes apart."""
        for row in rows:
            row["id"] = row.pop("_id")
        views: list[V] = msgspec.convert(rows, self._many)
        return views


def _default(own: msgspec.structs.FieldInfo) -> Any:
    if own.default is not NODEFAULT:
        return msgspec.field(default=own.default)
    if own.default_factory is not NODEFAULT:
        return msgspec.field(default_factory=own.default_factory)

    def lacking() -> Any:
        raise msgspec.ValidationError(f"a row lacks the field `{own.encode_name}`")

    return msgspec.field(default_factory=lacking)


@lru_cache(maxsize=256)
def shown(stored: type[Struct], view: type[V]) -> Shown[V]:
    """How a view is read from rows of this kind. Raises TypeError if it shows what is not stored as such."""
    return Shown(stored, view)
