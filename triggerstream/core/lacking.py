"""The triggers that a condition lacks until it is satisfied, as names and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
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
from triggerstream.core.joined_names import join_names
from triggerstream.core.slots import met_leaves

_KEYS: Final = 3
"""Missing elements of a list that a sentence names; the tree has them all."""
_MOST_TRIED: Final = 512
"""Passes over a condition in which a leaf stands in several places: each takes 5 µs a leaf."""


def missing_triggers(condition: Condition, held: Mapping[LeafName, Holding]) -> Collection[TriggerName]:
    """The triggers that could still complete a condition, each once, in the order of the file (R4.9).

    A member of a group that is satisfied already is not waited for, nor is a leaf that only helps together
    with another one that is enough alone.
    """
    if condition.is_plain:
        slots = condition.slots.items()
        return dict.fromkeys(slot.leaf.trigger for name, slot in slots if name not in held)
    missing: dict[TriggerName, None] = {}
    for leaf in _lacking(condition.root, met_leaves(condition, held)):
        missing[leaf.trigger] = None
        if leaf.each is not None and not _has_list(held.get(leaf.name)):
            missing[condition.slots[leaf.each.of].leaf.trigger] = None
    return missing


def _lacking(root: Node, met: AbstractSet[LeafName]) -> list[Leaf]:
    """The leaves that could still complete a condition, in the order of the file."""
    lacking: list[Leaf] = []
    _add_lacking(root, met, lacking)
    if len({leaf.name for leaf in lacking}) == len(lacking):
        return lacking
    completing = _completing(root, frozenset(met))
    return [leaf for leaf in lacking if leaf.name in completing]


@lru_cache(maxsize=1_024)
def _completing(root: Node, met: frozenset[LeafName]) -> frozenset[LeafName]:
    """The leaves that complete a condition in which leaves stand in several places.

    A leaf does if, with some choice of the other leaves, the condition is satisfied with it and not without
    it. All leaves that are lacking are returned where trying the choices would take too long.
    """
    lacking: list[Leaf] = []
    _add_lacking(root, met, lacking)
    places = Counter(leaf.name for leaf in lacking)
    repeated = [name for name, number in places.items() if number > 1]
    if len(places) << len(repeated) > _MOST_TRIED:
        return frozenset(places)
    known = dict.fromkeys(met, True)
    return frozenset(
        name
        for name in places
        if any(
            (False, True)
            in _without_and_with(root, name, {**known, **dict(zip(repeated, chosen, strict=True))})
            for chosen in product((False, True), repeat=len(repeated))
        )
    )


def _without_and_with(node: Node, name: LeafName, known: Mapping[LeafName, bool]) -> set[tuple[bool, bool]]:
    """Whether a node is satisfied without the leaf ``name`` and with it: every pair that can come about.

    Leaves that are not ``known`` stand in one place, so each may be met or not whatever the others are.
    """
    if isinstance(node, Leaf):
        if node.name == name:
            return {(False, True)}
        values = (known[node.name],) if node.name in known else (False, True)
        return {(value, value) for value in values}
    counts = {(0, 0)}
    for member in _members(node):
        pairs = _without_and_with(member, name, known)
        counts = {
            (without + more, with_ + more_with) for without, with_ in counts for more, more_with in pairs
        }
    need = _need(node)
    return {(without >= need, with_ >= need) for without, with_ in counts}


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
    completing = {leaf.name for leaf in _lacking(condition.root, met)}
    return _Wording(met=met, best=met | completing, held=held).of(condition.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wording:
    """Words for the part of a condition that is lacking. ``best``: the leaves met, and those that help."""

    met: AbstractSet[LeafName]
    best: AbstractSet[LeafName]
    held: Mapping[LeafName, Holding]

    def of(self, node: Node, *, depth: int = 0) -> str:
        """A node that is not satisfied; ``depth`` is the number of brackets around it."""
        if isinstance(node, Leaf):
            return _leaf_words(node, self.held.get(node.name))
        lacking = [member for member in _members(node) if not is_satisfied(member, self.met)]
        need = _need(node) - len(_members(node)) + len(lacking)
        parts = {
            self.of(member, depth=depth + 1): member for member in lacking if is_satisfied(member, self.best)
        }
        if len(parts) == 1:
            (member,) = parts.values()
            return self.of(member, depth=depth)
        says = _joined(node, list(parts), need=need)
        return says if not depth else f"({says})" if depth % 2 else f"[{says}]"


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
    # Not in brackets: they may stand around the group.
    name = leaf.trigger if str(leaf.name) == leaf.trigger else f"{leaf.trigger} as {leaf.name}"
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
    """A leaf as a heading: its trigger, and its name where that differs."""
    return trigger if name == trigger else f"{trigger} ({name})"


def _has_list(held: Holding | None) -> bool:
    return isinstance(held, Members) and held.left is not None
