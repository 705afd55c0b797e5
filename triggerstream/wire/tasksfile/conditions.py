"""Reads conditions: lists of leaves and of ``all``, ``any``, ``atLeast`` and ``sequence``, nested."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, assert_never

from triggerstream.core.conditions import AllOf, AnyOf, AtLeast, Leaf
from triggerstream.core.conditions import Node as Condition
from triggerstream.core.conditions import Sequence as InOrder
from triggerstream.wire.tasksfile.leaves import LEAF_KEYS, MOST_COUNT, LocatedLeaf, check_name, read_leaf
from triggerstream.wire.tasksfile.nodes import LocatedName, Node, listed, meant, shown, unknown_key
from triggerstream.wire.tasksfile.task_keys import TASK_KEYS
from triggerstream.wire.tasksfile.tried_keys import condition_in_name, instead_of

MOST_LEVELS: Final = 10
"""Levels of lists and groups; ``after`` itself is the first."""
GROUP_KEYS: Final = ("all", "any", "atLeast", "of", "sequence")
ConditionKey: TypeAlias = Literal["trigger", "all", "any", "atLeast", "sequence"]
"""The key by which a condition that is an object is known."""
_KEYS_BESIDE: Final[Mapping[ConditionKey, tuple[str, ...]]] = {
    "trigger": LEAF_KEYS,
    "all": ("all",),
    "any": ("any",),
    "atLeast": ("atLeast", "of"),
    "sequence": ("sequence",),
}
"""The keys that a condition may have, by the one by which it is known."""
_ALL_KEYS: Final = (*LEAF_KEYS, *GROUP_KEYS)
EVERY_WITH_EACH: Final = "`andEvery` cannot be a leaf with `each`: its events make the task run once more"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedCondition:
    """A list of conditions that was read.

    ``leaves`` are those beneath it, a leaf in two places twice. ``sequences`` are the keys of that name.
    ``clear`` is false where some of it could not be made out.
    """

    root: AllOf = field(default_factory=lambda: AllOf(members=()))
    leaves: tuple[LocatedLeaf, ...] = ()
    sequences: tuple[LocatedName, ...] = ()
    at: int = 0
    clear: bool = True

    @property
    def by_name(self) -> dict[str, LocatedLeaf]:
        """Each leaf where it first stands."""
        first: dict[str, LocatedLeaf] = {}
        for leaf in self.leaves:
            first.setdefault(leaf.leaf.name, leaf)
        return first

    @property
    def is_list(self) -> bool:
        """True for a list of triggers' names."""
        return not self.sequences and all(not one.keys for one in self.leaves) and self._is_flat

    @property
    def _is_flat(self) -> bool:
        return all(isinstance(member, Leaf) for member in self.root.members)

    def add(self, leaf: LocatedLeaf) -> LocatedCondition:
        """This condition, which also needs ``leaf``."""
        root = AllOf(members=(*self.root.members, leaf.leaf))
        return replace(self, root=root, leaves=(*self.leaves, leaf))


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """The leaf of ``andEvery``. ``leaf`` is None where the file names one that may stand in ``after``."""

    name: LocatedName | None = None
    leaf: LocatedLeaf | None = None
    clear: bool = True


def read_list(node: Node) -> LocatedCondition:
    """Read ``after`` or ``unless``."""
    reader = _Reader()
    root = AllOf(members=())
    if node.is_list:
        root = AllOf(members=reader.members(node, level=1, alternatives=False))
    else:
        reader.clear = False
        if not _has_unknown_key(node):
            node.error("wrong-type", f"must be a list of triggers, not {node.kind}{_in_a_list(node)}")
    return LocatedCondition(
        root=root,
        leaves=tuple(reader.leaves),
        sequences=tuple(reader.sequences),
        at=node.at,
        clear=reader.clear,
    )


def read_every(node: Node) -> Every:
    """Read ``andEvery``."""
    if node.text is not None:
        name = LocatedName(text=node.text, at=node.at, path=node.path)
        if check_name(name, node.findings, what="trigger"):
            return Every(name=name)
    elif not node.is_object:
        only = [item.text for item in node.items()]
        hint = f": write `{_quoted(only[0])}`" if len(only) == 1 and only[0] is not None else ""
        node.error("wrong-type", f"must be one trigger's name, not {node.kind}{hint}")
    elif (kind := _check_keys(node)) == "trigger":
        read = read_leaf(node)
        if read.leaf is not None and "each" in read.leaf.keys:
            read.leaf.keys["each"].error(node.findings, "conflicting-keys", EVERY_WITH_EACH)
        elif read.leaf is not None:
            return Every(name=read.leaf.name, leaf=read.leaf, clear=read.clear)
    elif kind is not None:
        place = next(key for key, _ in node.members() if key.text == kind)
        place.error(node.findings, "not-one-leaf", f"`andEvery` is one trigger: `{kind}` cannot stand in it")
    return Every(clear=False)


