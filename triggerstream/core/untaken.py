"""The reason why a leaf did not take an event of its trigger, in words. Computed only for an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, assert_never

from triggerstream.core.conditions import Condition, Leaf, Slot
from triggerstream.core.held import (
    Holding,
    InSequence,
    Keyed,
    Members,
    One,
    Several,
    TimeOf,
    event_words,
    place_of,
    ref_at,
)
from triggerstream.core.ids import LeafName, SessionId
from triggerstream.core.newest import before_window, moments, window_of
from triggerstream.core.paths import format_path
from triggerstream.core.sequences import MOST_IN_SEQUENCE
from triggerstream.core.slots import MOST_KEYS, key_text, list_keys, value_at
from triggerstream.core.state import Arrival
from triggerstream.core.where import Answer, evaluate_where, missing_field

_TOO_EARLY: Final = "too early for its place in the sequence"


def why_no_match(slot: Slot, event: Arrival, session: SessionId) -> str | None:
    """Why an event does not match a leaf (R3.7); None if it does."""
    leaf = slot.leaf
    if leaf.where is not None:
        found = evaluate_where(
            leaf.where, event.data, time_us=event.time_us, session=session, event_id=event.id
        )
        if found.answer is Answer.ERROR:
            return f"its `where` fails: {found.text}"
        if found.answer is not Answer.TRUE:
            return f"its `where` {found.text}"
    if leaf.key is not None and key_text(value_at(event.data, leaf.key)) is None:
        wrong = f"{format_path(leaf.key)} is no string and no integer"
        return f"it has no key: {missing_field(event.data, leaf.key) or wrong}"
    for other in slot.awaits_list:
        if other.each is not None and list_keys(value_at(event.data, other.each.path)) is None:
            if (absent := missing_field(event.data, other.each.path)) is not None:
                return f"it has no list for `{other.name}`: {absent}"
            usable = f"list of at most {MOST_KEYS:,} strings and integers"
            return f"{format_path(other.each.path)} is no {usable}, which `{other.name}` needs"
    return None


def why_not_taken(
    condition: Condition,
    slot: Slot,
    holds: Mapping[LeafName, Holding],
    event: Arrival,
    *,
    time_of: TimeOf,
) -> str | None:
    """Why an event that matches a leaf does not count for it (R3.8, R3.13, R3.14); None if it could.

    ``time_of``: of the events that leaves of ``after`` hold.
    """
    if (within_us := condition.within_us) is not None:
        window = window_of(condition, holds, time_of)
        if window is not None and event.time_us < window.start_us:
            return f"too old: it is {before_window(window, within_us=within_us)}"
    if slot.newest and not isinstance(holds.get(slot.name), InSequence):
        return _older(slot, holds.get(slot.name), event, time_of)
    return _not_taken(condition, slot, holds, event)


def _older(slot: Slot, held: Holding | None, event: Arrival, time_of: TimeOf) -> str | None:
    """Why a leaf that holds its newest events does not hold an event that happened before (R3.13)."""
    if held is None:
        return None
    leaf, moment = slot.leaf, (event.time_us, place_of(event.offset))
    if leaf.key is not None and isinstance(held, Keyed):
        key = key_text(value_at(event.data, leaf.key)) or ""
        if key in held.by and (time_of(leaf.trigger, held.by[key]), place_of(held.by[key])) > moment:
            return f"{event_words(held.by[key])} of the key {_quoted(key)} happened later"
    order = moments(slot.name, held, time_of)
    if len(order) < (leaf.count or 1) or order[0] < moment:
        return None
    if leaf.count is None:
        return f"the leaf holds {event_words(ref_at(order[-1][1]))}, which happened later"
    return f"the leaf has its `count` of {leaf.count}, which happened later"


def _not_taken(
    condition: Condition, slot: Slot, holds: Mapping[LeafName, Holding], event: Arrival
) -> str | None:
    """Why a leaf that holds its first events did not take one."""
    leaf, held = slot.leaf, holds.get(slot.name)
    key = "" if leaf.key is None else key_text(value_at(event.data, leaf.key)) or ""
    match held:
        case None:
            return None
        case int() | One() as one:
            return f"the leaf holds {event_words(one if isinstance(one, int) else one.ref)} already"
        case Several(at=at):
            return _full(leaf) if len(at) >= (leaf.count or 1) else None
        case Keyed(by=by):
            if key in by:
                return f"the leaf holds {event_words(by[key])} of the key {_quoted(key)} already"
            return _full(leaf) if len(by) >= (leaf.count or 1) else None
        case Members(by=members, left=left):
            if (member := members.get(key)) is not None:
                return f"the leaf holds {event_words(member)} of the key {_quoted(key)} already"
            if left is not None:
                return None if key in members else f"the key {_quoted(key)} is not in the list"
            return f"full: the leaf holds {MOST_KEYS:,} keys" if len(members) >= MOST_KEYS else None
        case InSequence() as in_sequence:
            return _no_place(condition, slot, in_sequence, event, holds)
        case _ as never:
            assert_never(never)


def _no_place(
    condition: Condition,
    slot: Slot,
    held: InSequence,
    event: Arrival,
    holds: Mapping[LeafName, Holding],
) -> str | None:
    """Why an event of a leaf in a sequence does not count (R3.9)."""
    if held.met is not None:
        first = held.met if isinstance(held.met, int) else held.met[-1]
        return f"not needed: {event_words(first)} holds its place in the sequence"
    if event.offset not in held.at:
        full = len(held.at) >= MOST_IN_SEQUENCE
        return f"full: a place in a sequence holds {MOST_IN_SEQUENCE} events" if full else None
    if (place := _place_of(condition, slot.name, event.offset, holds)) is not None:
        return f"it has the place `{place}` already"
    before = leaf_before(condition, slot.name)
    if before is None:
        return None
    known = holds.get(before.name)
    if isinstance(known, InSequence) and known.met is not None:
        last = known.met if isinstance(known.met, int) else known.met[-1]
        return f"{_TOO_EARLY}: it happened before {event_words(last)} of `{before.name}`"
    return f"{_TOO_EARLY}: `{before.name}` is not met yet"


def leaf_before(condition: Condition, name: LeafName) -> Leaf | None:
    """The leaf before the leaf ``name`` in its sequence."""
    for sequence in condition.sequences:
        for before, leaf in zip(sequence.leaves, sequence.leaves[1:], strict=False):
            if leaf.name == name:
                return before
    return None


def _place_of(
    condition: Condition, name: LeafName, offset: int, holds: Mapping[LeafName, Holding]
) -> LeafName | None:
    """The leaf before the leaf ``name`` in its sequence that an event meets; None if it meets none."""
    before = leaf_before(condition, name)
    while before is not None:
        known = holds.get(before.name)
        if isinstance(known, InSequence) and known.met is not None:
            met = [known.met] if isinstance(known.met, int) else known.met
            if offset in met:
                return before.name
        before = leaf_before(condition, before.name)
    return None


def _full(leaf: Leaf) -> str:
    return f"full: the leaf has its `count` of {leaf.count}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
