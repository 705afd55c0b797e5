"""Rules of a leaf: which events match it, which it takes, when it is met, what it brings.

Pure functions over values (docs/semantics.md, R3.6 to R3.11). They change no status and decide nothing:
:mod:`triggerstream.core.fold` does.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, assert_never

from triggerstream.core import conditions
from triggerstream.core.conditions import Condition, Leaf, Path, Slot, Takes
from triggerstream.core.held import (
    Chosen,
    Holding,
    InSequence,
    Keyed,
    Members,
    Moment,
    One,
    Ref,
    Several,
)
from triggerstream.core.ids import Json, JsonObject, LeafName, TriggerName

MOST_KEYS: Final = 1_000
"""Keys that a leaf with ``each`` holds, and elements of a list."""
MOST_IN_SEQUENCE: Final = 100
"""Events held for a leaf of a sequence."""
_NO_LIMIT: Final = (2**63, 0)
"""After every event."""
_NEVER: Final = (-(2**63) - 1, 0)
"""Before every event."""


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
    timed: bool = False,
) -> dict[LeafName, Holding] | None:
    """What the leaves hold after they were offered an event; None if no leaf took it (R3.8).

    ``timed``: event times are stored with the refs, because the events themselves are not kept.
    """
    now: dict[LeafName, Holding] | None = None
    is_sequence = False
    for one in matches:
        slot = one.slot
        taken = _taken(one, (now or held).get(slot.name), timed=timed)
        if taken is None:
            continue
        if now is None:
            now = {**held}
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
            at, times = _events(held)
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
            return _placed(one, held)
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


def hold_one(leaf: Leaf, ref: Ref, time_us: int | None = None) -> Holding:
    """What a plain leaf holds that took one event."""
    if time_us is None and str(leaf.name) == leaf.trigger:
        return ref
    return One(of=leaf.trigger, ref=ref, time=time_us)


def _events(held: Holding | None) -> tuple[list[Ref], list[int]]:
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


# ---- sequences ----------------------------------------------------------------------------------


def _placed(one: Match, held: Holding | None) -> InSequence:
    """The events of a leaf of a sequence. Beyond the bound, one is dropped by event time (R3.11)."""
    slot = one.slot
    moment = (one.time_us or 0, one.ref)
    known = held if isinstance(held, InSequence) else None
    if known is None:
        at, times = _events(held)
        known = InSequence(of=slot.leaf.trigger, at=at, times=times)
    order = known.in_order.copy()
    insort(order, moment)
    at, times = [*known.at, one.ref], [*known.times, moment[0]]
    if len(order) > MOST_IN_SEQUENCE:
        dropped = order.pop(-1 if slot.takes is Takes.SEQUENCE_START else 0)
        if dropped == moment and known is held:
            return known
        drop = at.index(dropped[1])
        del at[drop], times[drop]
    return InSequence(of=slot.leaf.trigger, at=at, times=times, met=known.met).with_order(order)


def meet_sequences(
    condition: Condition, held: dict[LeafName, Holding], before: Mapping[LeafName, Holding] | None = None
) -> dict[LeafName, Holding]:
    """What leaves hold, with the events that meet the leaves of sequences worked out (R3.10).

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
    """What the leaves of a satisfied sequence held; nothing if it was not satisfied."""
    found: dict[LeafName, InSequence] = {}
    for leaf in leaves:
        known = None if before is None else before.get(leaf.name)
        if not isinstance(known, InSequence) or known.met is None:
            return {}
        found[leaf.name] = known
    return found


# ---- when a leaf is met, and what it brings -----------------------------------------------------


def is_met(slot: Slot, held: Holding | None) -> bool:
    """True if a leaf that holds this is met."""
    match slot.takes:
        case Takes.FIRST:
            return held is not None
        case Takes.COUNT:
            return len(_events(held)[0]) >= (slot.leaf.count or 1)
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
