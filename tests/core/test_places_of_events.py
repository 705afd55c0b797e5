"""Tests of the order of events that records and timers bring."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.held import InSequence, One, Several, place_of, ref_after
from triggerstream.core.ids import LeafName, TaskName, TriggerName
from triggerstream.core.makers import derived_maker
from triggerstream.core.state import Arrival, Instance, SessionState, Status, TaskRecord
from triggerstream.wire import state as wire


@given(st.lists(st.booleans(), max_size=50))
def test_events_of_timers_stand_between_the_records_around_them(fired: list[bool]) -> None:
    last, offset = 0, 0
    refs = [offset]
    for by_timer in fired:
        if by_timer:
            last = ref_after(offset, last)
            refs.append(last)
        else:
            offset += 1
            refs.append(offset)
    places = [place_of(ref) for ref in refs]
    assert places == sorted(set(places))
    assert all((ref < 0) == by_timer for ref, by_timer in zip(refs[1:], fired, strict=True))


def test_records_of_timers_move_the_events_around_them_only() -> None:
    first = ref_after(7, 0)
    assert [first, ref_after(7, first), ref_after(9, first)] == [-7340033, -7340034, -9437185]


BY_TIMERS = [ref_after(4, 0), ref_after(4, ref_after(4, 0))]
"""Two events that timers fired between the records at offsets 4 and 5."""
IN_LOG_ORDER = [4, *BY_TIMERS, 5]


def instance(**held: One | Several) -> Instance:
    captured = {LeafName(name): one for name, one in held.items()}
    return Instance(number=0, status=Status.UNSTARTED, created_us=0, changed_us=0, captured={**captured})


def test_earlier_events_are_stored_in_log_order() -> None:
    one = instance(a=Several(of=TriggerName("a"), at=IN_LOG_ORDER), b=One(of=TriggerName("b"), ref=3))
    arrivals = {ref: Arrival(data={}, offset=ref, time_us=0) for ref in (5, *BY_TIMERS, 4)}
    state = SessionState(
        offset=9,
        tasks={TaskName("t"): TaskRecord(next=1, open={0: one})},
        kept={
            TriggerName("a"): arrivals,
            TriggerName("b"): {3: Arrival(data={}, offset=3, time_us=0)},
        },
    )
    kept = json.loads(wire.encode(state))["kept"]
    assert list(kept) == ["b", "a"]
    assert [arrival["offset"] for arrival in kept["a"]] == IN_LOG_ORDER


def test_the_event_that_made_an_instance_is_the_first_in_the_log() -> None:
    of = TriggerName("a")
    assert derived_maker(None, instance(a=Several(of=of, at=[*BY_TIMERS, 5]))) == BY_TIMERS[0]
    assert derived_maker(None, instance(a=Several(of=of, at=IN_LOG_ORDER))) == 4


def test_a_place_of_a_sequence_with_a_count_brings_its_events_in_log_order() -> None:
    held = InSequence(of=TriggerName("a"), at=IN_LOG_ORDER, times=[9, 8, 8, 7])
    assert [place_of(ref) for ref in IN_LOG_ORDER] == sorted(map(place_of, IN_LOG_ORDER))
    chosen = held.first_after(None, 3)
    assert chosen is not None
    assert chosen.refs == [*BY_TIMERS, 5]
    assert chosen.last == (8, place_of(BY_TIMERS[1]))
    later = held.first_after((8, place_of(BY_TIMERS[0])), 2)
    assert later is not None
    assert later.refs == [4, BY_TIMERS[1]]
