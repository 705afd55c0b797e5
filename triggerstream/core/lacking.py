"""The triggers that a condition lacks until it is satisfied, as names and in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, assert_never

from triggerstream.core.conditions import (
    AllOf,
    AnyOf,
    AtLeast,
    Condition,
    Leaf,
    Node,
    Sequence,
    is_satisfied,
)
from triggerstream.core.held import Holding, Keyed, Members, Several
from triggerstream.core.ids import LeafName, TriggerName
from triggerstream.core.slots import met_leaves

_KEYS: Final = 3
"""Missing elements of a list that a sentence names; the tree has them all."""


def missing_triggers(condition: Condition, held: Mapping[LeafName, Holding]) -> Collection[TriggerName]:
    """The triggers that could still complete a condition, each once, in the order of the file (R4.9).

    A member of a group that is satisfied already is not waited for.
    """
    if condition.is_plain:
        slots = condition.slots.items()
        return dict.fromkeys(slot.leaf.trigger for name, slot in slots if name not in held)
    lacking: list[Leaf] = []
    _add_lacking(condition.root, met_leaves(condition, held), lacking)
    missing: dict[TriggerName, None] = {}
    for leaf in lacking:
        missing[leaf.trigger] = None
        if leaf.each is not None and not _has_list(held.get(leaf.name)):
            missing[condition.slots[leaf.each.of].leaf.trigger] = None
    return missing


def _add_lacking(node: Node, met: AbstractSet[LeafName], lacking: list[Leaf]) -> bool:
    """Add the leaves that a node lacks, in one pass, because an index asks for each changed session.

    Returns True if the node is satisfied; then it adds none.
    """
    if isinstance(node, Leaf):
        if node.name in met:
            return True
        lacking.append(node)
        return False
    before = len(lacking)
    members = _members(node)
    have = sum([_add_lacking(member, met, lacking) for member in members])
    if have < _need(node):
        return False
    del lacking[before:]
    return True


def missing_in_words(condition: Condition, held: Mapping[LeafName, Holding]) -> str | None:
    """The triggers that a condition lacks, for “waits for a and b”; None if it is satisfied."""
    met = met_leaves(condition, held)
    if condition.is_satisfied(met):
        return None
    return _words(condition.root, met, held, nested=False)


def _words(node: Node, met: AbstractSet[LeafName], held: Mapping[LeafName, Holding], *, nested: bool) -> str:
    if isinstance(node, Leaf):
        return _leaf_words(node, held.get(node.name))
    open_ = [member for member in _members(node) if not is_satisfied(member, met)]
    if len(open_) == 1:
        return _words(open_[0], met, held, nested=nested)
    parts = list(dict.fromkeys(_words(member, met, held, nested=True) for member in open_))
    says = _joined(node, parts, need=_need(node) - len(_members(node)) + len(open_))
    return f"({says})" if nested else says


def _members(node: AllOf | AnyOf | AtLeast | Sequence) -> tuple[Node, ...]:
    return node.leaves if isinstance(node, Sequence) else node.members


def _need(node: AllOf | AnyOf | AtLeast | Sequence) -> int:
    """How many members satisfy the node."""
    match node:
        case AtLeast(need=need):
            return need
        case AnyOf():
            return 1
        case AllOf() | Sequence():
            return len(_members(node))
        case _ as never:
            assert_never(never)


def _joined(node: AllOf | AnyOf | AtLeast | Sequence, parts: list[str], *, need: int) -> str:
    """``parts``, of which the node still needs ``need``."""
    if isinstance(node, Sequence):
        return ", then ".join(parts)
    if need == 1:
        return join_names(parts, "or")
    says = join_names(parts)
    return f"{need} of {says}" if need < len(parts) else says


def _leaf_words(leaf: Leaf, held: Holding | None) -> str:
    name = leaf_title(leaf.name, leaf.trigger)
    if leaf.each is not None:
        missing = [key for key, ref in held.by.items() if ref is None] if isinstance(held, Members) else []
        if not isinstance(held, Members) or held.left is None:
            return f"{name} for each element of {leaf.each.of}"
        if len(missing) <= _KEYS:
            return f"{name} for {join_names(missing)}"
        return f"{name} for {len(missing)} more elements"
    have = len(held.at) if isinstance(held, Several) else len(held.by) if isinstance(held, Keyed) else 0
    need = leaf.count or 1
    if have:
        return f"{need - have} more {name}"
    return name if need == 1 else f"{need} {name}"


def leaf_title(name: str, trigger: str) -> str:
    """A leaf in a sentence: its trigger, and its name where that differs."""
    return trigger if name == trigger else f"{trigger} ({name})"


def join_names(names: Collection[str], word: str = "and") -> str:
    """``a, b and c``."""
    *others, last = names or ["nothing"]
    return f"{', '.join(others)} {word} {last}" if others else last


def _has_list(held: Holding | None) -> bool:
    return isinstance(held, Members) and held.left is not None
