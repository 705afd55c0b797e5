"""Tests of the order of events that records and timers bring."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.held import place_of, ref_after


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
