"""Rules of leaves that hold their newest events instead of the first (docs/semantics.md, R3.13, R3.14).

Pure functions over values. Event times come from the events (``time_of``): those that a leaf of ``after``
holds are kept.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, assert_never

from triggerstream.core.conditions import Condition, Slot, Takes
from triggerstream.core.durations import format_duration
from triggerstream.core.held import (
    EventTime,
    Holding,
    InSequence,
    Keyed,
    Members,
    Moment,
    Ref,
    Several,
    TimeOf,
    event_words,
    hold_one,
    place_of,
    ref_at,
    refs_and_times,
)
from triggerstream.core.ids import LeafName, TriggerName
from triggerstream.core.joined_names import join_first
from triggerstream.core.sequences import meet_sequences, place_event


def hold_newest(slot: Slot, moment: Moment, held: Holding | None, *, key: str, time_of: TimeOf) -> Holding:
    """Add the event at ``moment`` to a leaf, which keeps its newest events by event time.

    Returns ``held`` itself if the event is older than all that the leaf keeps.
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


# ---- the window -----------------------------------------------------------------------------------


_NAMED: Final = 3
"""Most forgotten events of a leaf that a sentence names."""


class TimeWindow(NamedTuple):
    """The time within which events can satisfy a condition together. It ends with the newest event held."""

    start_us: EventTime
    newest: Ref


class Forgetting(NamedTuple):
    """The result of forgetting the events before the window: what leaves still hold, and what they forgot."""

    window: TimeWindow
    held: dict[LeafName, Holding]
    forgotten: dict[LeafName, list[Ref]]


def too_old(leaf: LeafName, refs: Sequence[Ref], window: TimeWindow, *, within_us: int) -> str:
    """A sentence that says why events of a leaf, which lie before the window, do not count."""
    named = join_first([event_words(ref) for ref in refs], _NAMED)
    verb = "do not count: they are" if len(refs) > 1 else "does not count: it is"
    return f"{named} of `{leaf}` {verb} {before_window(window, within_us=within_us)}"


def before_window(window: TimeWindow, *, within_us: int) -> str:
    """The part of a sentence that says how an event lies before the window."""
    return f"more than {format_duration(within_us)} older than {event_words(window.newest)} (`within`)"


def window_of(condition: Condition, held: Mapping[LeafName, Holding], time_of: TimeOf) -> TimeWindow | None:
    """The window of what leaves hold; None if they hold nothing, or the condition has no ``within``."""
    return _window(condition, _orders(condition, held, time_of))


def forget_too_old(
    condition: Condition, held: Mapping[LeafName, Holding], time_of: TimeOf
) -> Forgetting | None:
    """Forget the events before the window (R3.14); None if there are none."""
    orders = _orders(condition, held, time_of)
    window = _window(condition, orders)
    if window is None or all(order[0][0] >= window.start_us for order in orders.values()):
        return None
    now = dict(held)
    forgotten: dict[LeafName, list[Ref]] = {}
    for name, order in orders.items():
        first = bisect_left(order, (window.start_us, -1))
        if not first:
            continue
        forgotten[name] = [ref_at(place) for _, place in order[:first]]
        kept = _without(now.pop(name), set(forgotten[name]), order[first:])
        if kept is not None:
            now[name] = kept
    in_order = {name: now[name] for name in held if name in now}
    return Forgetting(window, meet_sequences(condition, in_order), forgotten)


def _orders(
    condition: Condition, held: Mapping[LeafName, Holding], time_of: TimeOf
) -> dict[LeafName, list[Moment]]:
    """The events of each leaf that holds some, in the order of event time; none without ``within``."""
    if condition.within_us is None:
        return {}
    found = ((name, held[name]) for name in condition.slots if name in held)
    orders = ((name, moments(name, one, time_of)) for name, one in found if not isinstance(one, Members))
    return {name: order for name, order in orders if order}


def _window(condition: Condition, orders: Mapping[LeafName, list[Moment]]) -> TimeWindow | None:
    if condition.within_us is None or not orders:
        return None
    time_us, place = max(order[-1] for order in orders.values())
    return TimeWindow(time_us - condition.within_us, ref_at(place))


def _without(held: Holding, forgotten: set[Ref], order: list[Moment]) -> Holding | None:
    """Remove events from what a leaf holds; None if nothing is left. ``order`` has the events that stay."""
    if not order:
        return None
    match held:
        case Several(of=of, at=at):
            now: Several | Keyed = Several(of=of, at=[ref for ref in at if ref not in forgotten])
        case Keyed(of=of, by=by):
            now = Keyed(of=of, by={key: ref for key, ref in by.items() if ref not in forgotten})
        case InSequence(of=of, met=met):
            pairs = [pair for pair in zip(held.at, held.times, strict=True) if pair[0] not in forgotten]
            at, times = [ref for ref, _ in pairs], [time_us for _, time_us in pairs]
            return InSequence(of=of, at=at, times=times, met=met).with_order(order)
        case _:
            raise AssertionError(held)
    now.__dict__["moments"] = order
    return now
