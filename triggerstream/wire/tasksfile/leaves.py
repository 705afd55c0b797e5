"""Reads leaves: the name of a trigger, or an object with ``trigger`` and what is asked of its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, assert_never, get_args

from triggerstream.core.conditions import Each, Leaf, Path
from triggerstream.core.events import ENGINE_PREFIX
from triggerstream.core.ids import LeafName, TriggerName
from triggerstream.core.paths import BadPath, parse_path
from triggerstream.core.where import Where, WhereError, compile_where
from triggerstream.wire.tasksfile.nodes import Findings, LocatedName, Node, listed, unknown_key

LeafKey: TypeAlias = Literal["trigger", "where", "as", "key", "count", "each"]
LEAF_KEYS: Final[tuple[LeafKey, ...]] = get_args(LeafKey)
EACH_KEYS: Final = ("of", "list")
MOST_COUNT: Final = 1_000
MOST_COUNT_IN_SEQUENCE: Final = 100
"""Events that a sequence keeps for each of its places, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedLeaf:
    """A leaf with its place. ``name`` is where its name stands: its ``as``, else its trigger.

    ``keys`` are the keys of an object, empty for a string; ``of`` is the value of ``of`` in ``each``.
    """

    leaf: Leaf
    name: LocatedName
    trigger: LocatedName
    keys: Mapping[str, LocatedName] = field(default_factory=dict)
    of: LocatedName | None = None
    in_sequence: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLeaf:
    """The result of reading a leaf: None if it has no trigger; ``clear`` is false if a part has an error."""

    leaf: LocatedLeaf | None
    clear: bool


def check_name(name: LocatedName, findings: Findings, *, what: str) -> bool:
    """True if ``name`` may name a task, a trigger or a leaf."""
    if not name.text:
        name.error(findings, "empty-name", f"a {what}'s name must not be empty")
    elif name.text.startswith(ENGINE_PREFIX):
        message = f"names beginning with `{ENGINE_PREFIX}` are the engine's own: choose another"
        name.error(findings, "reserved-name", message)
    else:
        return True
    return False


def bare_leaf(name: LocatedName, *, in_sequence: bool = False) -> LocatedLeaf:
    """The leaf that a trigger's name alone stands for."""
    leaf = Leaf(name=LeafName(name.text), trigger=TriggerName(name.text))
    return LocatedLeaf(leaf=leaf, name=name, trigger=name, in_sequence=in_sequence)


def read_leaf(node: Node, *, in_sequence: bool = False) -> ReadLeaf:
    """Read a string, or an object whose keys are those of a leaf: others have been reported."""
    if node.text is not None:
        name = LocatedName(text=node.text, at=node.at, path=node.path)
        usable = check_name(name, node.findings, what="trigger")
        return ReadLeaf(leaf=bare_leaf(name, in_sequence=in_sequence) if usable else None, clear=usable)
    errors = node.findings.errors
    draft = _Draft(in_sequence=in_sequence)
    for key, value in node.members():
        if key.text in LEAF_KEYS:
            _read_key(key, value, draft)
    if "trigger" not in draft.keys and node.is_whole:
        node.error("missing-key", "`trigger` is missing: the name of the trigger that the leaf waits for")
    _check_together(draft, node.findings)
    clear = node.is_whole and node.findings.errors == errors and draft.whole
    return ReadLeaf(leaf=_leaf(draft), clear=clear)


@dataclass(slots=True)
class _Draft:
    """The fields of a leaf that were read so far."""

    in_sequence: bool
    keys: dict[str, LocatedName] = field(default_factory=dict)
    trigger: LocatedName | None = None
    name: LocatedName | None = None
    where: Where | None = None
    key: Path | None = None
    count: int | None = None
    of: LocatedName | None = None
    path: Path | None = None
    whole: bool = True


def _leaf(draft: _Draft) -> LocatedLeaf | None:
    if draft.trigger is None:
        return None
    name = draft.name or draft.trigger
    each = None
    if draft.of is not None and draft.path is not None:
        each = Each(of=LeafName(draft.of.text), path=draft.path)
    leaf = Leaf(
        name=LeafName(name.text),
        trigger=TriggerName(draft.trigger.text),
        where=draft.where,
        key=draft.key,
        count=draft.count,
        each=each,
    )
    return LocatedLeaf(
        leaf=leaf,
        name=name,
        trigger=draft.trigger,
        keys=draft.keys,
        of=draft.of,
        in_sequence=draft.in_sequence,
    )


