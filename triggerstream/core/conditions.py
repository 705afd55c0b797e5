"""Conditions of a task as values: leaves, and how they are combined (docs/semantics.md, section 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from triggerstream.core.ids import LeafName, TriggerName
from triggerstream.core.where import Where

Path: TypeAlias = tuple[str, ...]
"""The keys that lead from an event's data to a value; ``data.order.id`` is ``("order", "id")``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Each:
    """One event for every element of the list at ``path`` of the event that the leaf ``of`` took."""

    of: LeafName
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One trigger's place in a condition.

    ``name`` is the keyword argument of the Celery task. ``key`` leads to the value that tells events apart.
    A leaf with neither ``count`` nor ``each`` is plain: it takes one event.
    """

    name: LeafName
    trigger: TriggerName
    where: Where | None = None
    key: Path | None = None
    count: int | None = None
    each: Each | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllOf:
    """Satisfied if all members are."""

    members: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOf:
    """Satisfied if one member is."""

    members: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLeast:
    """Satisfied if ``need`` members are."""

    need: int
    members: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """Satisfied if its leaves are met in this order of event time."""

    leaves: tuple[Leaf, ...]


Node: TypeAlias = Leaf | AllOf | AnyOf | AtLeast | Sequence
"""A condition as it stands in the file."""


def leaves_of(node: Node) -> Iterator[Leaf]:
    """The leaves beneath ``node``, in the order of the file; a leaf in two places comes twice."""
    match node:
        case Leaf():
            yield node
        case AllOf(members=members) | AnyOf(members=members) | AtLeast(members=members):
            for member in members:
                yield from leaves_of(member)
        case Sequence(leaves=leaves):
            yield from leaves
        case _ as never:
            assert_never(never)
