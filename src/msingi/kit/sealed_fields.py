"""The fields of a collection that are sealed at rest: closed on the way in, opened on the way out, never searched.

What is searched by equality keeps a blind index beside it (`sealing.blind`), as a field of its own.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Meta

from msingi.kit import sealing
from msingi.kit.mongo_schema import sealed_in

SEALED = Meta(extra={"sealed": True})
ASKED_WHETHER = {"$exists", "$ne", "$type"}  # of a sealed field: whether there is anything
Row = dict[str, Any]


class SealedField(TypeError):
    """A sealed field is asked for what only a clear one can do: a mistake of the code, told where it is made."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{field} is sealed at rest, so it cannot be {what}; keep sealing.blind(…) beside it")


class Sealed:
    """The sealed fields of one kind of document."""

    def __init__(self, kind: type[msgspec.Struct], keys_of_indexes: Iterable[str]) -> None:
        types = {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
        self.decoders = {name: msgspec.msgpack.Decoder(types[name]) for name in sealed_in(kind)}
        for keys in keys_of_indexes:
            self.check_keys((key.lstrip("-").split(":")[0] for key in keys.split()), "indexed")

    def __bool__(self) -> bool:
        return bool(self.decoders)

    # ---- in and out

    def close(self, row: Row, store: str) -> None:
        """Seal a new row's fields, where they stand."""
        for name in self.decoders:
            if row.get(name) is not None:
                row[name] = _closed(row[name], store, row["_id"], name)

    def open(self, row: Row, store: str) -> None:
        """Open a row's fields, where they stand. Raises CannotOpen."""
        for name, decoder in self.decoders.items():
            if row.get(name) is not None:
                row[name] = decoder.decode(sealing.open_field(row[name], _place(store, row["_id"], name), store))

    def close_update(self, update: Row, store: str, id: str | None) -> None:
        """Seal what an update sets in the document `id` (None: in many, which can only be emptied).

        Raises SealedField.
        """
        for operator, changed in update.items():
            if operator == "$unset" or not isinstance(changed, Mapping):
                continue
            if operator == "$set" and id is not None:
                self.check_keys((key for key in changed if "." in key), "changed in part")
                given = {key: value for key, value in changed.items() if key in self.decoders and value is not None}
                update[operator] = {**changed, **{key: _closed(given[key], store, id, key) for key in given}}
            else:
                clear = (key for key, value in changed.items() if operator != "$set" or value is not None)
                self.check_keys(clear, f"changed by {operator}{'' if id else ' in many documents at once'}")

    # ---- what cannot be asked

    def check_keys(self, keys: Iterable[str], what: str) -> None:
        """Raises SealedField if one of these is sealed."""
        for key in keys:
            if key.split(".")[0] in self.decoders:
                raise SealedField(key, what)

    def check_where(self, where: Any) -> None:
        """Raises SealedField if a filter asks for the value of a sealed field; whether there is one may be asked."""
        if isinstance(where, Mapping):
            for key, wanted in where.items():
                if key == "$expr":
                    self.check_expression(wanted)
                elif key.startswith("$"):
                    self.check_where(wanted)
                elif not _asks_whether(wanted):
                    self.check_keys([key], "filtered")
        elif isinstance(where, list | tuple):
            for each in where:
                self.check_where(each)

    def check_expression(self, said: Any) -> None:
        """Raises SealedField if an expression of an aggregation names a sealed field."""
        _walk(said, lambda text: self.check_keys([text[1:]], "computed with"))

    def check_stages(self, stages: Iterable[Row]) -> None:
        """Raises SealedField if an update in stages sets, takes away or computes with a sealed field."""
        for stage in stages:
            if set(stage) != {"$set"}:
                raise TypeError("beside sealed fields an update in stages may only $set")
            self.check_keys(stage["$set"], "changed in stages")
            self.check_expression(stage["$set"])

    def check_pipeline(self, pipeline: Iterable[Row]) -> None:
        """Raises SealedField if a pipeline sorts, filters or computes by a sealed field."""
        for stage in pipeline:
            self.check_where(stage.get("$match", {}))
            self.check_keys(stage.get("$sort", {}), "sorted by")
            self.check_expression({key: value for key, value in stage.items() if key not in ("$match", "$sort")})


def _closed(value: Any, store: str, id: str, name: str) -> bytes:
    return sealing.seal_field(msgspec.msgpack.encode(value), _place(store, id, name), store)


def _place(store: str, id: str, name: str) -> str:
    return f"{store}/{id}/{name}"


def _asks_whether(wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return all(key in ASKED_WHETHER and (key != "$ne" or value is None) for key, value in wanted.items())
    return wanted is None


def _walk(said: Any, check: Callable[[str], None]) -> None:
    if isinstance(said, str):
        if said.startswith("$") and not said.startswith("$$"):
            check(said)
    elif isinstance(said, Mapping):
        for value in said.values():
            _walk(value, check)
    elif isinstance(said, list | tuple):
        for each in said:
            _walk(each, check)