def _read_key(key: LocatedName, value: Node, draft: _Draft) -> None:
    known: LeafKey = key.text  # type: ignore[assignment]  # the caller has compared it
    draft.whole = draft.whole and value.is_whole
    if value.is_null and known != "trigger":
        return  # equals leaving the key out
    draft.keys[known] = key
    match known:
        case "trigger":
            draft.trigger = _read_name(value, "trigger")
        case "as":
            draft.name = _read_name(value, "leaf")
        case "where":
            draft.where = _read_where(value)
        case "key":
            draft.key = _read_path(value)
        case "count":
            draft.count = _read_count(value, MOST_COUNT_IN_SEQUENCE if draft.in_sequence else MOST_COUNT)
        case "each":
            _read_each(value, draft)
        case _:
            assert_never(known)


def _read_name(node: Node, what: str) -> LocatedName | None:
    if node.text is None:
        hint = ': for any one of several, write `{"any": […]}`' if what == "trigger" and node.is_list else ""
        node.error("wrong-type", f"must be a string, the {what}'s name, not {node.kind}{hint}")
        return None
    name = LocatedName(text=node.text, at=node.at, path=node.path)
    return name if check_name(name, node.findings, what=what) else None


def _read_where(node: Node) -> Where | None:
    if node.text is None:
        node.error("wrong-type", f"must be a string, such as `data.score > 3`, not {node.kind}")
        return None
    try:
        return compile_where(node.text)
    except WhereError as exc:
        node.error_inside("bad-where", exc.message, column=exc.column)
        return None


def _read_path(node: Node) -> Path | None:
    if node.text is None:
        node.error("wrong-type", f"must be a string, a path such as `data.order.id`, not {node.kind}")
        return None
    path = parse_path(node.text)
    if isinstance(path, BadPath):
        node.error_inside("bad-path", path.message, column=path.column)
        return None
    return path


def _read_count(node: Node, most: int) -> int | None:
    number = node.number
    where = " in a sequence" if most == MOST_COUNT_IN_SEQUENCE else ""
    if not isinstance(number, int):
        given = node.kind if number is None else number
        node.error("wrong-type", f"must be an integer from 1 to {most:,}{where}, not {given}")
        return None
    if not 1 <= number <= most:
        node.error("wrong-value", f"must be from 1 to {most:,}{where}, not {number}")
        return None
    return number


def _read_each(node: Node, draft: _Draft) -> None:
    if not node.is_object:
        node.error("wrong-type", f'must be an object, `{{"of": "a", "list": "data.ids"}}`, not {node.kind}')
        return
    given: set[str] = set()
    for key, value in node.members():
        given.add(key.text)
        if key.text == "of":
            draft.of = _read_name(value, "leaf")
        elif key.text == "list":
            draft.path = _read_path(value)
        else:
            message = unknown_key(key.text, EACH_KEYS, f"the keys of `each` are {listed(EACH_KEYS)}")
            key.error(node.findings, "unknown-key", message)
    if not node.is_whole:
        draft.whole = False
        return
    if "of" not in given:
        node.error("missing-key", "`of` is missing: the name of the leaf that brings the list")
    if "list" not in given:
        message = "`list` is missing: the path to the list in what `of` brings, such as `data.ids`"
        node.error("missing-key", message)


def _check_together(draft: _Draft, findings: Findings) -> None:
    """Report keys of a leaf that need others, or exclude them."""
    keys = draft.keys
    if draft.in_sequence:
        for name in ("key", "each"):
            if name in keys:
                message = f"`{name}` cannot stand in a sequence: only `trigger`, `where`, `as`, `count` can"
                keys[name].error(findings, "not-in-sequence", message)
        return
    if "each" in keys and "count" in keys:
        later = max(keys["each"], keys["count"], key=lambda key: key.at)
        message = "`count` and `each` do not go together: `each` waits for an event for each element"
        later.error(findings, "conflicting-keys", message)
    elif "key" in keys and "count" not in keys and "each" not in keys:
        message = "`key` needs `count`, for that many different keys, or `each`, for each key of a list"
        keys["key"].error(findings, "missing-key", message)
    if "each" in keys and "key" not in keys:
        message = "`each` needs `key`: the path to what tells which element of the list an event is for"
        keys["each"].error(findings, "missing-key", message)
