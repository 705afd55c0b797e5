"""Rules of a leaf: which events match it, which it takes, when it is met, what it brings.

Pure functions over values (docs/semantics.md, R3.6 to R3.11). They change no status and decide nothing:
:mod:`triggerstream.core.fold` does. The rules of a sequence are in :mod:`triggerstream.core.sequences`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, assert_never

from triggerstream.core import conditions
from triggerstream.core.conditions import Condition, Leaf, Path, Slot, Takes
from triggerstream.core.held import (
    Holding,
    InSequence,
    Keyed,
    Members,
    One,
    Ref,
    Several,
    TimeOf,
    hold_one,
    place_of,
    refs_and_times,
)
from triggerstream.core.ids import Json, JsonObject, LeafName, TriggerName
from triggerstream.core.newest import hold_newest
from triggerstream.core.sequences import meet_sequences, place_event

MOST_KEYS: Final = 1_000
"""Keys that a leaf with ``each`` holds, and elements of a list."""


class Match(NamedTuple):
    """An event that matches a leaf. ``lists`` has the keys for each leaf of ``slot.awaits_list``.

    ``time_us`` is None where the event is known by its ref alone.
    """

    slot: Slot
    ref: Ref
    time_us: int | None = None
    key: str = ""
    lists: tuple[tuple[str, ...], ...] = ()


# ---- which events match -------------------------------------------------------------------------


def match(
    slot: Slot, ref: Ref, data: JsonObject, *, time_us: int, session: str, event_id: str | None
) -> Match | None:
    """The match of an event of the leaf's trigger; None if it does not match (R3.7)."""
    leaf = slot.leaf
    if leaf.where is not None and not leaf.where.matches(data, time_us, session, event_id):
        return None
    key = None if leaf.key is None else key_text(value_at(data, leaf.key))
    if leaf.key is not None and key is None:
        return None
    lists = []
    for other in slot.awaits_list:
        keys = None if other.each is None else list_keys(value_at(data, other.each.path))
        if keys is None:
            return None
        lists.append(keys)
    return Match(slot, ref, time_us, key or "", tuple(lists))


