"""Rules of leaves that hold their newest events instead of the first (docs/semantics.md, R3.13).

Pure functions over values. Event times are asked for, because what a leaf of ``after`` holds is kept.
"""

from __future__ import annotations

from bisect import insort
from typing import assert_never

from triggerstream.core.conditions import Slot, Takes
from triggerstream.core.held import (
    Holding,
    InSequence,
    Keyed,
    Moment,
    Several,
    TimeOf,
    hold_one,
    place_of,
    ref_at,
    refs_and_times,
)
from triggerstream.core.ids import LeafName, TriggerName
from triggerstream.core.sequences import place_event


def hold_newest(slot: Slot, moment: Moment, held: Holding | None, *, key: str, time_of: TimeOf) -> Holding:
    """What a leaf holds after it took the event at ``moment``: its newest events by event time.

    It is ``held`` if the event is older than what the leaf holds.
    """
    order = [] if held is None else moments(slot.name, held, time_of)
    match slot.takes:
        case Takes.FIRST:
            if held is not None and order[-1] > moment:
                return held
            return hold_one(slot.leaf, ref_at(moment[1]))
        case Takes.COUNT:
            return _newest_of_all(slot, moment, held, order)
        case Takes.KEYS:
            return _newest_of_keys(slot, moment, held, order, key=key, time_of=time_of)
        case Takes.SEQUENCE | Takes.SEQUENCE_START:
            return place_event(slot, moment, held)
        case Takes.MEMBERS:
            raise AssertionError(slot)
        case _ as never:
            assert_never(never)


def moments(name: LeafName, held: Holding, time_of: TimeOf) -> list[Moment]:
    """The events that a leaf without ``each`` holds, in the order of event time."""
    if isinstance(held, InSequence):
        return held.in_order
    trigger = TriggerName(name) if isinstance(held, int) else held.of
    if not isinstance(held, Several | Keyed):
        at, _ = refs_and_times(held)
        return [(time_of(trigger, ref), place_of(ref)) for ref in at]
    known = held.__dict__
    if "moments" not in known:
        at = held.at if isinstance(held, Several) else list(held.by.values())
        known["moments"] = sorted((time_of(trigger, ref), place_of(ref)) for ref in at)
    return known["moments"]  # type: ignore[no-any-return]


def _newest_of_all(slot: Slot, moment: Moment, held: Holding | None, order: list[Moment]) -> Holding:
    """The newest events of a leaf with ``count``."""
    order = order.copy()
    insort(order, moment)
    at = [*refs_and_times(held)[0], ref_at(moment[1])]
    if held is not None and len(order) > (slot.leaf.count or 1):
        dropped = order.pop(0)
        if dropped == moment:
            return held
        at.remove(ref_at(dropped[1]))
    now = Several(of=slot.leaf.trigger, at=at)
    now.__dict__["moments"] = order
    return now


def _newest_of_keys(
    slot: Slot, moment: Moment, held: Holding | None, order: list[Moment], *, key: str, time_of: TimeOf
) -> Holding:
    """The newest event of each key, and of these the newest."""
    order = order.copy()
    by = dict(held.by) if isinstance(held, Keyed) else {}
    earlier = by.pop(key, None)
    if held is not None and earlier is not None:
        of_key = (time_of(slot.leaf.trigger, earlier), place_of(earlier))
        if of_key > moment:
            return held
        order.remove(of_key)
    insort(order, moment)
    by[key] = ref_at(moment[1])
    if held is not None and len(order) > (slot.leaf.count or 1):
        dropped = order.pop(0)
        if dropped == moment:
            return held
        ref = ref_at(dropped[1])
        del by[next(one for one, known in by.items() if known == ref)]
    now = Keyed(of=slot.leaf.trigger, by=by)
    now.__dict__["moments"] = order
    return now
