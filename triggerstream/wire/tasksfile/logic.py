"""Questions about conditions without events: which leaves, and which sets of leaves, satisfy one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from math import comb
from typing import Final, TypeAlias, assert_never

from triggerstream.core.conditions import AllOf, AnyOf, AtLeast, Leaf, Node
from triggerstream.core.conditions import Sequence as InOrder
from triggerstream.core.ids import LeafName

Leaves: TypeAlias = frozenset[LeafName]

MOST_WAYS: Final = 1_000
"""Sets of leaves that are examined for one condition: nobody writes more alternatives by hand."""


def required(node: Node) -> Leaves:
    """The leaves without which ``node`` is never satisfied."""
    match node:
        case Leaf(name=name):
            return frozenset({name})
        case InOrder(leaves=leaves):
            return frozenset(leaf.name for leaf in leaves)
        case AllOf(members=members):
            return _needed_by(members, len(members))
        case AnyOf(members=members):
            return _needed_by(members, 1)
        case AtLeast(need=need, members=members):
            return _needed_by(members, need)
        case _ as never:
            assert_never(never)


def _needed_by(members: Sequence[Node], need: int) -> Leaves:
    """A leaf is required if too few members can do without it."""
    needed = [required(member) for member in members]
    found: Leaves = frozenset().union(*needed)
    if need == len(members):
        return found
    return frozenset(name for name in found if sum(name not in one for one in needed) < need)


def ways(node: Node) -> list[Leaves] | None:
    """Sets of leaves one of which is met whenever ``node`` is satisfied; None if there are too many.

    A leaf with ``each`` comes with the leaf that brings its list.
    """
    match node:
        case Leaf(name=name, each=each):
            return [frozenset({name} if each is None else {name, each.of})]
        case InOrder(leaves=leaves):
            return [frozenset(leaf.name for leaf in leaves)]
        case AllOf(members=members):
            return _together(members)
        case AnyOf(members=members):
            return _either(ways(member) for member in members)
        case AtLeast(need=need, members=members):
            if comb(len(members), need) > MOST_WAYS:
                return None
            return _either(_together(some) for some in combinations(members, need))
        case _ as never:
            assert_never(never)


def _either(parts: Iterable[list[Leaves] | None]) -> list[Leaves] | None:
    found: dict[Leaves, None] = {}
    for part in parts:
        if part is None:
            return None
        found.update(dict.fromkeys(part))
        if len(found) > MOST_WAYS:
            return None
    return list(found)


def _together(members: Sequence[Node]) -> list[Leaves] | None:
    found: dict[Leaves, None] = {frozenset(): None}
    for member in members:
        part = ways(member)
        if part is None or len(part) * len(found) > MOST_WAYS:
            return None
        found = dict.fromkeys(left | right for left in found for right in part)
    return list(found)