def value_at(data: JsonObject, path: Path) -> Json:
    """The value at a path; None if there is none."""
    value: Json = data
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def key_text(value: Json) -> str | None:
    """A string or an integer as a key; None for any other value."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def list_keys(value: Json) -> tuple[str, ...] | None:
    """The elements of a usable list as keys, each once; None if the list is not usable."""
    if not isinstance(value, list) or len(value) > MOST_KEYS:
        return None
    keys: dict[str, None] = {}
    for element in value:
        key = key_text(element)
        if key is None:
            return None
        keys[key] = None
    return tuple(keys)


# ---- which events a leaf takes ------------------------------------------------------------------


def take(
    condition: Condition,
    held: Mapping[LeafName, Holding],
    matches: Sequence[Match],
    *,
    time_of: TimeOf,
    timed: bool = False,
) -> dict[LeafName, Holding] | None:
    """What the leaves hold after they were offered an event; None if no leaf took it (R3.8).

    Leaves that hold their newest take each event, kept or not (R3.13). ``timed``: event times are stored with
    the refs, because the events themselves are not kept.
    """
    now: dict[LeafName, Holding] | None = None
    is_sequence = False
    for one in matches:
        slot = one.slot
        known = (now or held).get(slot.name)
        if slot.newest:
            moment = (one.time_us or 0, place_of(one.ref))
            taken: Holding | None = hold_newest(slot, moment, known, key=one.key, time_of=time_of)
        else:
            taken = _taken(one, known, timed=timed)
        if taken is None:
            continue
        if now is None:
            now = {**held} if type(held) is dict else dict(held.items())
        now[slot.name] = taken
        for other, keys in zip(slot.awaits_list, one.lists, strict=False):
            now[other.name] = with_list(other, now.get(other.name), keys)
        is_sequence = is_sequence or slot.takes is Takes.SEQUENCE or slot.takes is Takes.SEQUENCE_START
    if is_sequence and now is not None:
        return meet_sequences(condition, now, held)
    return now


def _taken(one: Match, held: Holding | None, *, timed: bool) -> Holding | None:
    """What a leaf holds after it took an event; None if it does not take it."""
    slot = one.slot
    leaf = slot.leaf
    match slot.takes:
        case Takes.FIRST:
            return hold_one(leaf, one.ref, one.time_us if timed else None) if held is None else None
        case Takes.COUNT:
            at, times = refs_and_times(held)
            if len(at) >= (leaf.count or 1):
                return None
            return Several(
                of=leaf.trigger, at=[*at, one.ref], times=[*times, one.time_us or 0] if timed else None
            )
        case Takes.KEYS:
            by = held.by if isinstance(held, Keyed) else {}
            if one.key in by or len(by) >= (leaf.count or 1):
                return None
            return Keyed(of=leaf.trigger, by={**by, one.key: one.ref})
        case Takes.MEMBERS:
            return _member_taken(one, held)
        case Takes.SEQUENCE_START | Takes.SEQUENCE:
            return place_event(slot, (one.time_us or 0, place_of(one.ref)), held)
        case _ as never:
            assert_never(never)


def _member_taken(one: Match, held: Holding | None) -> Holding | None:
    known = held if isinstance(held, Members) else Members(of=one.slot.leaf.trigger, by={})
    if known.left is None:
        if one.key in known.by or len(known.by) >= MOST_KEYS:
            return None
        return Members(of=known.of, by={**known.by, one.key: one.ref})
    if known.by.get(one.key, one.ref) is not None:
        return None  # the list has no such key, or it was taken
    return Members(of=known.of, by={**known.by, one.key: one.ref}, left=known.left - 1)


def is_full(one: Match, held: Mapping[LeafName, Holding]) -> bool:
    """True if a leaf did not take an event because it holds as many keys as it may."""
    known = held.get(one.slot.name)
    return (
        isinstance(known, Members)
        and known.left is None
        and len(known.by) >= MOST_KEYS
        and one.key not in known.by
    )


def with_list(leaf: Leaf, held: Holding | None, keys: Sequence[str]) -> Members:
    """What a leaf with ``each`` holds after its list has arrived: other keys are dropped."""
    known = held.by if isinstance(held, Members) else {}
    by = {key: known.get(key) for key in keys}
    return Members(of=leaf.trigger, by=by, left=sum(ref is None for ref in by.values()))


def without_list(held: Members) -> Members:
    """What a leaf with ``each`` holds after its list was withdrawn."""
    return Members(of=held.of, by={key: ref for key, ref in held.by.items() if ref is not None})


def list_of(held: Holding | None) -> tuple[str, ...] | None:
    """The keys of the list that has arrived for a leaf with ``each``; None before."""
    return tuple(held.by) if isinstance(held, Members) and held.left is not None else None


# ---- when a leaf is met, and what it brings -----------------------------------------------------


def is_met(slot: Slot, held: Holding | None) -> bool:
    """True if a leaf that holds this is met."""
    match slot.takes:
        case Takes.FIRST:
            return held is not None
        case Takes.COUNT:
            return len(refs_and_times(held)[0]) >= (slot.leaf.count or 1)
        case Takes.KEYS:
            return isinstance(held, Keyed) and len(held.by) >= (slot.leaf.count or 1)
        case Takes.MEMBERS:
            return isinstance(held, Members) and held.left == 0
        case Takes.SEQUENCE_START | Takes.SEQUENCE:
            return isinstance(held, InSequence) and held.met is not None
        case _ as never:
            assert_never(never)


def met_leaves(condition: Condition, held: Mapping[LeafName, Holding]) -> set[LeafName]:
    """The leaves of a condition that are met."""
    return {name for name, slot in condition.slots.items() if is_met(slot, held.get(name))}


def is_satisfied(condition: Condition, held: Mapping[LeafName, Holding]) -> bool:
    """True if a condition is satisfied by what its leaves hold (R3.9)."""
    if condition.is_plain:
        return len(held) >= len(condition.names) and held.keys() >= condition.names
    return conditions.is_satisfied(condition.root, met_leaves(condition, held))


def of_met_leaves(condition: Condition, held: Mapping[LeafName, Holding]) -> dict[LeafName, Holding]:
    """The events that the met leaves of a condition bring, in a form that needs no file to be read (R5.7)."""
    met: dict[LeafName, Holding] = {}
    for name, slot in condition.slots.items():
        holding = held.get(name)
        if holding is None or not is_met(slot, holding):
            continue
        if isinstance(holding, InSequence) and holding.met is not None:
            holding = (
                Several(of=holding.of, at=holding.met)
                if isinstance(holding.met, list)
                else hold_one(slot.leaf, holding.met)
            )
        met[name] = holding
    return met


def brought_again(
    brought: Mapping[LeafName, Holding], held: Mapping[LeafName, Holding]
) -> dict[LeafName, Holding]:
    """The holdings of the next round: the events that the leaves ``brought`` in this one, and no others.

    ``held``: the holdings of this round. A leaf of a sequence keeps its form, which has event times.
    """
    again: dict[LeafName, Holding] = {}
    for name, holding in brought.items():
        known = held.get(name)
        if isinstance(known, InSequence) and known.met is not None:
            met = {known.met} if isinstance(known.met, int) else set(known.met)
            of_met = [place for place, ref in enumerate(known.at) if ref in met]
            again[name] = InSequence(
                of=known.of,
                at=[known.at[place] for place in of_met],
                times=[known.times[place] for place in of_met],
                met=known.met,
            )
        else:
            again[name] = holding
    return again


def brought(name: LeafName, held: Holding, data_of: Callable[[TriggerName, Ref], JsonObject]) -> Json:
    """The argument that a leaf passes with what it holds, complete or not (R5.3)."""
    match held:
        case int():
            return data_of(TriggerName(name), held)
        case One():
            return data_of(held.of, held.ref)
        case Several():
            return [data_of(held.of, ref) for ref in held.at]
        case Keyed():
            return [data_of(held.of, ref) for ref in held.by.values()]
        case Members():
            return {key: data_of(held.of, ref) for key, ref in held.by.items() if ref is not None}
        case InSequence(met=list() as met):
            return [data_of(held.of, ref) for ref in met]
        case InSequence(met=int() as met):
            return data_of(held.of, met)
        case InSequence():
            return None
        case _ as never:
            assert_never(never)


# ---- the events behind it -----------------------------------------------------------------------


def refs(name: LeafName, held: Holding) -> Iterator[tuple[TriggerName, Ref]]:
    """The events that a leaf holds, each by trigger and ref."""
    match held:
        case int():
            yield TriggerName(name), held
        case One():
            yield held.of, held.ref
        case Several() | InSequence():
            for ref in held.at:
                yield held.of, ref
        case Keyed():
            for ref in held.by.values():
                yield held.of, ref
        case Members():
            for member in held.by.values():
                if member is not None:
                    yield held.of, member
        case _ as never:
            assert_never(never)


def captured_refs(captured: Mapping[LeafName, Holding]) -> Iterator[tuple[TriggerName, Ref]]:
    """The events that the leaves of an instance hold. An event that two leaves hold comes twice."""
    for name, held in captured.items():
        if type(held) is int:
            yield name, held  # type: ignore[misc]  # a plain leaf that has its trigger's name
        else:
            yield from refs(name, held)
