"""The events that count for a leaf, of those that it holds (docs/semantics.md, R3.8, R3.10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, assert_never

from triggerstream.core.conditions import Condition, Slot, Takes
from triggerstream.core.held import Holding, InSequence, Keyed, Members, One, Ref, Several, ref_at
from triggerstream.core.ids import LeafName
from triggerstream.core.slots import refs
from triggerstream.core.untaken import leaf_before

CountedEvents: TypeAlias = list[tuple[str | None, Ref]]
"""The events of a leaf that count, with their keys."""


def events_of(held: Holding) -> CountedEvents:
    """The events that a leaf holds and that count, with their keys."""
    match held:
        case int():
            return [(None, held)]
        case One(ref=ref):
            return [(None, ref)]
        case Several(at=at):
            return [(None, ref) for ref in at]
        case Keyed(by=by):
            return list(by.items())
        case Members(by=members):
            return [(key, ref) for key, ref in members.items() if ref is not None]
        case InSequence(met=list() as met):
            return [(None, ref) for ref in met]
        case InSequence(met=int() as met):
            return [(None, met)]
        case InSequence():
            return []
        case _ as never:
            assert_never(never)


def counted_events(condition: Condition, slot: Slot, held: Mapping[LeafName, Holding]) -> CountedEvents:
    """The events of a leaf that count: of a leaf in a sequence, those that stand in their place."""
    holding = held.get(slot.name)
    if holding is None:
        return []
    if slot.takes in {Takes.FIRST, Takes.COUNT}:
        # A leaf of `unless` keeps what it noted when a file makes it another kind of leaf.
        events = [ref for _, ref in refs(slot.name, holding)]
        return [(None, ref) for ref in events[: slot.leaf.count or 1]]
    if not isinstance(holding, InSequence) or holding.met is not None or slot.leaf.count is None:
        return events_of(holding)
    # Fewer than its `count` have come; those count that are later than the leaf before.
    order = holding.in_order
    before = leaf_before(condition, slot.name)
    if before is not None:
        known = held.get(before.name)
        if not isinstance(known, InSequence) or known.met is None:
            return []
        met = {known.met} if isinstance(known.met, int) else set(known.met)
        last = max(moment for moment in known.in_order if ref_at(moment[1]) in met)
        order = [moment for moment in order if moment > last]
    return [(None, ref_at(place)) for place in sorted(place for _, place in order)]
