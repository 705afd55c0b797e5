"""Instances of a task that may take an event of ``after``, so that an event need not visit the others.

Of a thousand deadlines that pass at once, each timeout would else visit a thousand instances of a task that
waits for it. The rules: docs/semantics.md, R3.8 and R4.5. Nothing here changes a status.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    numbers = record.open if known is None else known
    found = [
        instance
        for number in numbers
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