class _Reader:
    """Reads one list. ``clear`` becomes false where some of it could not be made out."""

    def __init__(self) -> None:
        self.leaves: list[LocatedLeaf] = []
        self.sequences: list[LocatedName] = []
        self.clear = True

    def members(self, node: Node, *, level: int, alternatives: bool) -> tuple[Condition, ...]:
        """The conditions of a list, each reported that stands there twice."""
        self.clear = self.clear and node.is_whole
        members: list[Condition] = []
        same: dict[Condition, list[Node]] = {}
        before: Node | None = None
        for item in node.items():
            member = self.condition(item, level=level + 1, before=before)
            before = item
            if member is None:
                self.clear = False
                continue
            alike = same.setdefault(member, [])
            alike.append(item)
            if len(alike) == 1:
                members.append(member)
            else:
                _report_repeated(alike, member, alternatives=alternatives)
        return tuple(members)

    def condition(self, node: Node, *, level: int, before: Node | None) -> Condition | None:
        """The condition at ``node``, behind ``before`` in its list; None if it cannot be made out."""
        if node.text is not None:
            return self.leaf(node)
        if node.is_list:
            return self.group(node, level, "an inner list", lambda members: AllOf(members=members))
        if not node.is_object:
            message = f"must be a trigger's name or a condition, not {node.kind}"
            node.error("wrong-type", f"{message}{_counted_before(node, before)}")
            return None
        kind = _check_keys(node)
        if kind is None:
            return None
        if kind == "trigger":
            return self.leaf(node)
        values = {key.text: (key, value) for key, value in node.members()}
        key, value = values[kind]
        match kind:
            case "all":
                return self.group(value, level, "`all`", lambda members: AllOf(members=members))
            case "any":
                return self.group(
                    value, level, "`any`", lambda members: AnyOf(members=members), alternatives=True
                )
            case "sequence":
                return self.sequence(key, value)
            case "atLeast":
                return self.at_least(value, values["of"][1], level) if "of" in values else None
            case _:
                assert_never(kind)

    def leaf(self, node: Node, *, in_sequence: bool = False) -> Leaf | None:
        read = read_leaf(node, in_sequence=in_sequence)
        if read.leaf is not None:
            self.leaves.append(read.leaf)
        self.clear = self.clear and read.clear
        return None if read.leaf is None else read.leaf.leaf

    def group(
        self,
        node: Node,
        level: int,
        what: str,
        make: Callable[[tuple[Condition, ...]], Condition],
        *,
        alternatives: bool = False,
    ) -> Condition | None:
        """Members that are combined by ``make``."""
        if level > MOST_LEVELS:
            message = f"conditions may be nested {MOST_LEVELS} levels deep: write a task for a part of them"
            node.error("too-many-levels", message)
            return None
        if not node.is_list:
            message = f"must be a list of conditions, not {node.kind}"
            node.error("wrong-type", f"{message}{_in_a_list(node, alternatives=alternatives)}")
            return None
        members = self.members(node, level=level, alternatives=alternatives)
        if not list(node.items()) and node.is_whole:
            node.error("empty-condition", f"{what} must hold at least one condition")
        return make(members) if members else None

    def at_least(self, need: Node, of: Node, level: int) -> Condition | None:
        condition = self.group(of, level, "`of`", lambda members: AnyOf(members=members), alternatives=True)
        most = len(list(of.items()))
        number = need.number
        if not isinstance(number, int):
            given = need.kind if number is None else number
            need.error("wrong-type", f"must be an integer, how many of the conditions, not {given}")
        elif most and not 1 <= number <= most:
            message = f"must be from 1 to {most}, the number of its conditions, not {number}"
            need.error("wrong-value", message)
        elif isinstance(condition, AnyOf):
            return AtLeast(need=number, members=condition.members)
        return None

    def sequence(self, key: LocatedName, node: Node) -> Condition | None:
        self.sequences.append(key)
        if not node.is_list:
            node.error("wrong-type", f"must be a list of triggers in their order, not {node.kind}")
            return None
        leaves: list[Leaf] = []
        for item in node.items():
            if item.text is None and not item.is_object:
                item.error("wrong-type", f"must be a trigger's name or a leaf, not {item.kind}")
                self.clear = False
                continue
            kind = "trigger" if item.text is not None else _check_keys(item)
            if kind not in {"trigger", None}:
                message = f"a sequence holds triggers only: `{kind}` cannot stand in it"
                item.error("not-in-sequence", message)
            leaf = self.leaf(item, in_sequence=True) if kind == "trigger" else None
            if leaf is not None:
                leaves.append(leaf)
            else:
                self.clear = False
        self.clear = self.clear and node.is_whole
        if len(list(node.items())) < 2 and node.is_whole:  # noqa: PLR2004 - the fewest that have an order
            node.error("short-sequence", "a sequence must name at least two triggers, in their order")
        return InOrder(leaves=tuple(leaves)) if leaves else None


