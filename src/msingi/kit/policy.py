"""Who may do what with which document: each rule is said once, and decides on a document as well as it filters a list.

A rule answers who asks with a Mongo filter in a small language: fields that equal a text, a truth value or null, or one
of several (`$in`), put together by `$and` and `$or`. A list is fetched with that filter; a document at hand is held
against the same one here. There is no "not" in it, so a rule that fails, or answers what is not in the language, takes
its own grant away and can never make one. A decision costs 1 µs by one rule and 6 by four of them joined
(kit/tests/test_policy.py measures it).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from msgspec import UNSET, Struct

from msingi.kit.actors import Actor
from msingi.kit.db import Doc, Where
from msingi.kit.mongo_schema import sealed_in

NOTHING: Where = {"_id": {"$in": []}}
EVERYTHING: Where = {"_id": {"$exists": True}}  # stands for "no condition"; it is never sent to the database
PLAIN = (str, bool, type(None))  # what Python and MongoDB compare alike
Names = Mapping[str, str]  # the stored name of each field, and its attribute
D = TypeVar("D", bound=Doc)
log = structlog.get_logger("policy")


class Asker(Struct, frozen=True):
    """Who asks, with what was looked up about them: `roles` says what they are in which group (organisation, team)."""

    actor: Actor
    roles: Mapping[str, str] = {}


@dataclass(frozen=True)
class Rule:
    """Whom a document is open to. `a & b`: where both say so; `a | b`: where one does."""

    ask: Callable[[Asker, Names], Where]

    def __and__(self, other: "Rule") -> "Rule":
        return Rule(lambda asker, names: _both(self.ask(asker, names), other.ask(asker, names)))

    def __or__(self, other: "Rule") -> "Rule":
        return Rule(lambda asker, names: _either(self.ask(asker, names), other.ask(asker, names)))


class Policy(Generic[D]):
    """The rules on documents of one kind, each by the name of what it allows. What has no rule is allowed to nobody."""

    def __init__(self, kind: type[D], **rules: Rule) -> None:
        self.kind, self._rules = kind, rules
        sealed = sealed_in(kind)  # what the database cannot read it cannot compare
        fields = msgspec.structs.fields(kind)
        self._names = {each.encode_name: each.name for each in fields if each.encode_name not in sealed}

    def may(self, act: str, asker: Asker, doc: D) -> bool:
        """Whether who asks may do this with this document."""
        try:
            return isinstance(doc, self.kind) and _fits(self._answer(act, asker), doc, self._names)
        except Exception:  # fail closed, whatever the document is like
            log.error("policy_failed", act=act, actor=asker.actor.id, exc_info=True)
            return False

    def scope_filter(self, act: str, asker: Asker) -> Where:
        """The Mongo filter of the documents with which who asks may do this: those for which `may` says yes.

        It may stand beside any other condition, also on `_id`.
        """
        answer = self._answer(act, asker)
        return {} if answer is EVERYTHING else {"$and": [answer]}

    def _answer(self, act: str, asker: Asker) -> Where:
        rule = self._rules.get(act)
        return NOTHING if rule is None else rule.ask(asker, self._names)


# ---- what rules are made of


def names_actor(field: str) -> Rule:
    """The field holds the actor's id, or is a list that does: the owner, the author, one of those it is shared with."""
    return rule(lambda asker: {field: asker.actor.id})


def role_in(field: str, *roles: str) -> Rule:
    """The field names a group in which the actor has one of these roles; any, if none is named."""
    wanted = frozenset(roles)
    fits = wanted.__contains__ if wanted else lambda role: True
    return rule(lambda asker: {field: {"$in": [id for id, role in asker.roles.items() if fits(role)]}})


def has(field: str, *values: str | bool | None) -> Rule:
    """The field holds one of these values: the state that a document is in."""
    return rule(lambda asker: {field: {"$in": list(values)}})


def holds(permission: str) -> Rule:
    """One of the actor's roles in the house carries this permission; then it is all documents."""
    return rule(lambda asker: asker.actor.may(permission))


def proven_within(seconds: int) -> Rule:
    """The actor is there in person, and proved who they are in the last so many seconds."""
    return rule(lambda asker: asker.actor.in_person and asker.actor.is_proven(seconds))


def rule(where: Callable[[Asker], Where | bool]) -> Rule:
    """A rule of one's own: the filter of the documents that are open to who asks; True is all of them, False none.

    An empty filter, an unknown field or operator, a value that is not PLAIN, and an exception are none, and are logged.
    """

    def ask(asker: Asker, names: Names) -> Where:
        try:
            answer = where(asker)
            if isinstance(answer, bool):
                return EVERYTHING if answer else NOTHING
            return _readable(answer, names)
        except Exception:  # fail closed, whatever the rule did
            log.error("policy_rule_failed", actor=asker.actor.id, exc_info=True)
            return NOTHING

    return Rule(ask)


# ---- the language


def _both(one: Where, other: Where) -> Where:
    return _joined("$and", one, other, decides=NOTHING, leaves=EVERYTHING)


def _either(one: Where, other: Where) -> Where:
    return _joined("$or", one, other, decides=EVERYTHING, leaves=NOTHING)


def _joined(how: str, one: Where, other: Where, *, decides: Where, leaves: Where) -> Where:
    """Two filters as one: one answer `decides` whatever the other says, one `leaves` it to the other."""
    if one is decides or other is decides:
        return decides
    if one is leaves:
        return other
    return one if other is leaves else {how: [one, other]}


def _readable(where: Where, names: Names) -> Where:
    """The filter, if all of it is in the language. Raises TypeError."""
    if not isinstance(where, dict) or not where:
        raise TypeError("a rule answers with a filter, True or False")
    for key, wanted in where.items():
        if key in ("$and", "$or"):
            if not wanted:
                raise TypeError(f"{key} of nothing")
            for each in wanted:
                _readable(each, names)
        elif key not in names:
            raise TypeError(f"there is no field {key}")
        else:
            for value in _values(wanted):
                if type(value) not in PLAIN:
                    raise TypeError(f"{key} is compared with what is not plain")
    return where


def _values(wanted: Any) -> list[Any]:
    """What a field may equal. Raises TypeError for an operator that is not in the language."""
    if not isinstance(wanted, dict):
        return [wanted]
    if list(wanted) != ["$in"] or not isinstance(wanted["$in"], list):
        raise TypeError(f"{list(wanted)} is not in the language of rules")
    return wanted["$in"]


def _fits(where: Where, doc: Doc, names: Names) -> bool:
    """Whether MongoDB would find this document with a filter of the language."""
    if where is EVERYTHING:
        return True
    for key, wanted in where.items():
        if key == "$and":
            fits = all(_fits(each, doc, names) for each in wanted)
        elif key == "$or":
            fits = any(_fits(each, doc, names) for each in wanted)
        else:
            fits = _any_in(getattr(doc, names[key]), _values(wanted))
        if not fits:
            return False
    return True


def _any_in(held: Any, values: list[Any]) -> bool:
    """Whether a field holds one of these values, or, as a list, contains one."""
    if type(held) in PLAIN:
        return held in values
    several: Iterable[Any] = held if isinstance(held, (list, tuple, set, frozenset)) else (held,)
    return any(type(each) in PLAIN and each in values for each in map(_stored, several))


def _stored(value: Any) -> Any:
    """A value as it is stored: of an enum its value; what is unset is missing, which MongoDB finds as null."""
    if isinstance(value, Enum):
        return value.value
    return None if value is UNSET else value
