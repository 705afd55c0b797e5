"""Rules of a sequence: which events its leaves hold, and which of these meet them.

Pure functions over values (docs/semantics.md, R3.10, R3.11).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Final

from triggerstream.core.conditions import Condition, Leaf, Slot, Takes
from triggerstream.core.held import Chosen, Holding, InSequence, Moment, Ref, ref_at, refs_and_times
from triggerstream.core.ids import LeafName

MOST_IN_SEQUENCE: Final = 100
"""Events held for a leaf of a sequence."""
_NO_LIMIT: Final = (2**63, 0)
"""After every event."""
_NEVER: Final = (-(2**63) - 1, 0)
"""Before every event."""


def place_event(slot: Slot, moment: Moment, held: Holding | None) -> InSequence:
    """Add the event at ``moment`` to a leaf of a sequence.

    If the leaf then holds too many, it drops its newest or oldest event (R3.11, R3.13).
    """
    known = held if isinstance(held, InSequence) else None
    if known is None:
        at, times = refs_and_times(held)
        known = InSequence(of=slot.leaf.trigger, at=at, times=times)
    order = known.in_order.copy()
    insort(order, moment)
    at, times = [*known.at, ref_at(moment[1])], [*known.times, moment[0]]
    if len(order) > MOST_IN_SEQUENCE:
        dropped = order.pop(-1 if slot.takes is Takes.SEQUENCE_START and not slot.newest else 0)
        if dropped == moment and known is held:
            return known
        drop = at.index(ref_at(dropped[1]))
        del at[drop], times[drop]
    return InSequence(of=slot.leaf.trigger, at=at, times=times, met=known.met).with_order(order)


def meet_sequences(
    condition: Condition, held: dict[LeafName, Holding], before: Mapping[LeafName, Holding] | None = None
) -> dict[LeafName, Holding]:
    """Work out which of the events that leaves hold meet the leaves of sequences (R3.10).

    ``before``: what they held before they were offered an event that they have taken. A sequence that was
    satisfied holds what it held before where an event that a leaf dropped would undo it (R3.11).
    """
    now = held
    for sequence in condition.sequences:
        changed = _Meeting(sequence.leaves, before).changed(held)
        if changed:
            now = {**now, **changed}
    return now


class _Meeting:
    """Works out which events meet the leaves of a sequence, in one pass over them.

    The leaves are offered an event one after the other. So where a leaf has dropped an event, the leaves
    after it count with what they held before.
    """

    __slots__ = ("_before", "_lasts", "_leaves", "_limits")

    def __init__(self, leaves: Sequence[Leaf], before: Mapping[LeafName, Holding] | None) -> None:
        self._leaves = leaves
        self._before = _satisfied_before(leaves, before)
        self._limits: list[Moment] | None = None
        self._lasts: list[Moment] | None = None

    def changed(self, held: Mapping[LeafName, Holding]) -> dict[LeafName, InSequence]:
        """The leaves that hold something else than ``held``."""
        changed: dict[LeafName, InSequence] = {}
        before = self._before
        last: Moment | None = None
        is_open = True
        restored = 0
        for place, leaf in enumerate(self._leaves):
            known = held.get(leaf.name)
            if not isinstance(known, InSequence):
                is_open = False
                continue
            chosen = known.first_after(last, leaf.count or 1) if is_open else None
            if before and self._undoes(place, known, chosen):
                for one in self._leaves[restored : place + 1]:
                    changed[one.name] = before[one.name]
                restored = place + 1
                last, is_open = self._last_before(place), True
                continue
            is_open = chosen is not None
            met: Ref | list[Ref] | None = None
            if chosen is not None:
                last = chosen.last
                met = chosen.refs[0] if leaf.count is None else chosen.refs
            if met != known.met:
                changed[leaf.name] = known.with_met(met)
        return changed

    def _undoes(self, place: int, known: InSequence, chosen: Chosen | None) -> bool:
        """True if a leaf dropped an event, and the sequence is not satisfied any more."""
        was = self._before[self._leaves[place].name]
        if known is was or len(known.at) > len(was.at):
            return False
        if self._limits is None:
            self._limits = self._limits_before()
        return chosen is None or chosen.last >= self._limits[place + 1]

    def _limits_before(self) -> list[Moment]:
        """For each place, the moment before which the leaf in front must be met, or a later one was not."""
        limits = [_NO_LIMIT]
        for leaf in reversed(self._leaves):
            order = self._before[leaf.name].in_order
            first = bisect_left(order, limits[-1]) - (leaf.count or 1)
            limits.append(order[first] if first >= 0 else _NEVER)
        limits.reverse()
        return limits

    def _last_before(self, place: int) -> Moment | None:
        """The last event that met a leaf before."""
        if self._lasts is None:
            self._lasts = []
            last: Moment | None = None
            for leaf in self._leaves:
                chosen = self._before[leaf.name].first_after(last, leaf.count or 1)
                if chosen is None:
                    break
                last = chosen.last
                self._lasts.append(last)
        return self._lasts[place] if place < len(self._lasts) else None


def _satisfied_before(
    leaves: Sequence[Leaf], before: Mapping[LeafName, Holding] | None
) -> dict[LeafName, InSequence]:
    """The holdings of the leaves of a satisfied sequence; empty if it was not satisfied."""
    found: dict[LeafName, InSequence] = {}
    for leaf in leaves:
        known = None if before is None else before.get(leaf.name)
        if not isinstance(known, InSequence) or known.met is None:
            return {}
        found[leaf.name] = known
    return found
