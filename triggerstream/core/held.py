"""The stored forms of what a leaf of an instance holds (docs/semantics.md, R3.6 to R3.11).

Each value says by itself which events it refers to and which shape its argument has, so that a state can be
read without the tasks file under which it was made. The rules are in :mod:`triggerstream.core.slots` and
:mod:`triggerstream.core.sequences`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Final, NamedTuple, TypeAlias, assert_never

from msgspec import Meta, Struct

from triggerstream.core.conditions import Leaf
from triggerstream.core.ids import LeafName, TriggerName

Ref: TypeAlias = Annotated[int, Meta(ge=-(2**63) + 1, le=2**63 - 1)]
"""Identifies an event of a trigger: its offset, or a negative number if a timer fired it (R8.7)."""
EventTime: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Microseconds since the Unix epoch; negative for an event that happened before 1970."""


class One(Struct, frozen=True, omit_defaults=True, tag_field="holds", tag="one", kw_only=True):
    """The event of a plain leaf, if its name is not its trigger or its time must be known."""

    of: TriggerName
    ref: Ref
    time: EventTime | None = None


class Several(
    Struct, frozen=True, omit_defaults=True, tag_field="holds", tag="several", kw_only=True, dict=True
):
    """The events of a leaf with ``count``, in log order. Their :func:`moments` are worked out once."""

    of: TriggerName
    at: list[Ref]
    times: list[EventTime] | None = None


class Keyed(Struct, frozen=True, tag_field="holds", tag="keyed", kw_only=True, dict=True):
    """The events of a leaf with ``count`` and ``key``: one of each key, in log order.

    Their :func:`moments` are worked out once.
    """

    of: TriggerName
    by: dict[str, Ref]


class Members(Struct, frozen=True, omit_defaults=True, tag_field="holds", tag="members", kw_only=True):
    """The events of a leaf with ``each``: the first of each key, or None for an element that is missing.

    ``left`` is the number of missing elements; None: the list has not arrived.
    """

    of: TriggerName
    by: dict[str, Ref | None]
    left: Annotated[int, Meta(ge=0)] | None = None


_PLACES: Final = 20
"""Bits of a place that number the events that timers fired after one record."""


def place_of(ref: Ref) -> int:
    """The place of an event in the log order; an event that a timer fired comes between two records."""
    return ref << _PLACES if ref >= 0 else -ref


def ref_at(place: int) -> Ref:
    """The event at a place of the log order."""
    return -place if place & ((1 << _PLACES) - 1) else place >> _PLACES


def ref_after(offset: int, last: Ref) -> Ref:
    """The ref of an event that a timer fires after the record at ``offset``; ``last``: the one before it.

    It follows from what precedes it, so records of timers, which a log may have or lack, change nothing.
    """
    return -max((offset << _PLACES) + 1, 1 - last)


def record_before(ref: Ref) -> int:
    """The offset of the record before an event that a timer fired."""
    return -ref >> _PLACES


def event_words(ref: Ref) -> str:
    """An event in a sentence: by its offset, or by that of the record before it."""
    return f"event {ref}" if ref >= 0 else f"the timeout after event {record_before(ref)}"


def offset_of(ref: Ref) -> int | None:
    """The offset of an event; None for one that a timer fired."""
    return ref if ref >= 0 else None


Moment: TypeAlias = tuple[EventTime, int]
"""An event's place in the order of event time, and of the log (:func:`place_of`) where times are equal."""
TimeOf: TypeAlias = Callable[[TriggerName, Ref], EventTime]
"""The event time of an event that a leaf of ``after`` holds."""


class Chosen(NamedTuple):
    """Events that meet a leaf of a sequence: the moment of the last one, and all refs in log order."""

    last: Moment
    refs: list[Ref]


class InSequence(
    Struct, frozen=True, omit_defaults=True, tag_field="holds", tag="sequence", kw_only=True, dict=True
):
    """The events of a leaf in a sequence, in log order, with their event times.

    ``met`` holds the events that meet the leaf: one of a plain leaf, a list for ``count``. What is derived
    from the fields is worked out once, and is not stored.
    """

    of: TriggerName
    at: list[Ref]
    times: list[EventTime]
    met: Ref | list[Ref] | None = None

    @cached_property
    def in_order(self) -> list[Moment]:
        """The events in the order of event time."""
        return sorted((time_us, place_of(ref)) for time_us, ref in zip(self.times, self.at, strict=True))

    def first_after(self, moment: Moment | None, count: int) -> Chosen | None:
        """The earliest ``count`` events after a moment; None if there are fewer."""
        known = self.__dict__
        answered = known.get("answered")
        if answered is not None and answered[0] == moment and answered[1] == count:
            return answered[2]  # type: ignore[no-any-return]
        order = self.in_order
        start = 0 if moment is None else bisect_right(order, moment)
        found = order[start : start + count]
        chosen = None
        if len(found) == count:
            places = [place for _, place in found]
            chosen = Chosen(
                found[-1], [ref_at(place) for place in (places if count == 1 else sorted(places))]
            )
        known["answered"] = (moment, count, chosen)
        return chosen

    def with_met(self, met: Ref | list[Ref] | None) -> InSequence:
        """The same events, with others that meet the leaf."""
        changed = InSequence(of=self.of, at=self.at, times=self.times, met=met)
        changed.__dict__.update(self.__dict__)
        return changed

    def with_order(self, order: list[Moment]) -> InSequence:
        """The same, with the order of its events known."""
        self.__dict__["in_order"] = order
        return self


Held: TypeAlias = One | Several | Keyed | Members | InSequence
Holding: TypeAlias = Ref | Held
"""A ref alone is the event of a plain leaf that has its trigger's name."""


def refs_and_times(held: Holding | None) -> tuple[list[Ref], list[int]]:
    """The refs and event times of a leaf without ``key``; a time that is not known is 0."""
    match held:
        case None | Keyed() | Members():
            return [], []
        case int():
            return [held], [0]
        case One():
            return [held.ref], [held.time or 0]
        case Several():
            return held.at, held.times or [0] * len(held.at)
        case InSequence():
            return held.at, held.times
        case _ as never:
            assert_never(never)


def hold_one(leaf: Leaf, ref: Ref, time_us: int | None = None) -> Holding:
    """The holding of a plain leaf that took one event."""
    if time_us is None and str(leaf.name) == leaf.trigger:
        return ref
    return One(of=leaf.trigger, ref=ref, time=time_us)


class Remembered(Struct, omit_defaults=True, kw_only=True):
    """The latest matches of a task's leaves, where these are not the latest events of their triggers."""

    after: dict[LeafName, Holding] = {}
    unless: dict[LeafName, Holding] = {}
