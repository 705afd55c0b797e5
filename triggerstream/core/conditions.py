"""Conditions of a task as values: leaves, and how they are combined (docs/semantics.md, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
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

    @property
    def is_plain(self) -> bool:
        """True if the leaf takes one event."""
        return self.count is None and self.each is None


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


def sequences_of(node: Node) -> Iterator[Sequence]:
    """The sequences beneath ``node``, in the order of the file."""
    match node:
        case Leaf():
            return
        case AllOf(members=members) | AnyOf(members=members) | AtLeast(members=members):
            for member in members:
                yield from sequences_of(member)
        case Sequence():
            yield node
        case _ as never:
            assert_never(never)


class Takes(Enum):
    """Which events a leaf takes."""

    FIRST = "first"
    """One event: a plain leaf."""
    COUNT = "count"
    KEYS = "keys"
    """``count`` with ``key``."""
    MEMBERS = "members"
    """``each``."""
    SEQUENCE_START = "first leaf of a sequence"
    SEQUENCE = "further leaf of a sequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A leaf in its condition. ``awaits_list``: the ``each`` leaves whose list an event of this leaf brings.

    ``newest``: it holds its newest events by event time instead of the first. Two slots are equal if they say
    the same in the file. A leaf in a sequence stands in no other place.
    """

    leaf: Leaf
    takes: Takes
    awaits_list: tuple[Leaf, ...] = ()
    newest: bool = field(default=False, compare=False)
    name: LeafName = field(init=False, repr=False, compare=False)
    matches_all: bool = field(init=False, repr=False, compare=False)
    """Every event of the trigger matches."""
    identity: tuple[object, ...] = field(init=False, repr=False, compare=False)
    """The parts that decide which events match: trigger, ``where``, ``key`` and lists (R9.10)."""

    def __post_init__(self) -> None:
        leaf = self.leaf
        lists = sorted(other.each.path for other in self.awaits_list if other.each is not None)
        object.__setattr__(self, "identity", (leaf.trigger, leaf.where, leaf.key, leaf.each, tuple(lists)))
        object.__setattr__(self, "name", leaf.name)
        object.__setattr__(
            self, "matches_all", leaf.where is None and leaf.key is None and not self.awaits_list
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """The ``after`` or the ``unless`` of a task.

    ``newest``: its leaves hold their newest events. ``within_us``: what satisfies it lies within this time.
    """

    root: Node
    newest: bool = False
    within_us: int | None = None
    slots: dict[LeafName, Slot] = field(init=False, repr=False, compare=False)
    """The leaves, each once, in the order of the file."""
    names: frozenset[LeafName] = field(init=False, repr=False, compare=False)
    by_trigger: dict[TriggerName, tuple[Slot, ...]] = field(init=False, repr=False, compare=False)
    triggers: tuple[TriggerName, ...] = field(init=False, repr=False, compare=False)
    """The triggers of the leaves, each once, in the order of the file."""
    sequences: tuple[Sequence, ...] = field(init=False, repr=False, compare=False)
    is_plain: bool = field(init=False, repr=False, compare=False)
    """All of a list of plain leaves: satisfied if each holds an event."""
    uses_language: bool = field(init=False, repr=False, compare=False)
    """More than a list of triggers."""

    def __post_init__(self) -> None:
        root = self.root
        sequences = tuple(sequences_of(root))
        places = {leaf.name: place for one in sequences for place, leaf in enumerate(one.leaves)}
        leaves = {leaf.name: leaf for leaf in leaves_of(root)}
        slots = {
            name: Slot(
                leaf=leaf,
                takes=_takes(leaf, places.get(name)),
                newest=self.newest and leaf.each is None,
                awaits_list=tuple(
                    other for other in leaves.values() if other.each is not None and other.each.of == name
                ),
            )
            for name, leaf in leaves.items()
        }
        by_trigger: dict[TriggerName, tuple[Slot, ...]] = {}
        for slot in slots.values():
            by_trigger[slot.leaf.trigger] = (*by_trigger.get(slot.leaf.trigger, ()), slot)
        is_list = isinstance(root, AllOf) and all(isinstance(one, Leaf) for one in root.members)
        is_plain = is_list and all(leaf.is_plain for leaf in leaves.values())
        object.__setattr__(self, "slots", slots)
        object.__setattr__(self, "names", frozenset(slots))
        object.__setattr__(self, "by_trigger", by_trigger)
        object.__setattr__(self, "triggers", tuple(by_trigger))
        object.__setattr__(self, "sequences", sequences)
        object.__setattr__(self, "is_plain", is_plain)
        named = all(str(name) == slot.leaf.trigger and slot.matches_all for name, slot in slots.items())
        object.__setattr__(self, "uses_language", not (is_plain and named))

    @property
    def leaves(self) -> dict[LeafName, Leaf]:
        """The leaves by name, in the order of the file."""
        return {name: slot.leaf for name, slot in self.slots.items()}

    def is_satisfied(self, met: AbstractSet[LeafName]) -> bool:
        """True if the condition is satisfied when the leaves ``met`` are met."""
        return is_satisfied(self.root, met)


def is_satisfied(node: Node, met: AbstractSet[LeafName]) -> bool:
    """True if ``node`` is satisfied when the leaves ``met`` are met."""
    match node:
        case Leaf(name=name):
            return name in met
        case AllOf(members=members):
            return all(is_satisfied(member, met) for member in members)
        case AnyOf(members=members):
            return any(is_satisfied(member, met) for member in members)
        case AtLeast(need=need, members=members):
            return sum(is_satisfied(member, met) for member in members) >= need
        case Sequence(leaves=leaves):
            return all(leaf.name in met for leaf in leaves)
        case _ as never:
            assert_never(never)


def all_of(triggers: Iterable[TriggerName]) -> Condition:
    """The condition of a list of triggers, each a plain leaf of its own name."""
    names = dict.fromkeys(triggers)
    return Condition(root=AllOf(members=tuple(Leaf(name=LeafName(name), trigger=name) for name in names)))


def _takes(leaf: Leaf, place: int | None) -> Takes:
    if place is not None:
        return Takes.SEQUENCE if place else Takes.SEQUENCE_START
    if leaf.each is not None:
        return Takes.MEMBERS
    if leaf.count is not None:
        return Takes.COUNT if leaf.key is None else Takes.KEYS
    return Takes.FIRST
