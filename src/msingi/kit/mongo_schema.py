"""MongoDB's `$jsonSchema` from msgspec types, so that the database refuses what the types refuse.

Built on `msgspec.inspect`: `msgspec.json.schema` loses dates and bytes, and BSON wants `bsonType`.
"""

from typing import Any

from msgspec import NODEFAULT
from msgspec import inspect as mi

Schema = dict[str, Any]


def schema_of(kind: type) -> Schema:
    """The `$jsonSchema` of a Struct, without the fields that carry events. A sealed field is binary, or null."""
    info = mi.type_info(kind)
    schema = _schema(info)
    if isinstance(info, mi.StructType):
        schema["properties"] |= {name: dict(SEALED) for name in sealed_in(kind)}
    return schema


def sealed_in(kind: type) -> list[str]:
    """The names of the fields of a Struct that are sealed at rest (`kit.db.SEALED`)."""
    info = mi.type_info(kind)
    fields = info.fields if isinstance(info, mi.StructType) else ()
    return [each.encode_name for each in fields if _is_sealed(each.type)]


def _is_sealed(kind: mi.Type) -> bool:
    match kind:
        case mi.Metadata():
            return bool((kind.extra or {}).get("sealed"))
        case mi.UnionType():
            return any(_is_sealed(each) for each in kind.types)
        case _:
            return False


def _schema(kind: mi.Type) -> Schema:
    match kind:
        case mi.Metadata():
            return _schema(kind.type)
        case mi.StructType():
            return _struct(kind)
        case mi.UnionType():
            return {"anyOf": [_schema(each) for each in kind.types]}
        case mi.StrType():
            return {"bsonType": "string", **_given(minLength=kind.min_length, maxLength=kind.max_length)}
        case mi.IntType():
            return {"bsonType": ["int", "long"], **_range(kind)}
        case mi.FloatType():
            return {"bsonType": ["double", "int", "long"], **_range(kind)}
        case mi.ListType() | mi.SetType() | mi.FrozenSetType() | mi.VarTupleType():
            bounds = _given(minItems=kind.min_length, maxItems=kind.max_length)
            return {"bsonType": "array", "items": _schema(kind.item_type), **bounds}
        case mi.TupleType():
            return {"bsonType": "array", "items": [_schema(each) for each in kind.item_types]}
        case mi.DictType():
            return {"bsonType": "object", "additionalProperties": _schema(kind.value_type)}
        case mi.LiteralType():
            return {"enum": list(kind.values)}
        case mi.EnumType():
            return {"enum": [each.value for each in kind.cls]}
        case _:
            return dict(_SIMPLE[type(kind)])


SEALED: Schema = {"bsonType": ["binData", "null"]}
_SIMPLE: dict[type, Schema] = {
    mi.DateTimeType: {"bsonType": "date"},
    mi.DateType: {"bsonType": "string"},
    mi.TimeType: {"bsonType": "string"},
    mi.BoolType: {"bsonType": "bool"},
    mi.NoneType: {"bsonType": "null"},
    mi.BytesType: {"bsonType": "binData"},
    mi.DecimalType: {"bsonType": "string"},
    mi.UUIDType: {"bsonType": "string"},
    mi.AnyType: {},
}


def _struct(kind: mi.StructType) -> Schema:
    properties = {each.encode_name: _schema(each.type) for each in kind.fields}
    required = [each.encode_name for each in kind.fields if not _may_be_unset(each)]
    if kind.tag_field:
        properties[kind.tag_field] = {"enum": [kind.tag]}
        required.append(kind.tag_field)
    return {"bsonType": "object", "properties": properties, **({"required": required} if required else {})}


def _may_be_unset(each: mi.Field) -> bool:
    """A field with neither need nor default: msgspec shows one that defaults to UNSET so, without its UnsetType."""
    return not each.required and each.default is NODEFAULT and each.default_factory is NODEFAULT


def _range(kind: mi.IntType | mi.FloatType) -> Schema:
    low = _given(minimum=kind.ge if kind.ge is not None else kind.gt)
    high = _given(maximum=kind.le if kind.le is not None else kind.lt)
    if kind.gt is not None:
        low["exclusiveMinimum"] = True
    if kind.lt is not None:
        high["exclusiveMaximum"] = True
    return low | high


def _given(**bounds: Any) -> Schema:
    return {name: bound for name, bound in bounds.items() if bound is not None}
