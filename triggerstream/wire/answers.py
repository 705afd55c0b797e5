"""Answers about sessions, to and from JSON."""

from __future__ import annotations

from typing import Any, TypeVar, assert_never, cast

import msgspec

from triggerstream.core.condition_tree import ConditionTree, GroupKind, GroupTree, LeafTree, TreeNode
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import Instant, Json, JsonObject
from triggerstream.wire.instants import format_instant, parse_instant

_T = TypeVar("_T", bound=msgspec.Struct)
_LEVELS = 20
"""More than the levels of a condition in a tasks file."""


def to_json(answer: msgspec.Struct) -> JsonObject:
    """The JSON object of an answer, with instants as RFC 3339 text."""
    return cast("JsonObject", msgspec.to_builtins(answer, enc_hook=_json_of))


def from_json(fields: JsonObject, kind: type[_T]) -> _T:
    """The answer that another process gave as JSON; fields that this release does not know are ignored.

    Raises:
        DecodeError: a field is missing or has another type.
    """
    try:
        return msgspec.convert(fields, kind, dec_hook=_value_of)
    except msgspec.ValidationError as exc:
        raise DecodeError(str(exc)) from exc


def _json_of(value: Any) -> Json:  # noqa: ANN401 - msgspec asks for every type that it does not know
    if isinstance(value, Instant):
        return format_instant(value)
    if isinstance(value, ConditionTree):
        return _node_json(value.root)
    raise NotImplementedError(type(value))


def _node_json(node: TreeNode) -> JsonObject:
    match node:
        case LeafTree():
            return to_json(node)
        case GroupTree():
            members: list[Json] = [_node_json(member) for member in node.members]
            return {node.kind.value: members, "need": node.need, "have": node.have, "met": node.met}
        case _ as never:
            assert_never(never)


def _value_of(kind: type, value: Any) -> Instant | ConditionTree:  # noqa: ANN401 - any value of a struct
    if kind is ConditionTree:
        return ConditionTree(_node_of(value, level=0))
    if kind is Instant and isinstance(value, str):
        try:
            return Instant(parse_instant(value, path=""))
        except DecodeError as exc:
            raise ValueError(str(exc).removeprefix(": ")) from exc
    raise ValueError(f"Expected `str`, got `{type(value).__name__}`")


class _GroupFields(msgspec.Struct, frozen=True, kw_only=True):
    need: int
    have: int
    met: bool


def _node_of(value: Any, *, level: int) -> TreeNode:  # noqa: ANN401 - JSON
    """The node that ``value`` says: a group has a key of its kind, a leaf has none."""
    kind = next((one for one in GroupKind if isinstance(value, dict) and one.value in value), None)
    if kind is None:
        return msgspec.convert(value, LeafTree, dec_hook=_value_of)
    members = value[kind.value]
    if level > _LEVELS or not isinstance(members, list):
        raise ValueError(f"`{kind}` must be a list of conditions, at most {_LEVELS} levels deep")
    fields = msgspec.convert(value, _GroupFields)
    return GroupTree(
        kind=kind,
        members=[_node_of(member, level=level + 1) for member in members],
        need=fields.need,
        have=fields.have,
        met=fields.met,
    )
