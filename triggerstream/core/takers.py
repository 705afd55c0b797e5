"""Instances of a task that may take an event of ``after``, so that an event need not visit the others.

Of a thousand deadlines that pass at once, each timeout would else visit a thousand instances of a task that
waits for it. The rules: docs/semantics.md, R3.8 and R4.5. Nothing here changes a status.
"""

from __future__ import annotations

from collections.abc import Sequence

from triggerstream.core.blocks import Shape, instances_where
from triggerstream.core.conditions import Takes
from triggerstream.core.ids import LeafName
from triggerstream.core.slots import Match
from triggerstream.core.state import Instance, Status, TaskRecord

FEW = 16
"""Open instances up to which all are visited: finding those that may take an event takes as long."""


def takers_of(record: TaskRecord, leaf: LeafName | None) -> list[Instance]:
    """The open instances that may take an event for ``leaf``, by number; for None, one for any leaf.

    ``record`` is owned. ``leaf`` takes the first event only: an instance that holds one takes no other.
    """
    takers = record.takers or {}
    known = takers.get(leaf)
    if known is None:
        concerned = instances_where(record.open, lambda shape: _shape_may_take(shape, leaf))
        found = [instance for instance in concerned if may_take(instance, leaf)]
    else:
        found = [
            instance
            for number in known
            # A number may be in ``known`` whose instance is resolved by now.
            if (instance := record.open.get(number)) is not None and may_take(instance, leaf)
        ]
    if known is None or len(found) < len(known):
        record.takers = {**takers, leaf: tuple(instance.number for instance in found)}
    return found


def add_taker(record: TaskRecord, number: int) -> None:
    """Note a new unstarted instance, the last one of its task. ``record`` is owned."""
    if record.takers is not None:
        record.takers = {leaf: (*numbers, number) for leaf, numbers in record.takers.items()}


def leaf_of_first(matches: Sequence[Match]) -> LeafName | None:
    """The only leaf that an event matches, if it takes the first event only."""
    slot = matches[0].slot
    is_first = len(matches) == 1 and slot.takes is Takes.FIRST and not slot.newest
    return slot.name if is_first else None


def may_take(instance: Instance, leaf: LeafName | None) -> bool:
    """True if an instance may take an event for ``leaf``. Under one file, it stays false once it is."""
    status = instance.status
    if leaf is not None:
        return status is Status.UNSTARTED and leaf not in instance.captured
    # With `debounce`, for which leaves hold their newest, one takes events while it is delayed.
    is_original = instance.clone_of is None and instance.repeat_of is None
    return status is Status.UNSTARTED or (status is Status.DELAYED and is_original)


def _shape_may_take(shape: Shape, leaf: LeafName | None) -> bool:
    """True if an instance of this shape may take an event for ``leaf``."""
    if leaf is None:
        return shape.status is Status.UNSTARTED or shape.status is Status.DELAYED
    return shape.status is Status.UNSTARTED and leaf not in shape.captured


def takers_and_noters(record: TaskRecord, leaf: LeafName, *, in_after: bool) -> list[Instance]:
    """The open instances that a trigger of ``unless`` concerns, in a task whose conditions are lists."""
    return instances_where(
        record.open, lambda shape: leaf not in shape.noted or (in_after and _shape_may_take(shape, leaf))
    )