def _check_keys(node: Node) -> ConditionKey | None:
    """The key by which a condition is known; None, with the reason reported, if there is none."""
    keys = {key.text: key for key, _ in node.members()}
    kind = next((known for key in keys for known in _KEYS_BESIDE if known == key), None)
    unknown = _has_unknown_key(node)
    if kind is None:
        if "of" in keys:
            keys["of"].error(node.findings, "missing-key", "`of` needs `atLeast`: how many of them")
        elif not unknown and node.is_whole:
            message = "`trigger` is missing: a condition has `trigger`, `all`, `any`, `atLeast` or `sequence`"
            node.error("missing-key", message)
        return None
    for text, key in keys.items():
        if text in _ALL_KEYS and text not in _KEYS_BESIDE[kind]:
            key.error(node.findings, "conflicting-keys", _conflict(text, kind))
    if kind == "atLeast" and "of" not in keys and node.is_whole:
        node.error("missing-key", "`of` is missing: the list of conditions, of which `atLeast` must be met")
    return kind


def _has_unknown_key(node: Node) -> bool:
    """True, with each reported, if a condition has keys that there are not."""
    unknown = [(key, value) for key, value in node.members() if key.text not in _ALL_KEYS]
    beside = len(unknown) < len(list(node.members()))
    for key, value in unknown:
        key.error(node.findings, "unknown-key", _unknown(key.text, None if beside else value))
    return bool(unknown)


def _unknown(key: str, value: Node | None) -> str:
    """The message about a key; ``value`` is given where no known key stands beside it."""
    if key in TASK_KEYS:
        return f"`{key}` is a key of the task, not of a condition: write it beside the task's `after`"
    if value is not None and meant(key, _ALL_KEYS) is None and instead_of(key) is None:
        count = _events(value)
        if count is not None:
            return f"unknown key `{shown(key)}`: to count events write {_counted(key, count)}"
        if value.is_object and all(one.text in LEAF_KEYS for one, _ in value.members()):
            name = _quoted(shown(key))
            return f'unknown key `{shown(key)}`: a trigger is named as in `{{"trigger": {name}, "count": 2}}`'
    if meant(key, _ALL_KEYS) is None or key.lower() not in {known.lower() for known in _ALL_KEYS}:
        instead = instead_of(key)
        if instead is not None:
            return f"there is no key `{key}`: {instead}"
    return unknown_key(key, _ALL_KEYS, f"the keys of a leaf are {listed(LEAF_KEYS)}")


def _conflict(key: str, kind: str) -> str:
    if key in LEAF_KEYS and key != "trigger":
        return f"`{key}` does not go with `{kind}`: it stands beside a `trigger`"
    return f"`{key}` does not go with `{kind}`: write an object for each"


def _report_repeated(alike: Sequence[Node], member: Condition, *, alternatives: bool) -> None:
    """Report the last of the places at which a list has the same ``member``."""
    item = alike[-1]
    where = item.findings.where(alike[0].at)
    what = f"`{shown(member.name)}`" if isinstance(member, Leaf) else "this condition"
    message = f"{what} stands in this list already, at {where}"
    if alternatives:
        item.error("repeated-member", f"{message}: to count events write `count`")
        return
    if isinstance(member, Leaf) and item.path[1:2] != ("unless",) and len(alike) <= MOST_COUNT:
        many = "two" if len(alike) == 2 else f"{len(alike):,}"  # noqa: PLR2004 - as it is spelt
        if item.text is not None:
            message += f": for {many} of them write {_counted(item.text, len(alike))}"
        elif member.count is None and member.each is None:
            message += f': for {many} of them add `"count": {len(alike)}` to one'
    item.warn("repeated-trigger", message)


def _in_a_list(node: Node, *, alternatives: bool = False) -> str:
    """How the value, which is no list, is written as one; any member of ``alternatives`` is enough."""
    if node.text is None:
        return ": write `[{…}]`" if node.is_object else ""
    joined = condition_in_name(node.text)
    if joined is None:
        return f": write `[{_quoted(node.text)}]`"
    if not joined.names:
        return ': write `any` and `all`, such as `[{"any": [["a", "b"], "c"]}]` for “a and b, or c”'
    names = f"[{', '.join(map(_quoted, joined.names))}]"
    every = f"`[{names}]`" if alternatives else f"`{names}`"
    either = f"`{names}`" if alternatives else f'`[{{"any": {names}}}]`'
    if joined.operator == "several":
        return f": write {every} if all are needed, {either} if any one is enough"
    return f": write {either if joined.operator == 'or' else every}"


def _counted_before(node: Node, before: Node | None) -> str:
    """The hint for a number behind a trigger's name."""
    count = _events(node)
    if count is None or before is None or before.text is None:
        return ""
    return f": to count events write {_counted(before.text, count)} for both"


def _events(node: Node) -> int | None:
    """The number of events that ``node`` may mean; None if it is none."""
    number = node.number
    return number if isinstance(number, int) and 1 <= number <= MOST_COUNT else None


def _counted(trigger: str, count: int) -> str:
    return f'`{{"trigger": {_quoted(shown(trigger))}, "count": {count}}}`'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
