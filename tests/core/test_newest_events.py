"""Leaves that hold their newest events by event time: of tasks with ``within`` or ``debounce`` (R3.13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.story import Story, read
from triggerstream.core.conditions import Condition, Takes
from triggerstream.core.events import Trigger
from triggerstream.core.held import Holding, InSequence, Ref, place_of, ref_after, ref_at
from triggerstream.core.ids import Json, JsonObject, LeafName, TriggerName
from triggerstream.core.slots import Match, brought, take
from triggerstream.wire import state as wire

FIRST_TIMER = ref_after(4, 0)
SECOND_TIMER = ref_after(4, FIRST_TIMER)
"""Two events that timers fired between the records at offsets 4 and 5."""


class Offered(NamedTuple):
    """An event of the trigger ``a``: its ref, its event time, and its key."""

    ref: Ref
    time_us: int
    key: str = ""


def condition(*after: Json, **keys: Json) -> Condition:
    """``after`` of a task with ``within``, or with other keys that are given."""
    times: JsonObject = keys or {"within": "365d"}
    (task,) = read({"t": {"after": [*after], "run": "my_app.tasks.run", **times}}).tasks
    return task.after


def offer(after: Condition, *events: Offered) -> dict[LeafName, Holding]:
    """What the leaves hold after they were offered events of the trigger ``a``."""
    times = {event.ref: event.time_us for event in events}
    held: dict[LeafName, Holding] = {}
    for event in events:
        slots = after.by_trigger[TriggerName("a")]
        matches = [Match(slot, event.ref, event.time_us, event.key) for slot in slots]
        taken = take(after, held, matches, time_of=lambda _, ref: times[ref])
        assert taken is not None, "each event that matches is taken, kept or not"
        held = taken
    return held


def refs_of(after: Condition, *events: Offered) -> Json:
    """The refs that the leaf ``a`` brings."""
    return brought(LeafName("a"), offer(after, *events)[LeafName("a")], lambda _, ref: {"ref": ref})


def newest(*refs: Ref) -> Json:
    return [{"ref": ref} for ref in refs]


@pytest.mark.parametrize("keys", [{"within": "1d"}, {"debounce": "1h"}])
def test_plain_leaf_holds_its_newest_event(keys: dict[str, Json]) -> None:
    after = condition("a", **keys)
    assert refs_of(after, Offered(0, 5), Offered(1, 7), Offered(2, 6)) == {"ref": 1}


def test_of_equal_times_the_later_in_the_log_is_newer() -> None:
    plain, two = condition("a"), condition({"trigger": "a", "count": 2})
    keyed = condition({"trigger": "a", "key": "data.by", "count": 2})
    assert refs_of(plain, Offered(0, 5), Offered(1, 5)) == {"ref": 1}
    assert refs_of(two, Offered(0, 5), Offered(1, 5), Offered(2, 5)) == newest(1, 2)
    assert refs_of(keyed, Offered(0, 5, "x"), Offered(1, 5, "x")) == newest(1)


def test_events_of_timers_are_later_in_the_log_than_the_record_before_them() -> None:
    plain, two = condition("a"), condition({"trigger": "a", "count": 2})
    events = [Offered(4, 5), Offered(FIRST_TIMER, 5), Offered(SECOND_TIMER, 5)]
    assert refs_of(plain, *events) == {"ref": SECOND_TIMER}
    assert refs_of(two, *events) == newest(FIRST_TIMER, SECOND_TIMER)
    assert refs_of(plain, *events, Offered(5, 5)) == {"ref": 5}
    assert refs_of(two, *events, Offered(5, 5)) == newest(SECOND_TIMER, 5)


def test_count_holds_the_newest_in_log_order() -> None:
    after = condition({"trigger": "a", "count": 2})
    assert refs_of(after, Offered(0, 9), Offered(1, 5), Offered(2, 7)) == newest(0, 2)
    assert refs_of(after, Offered(0, 9), Offered(1, 8), Offered(2, 1)) == newest(0, 1)


def test_key_holds_the_newest_of_each_key() -> None:
    after = condition({"trigger": "a", "key": "data.by", "count": 2})
    assert refs_of(after, Offered(0, 5, "x"), Offered(1, 6, "y"), Offered(2, 7, "x")) == newest(1, 2)
    assert refs_of(after, Offered(0, 5, "x"), Offered(1, 6, "y"), Offered(2, 4, "x")) == newest(0, 1)


def test_key_beyond_its_count_drops_the_key_whose_event_is_oldest() -> None:
    after = condition({"trigger": "a", "key": "data.by", "count": 2})
    events = [Offered(0, 5, "x"), Offered(1, 6, "y")]
    assert refs_of(after, *events, Offered(2, 7, "z")) == newest(1, 2)
    assert refs_of(after, *events, Offered(2, 4, "z")) == newest(0, 1)


def test_a_sequence_drops_the_oldest_events_of_each_leaf() -> None:
    after = condition({"sequence": [{"trigger": "a", "count": 2}, "b"]})
    held = offer(after, *(Offered(n, n) for n in range(102)))[LeafName("a")]
    assert isinstance(held, InSequence)
    assert held.at == list(range(2, 102))
    assert held.met == [2, 3]


def test_a_sequence_orders_events_of_timers_as_they_came() -> None:
    sequence: Json = [
        {"trigger": "a", "as": "one"},
        {"trigger": "a", "as": "two"},
        {"trigger": "a", "as": "three"},
    ]
    after = condition({"sequence": sequence})
    events = [Offered(4, 5), Offered(FIRST_TIMER, 5), Offered(SECOND_TIMER, 5)]
    held = offer(after, *events)
    assert {name: one.met for name, one in held.items() if isinstance(one, InSequence)} == {
        "one": 4,
        "two": FIRST_TIMER,
        "three": SECOND_TIMER,
    }


def test_without_within_leaves_hold_their_first_events() -> None:
    slots = condition("a", {"sequence": ["b", "c"]}, delay="1d").slots.values()
    assert [slot.newest for slot in slots] == [False] * 3
    assert [slot.takes for slot in slots] == [Takes.FIRST, Takes.SEQUENCE_START, Takes.SEQUENCE]


EVENTS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["x", "y", "z"]), st.booleans()), min_size=1, max_size=12
)


def in_log(drawn: Sequence[tuple[int, str, bool]]) -> list[Offered]:
    """Events of records, and of timers between them."""
    events: list[Offered] = []
    offset, last = -1, 0
    for time_us, key, by_timer in drawn:
        if by_timer and offset >= 0:
            last = ref_after(offset, last)
            events.append(Offered(last, time_us, key))
        else:
            offset += 1
            events.append(Offered(offset, time_us, key))
    return events


def by_age(event: Offered) -> tuple[int, int]:
    return event.time_us, place_of(event.ref)


@given(EVENTS, st.integers(1, 4))
def test_what_is_held_is_the_newest_of_all(drawn: list[tuple[int, str, bool]], count: int) -> None:
    events = in_log(drawn)
    in_order = sorted(events, key=by_age)
    of_keys = sorted({event.key: event for event in in_order}.values(), key=by_age)
    found: list[Json] = [
        refs_of(condition("a"), *events),
        refs_of(condition({"trigger": "a", "count": count}), *events),
        refs_of(condition({"trigger": "a", "key": "data.by", "count": count}), *events),
    ]
    expected: list[Json] = [{"ref": in_order[-1].ref}]
    expected += [
        newest(*(one.ref for one in sorted(some[-count:], key=lambda one: place_of(one.ref))))
        for some in (in_order, of_keys)
    ]
    assert found == expected


@given(st.integers(0, 2**40), st.integers(0, 1_000))
def test_a_place_leads_back_to_its_event(offset: int, timers: int) -> None:
    ref = offset if not timers else -((offset << 20) + timers)
    assert ref_at(place_of(ref)) == ref


# ---- in the fold ----------------------------------------------------------------------------------


def late_story() -> Story:
    """Events happened at seconds 5, 9 and 7, in this order of arrival; ``b`` completes nothing yet."""
    after: Json = ["a", {"trigger": "a", "as": "two", "count": 2}, "b"]
    story = Story({"t": {"after": after, "andEvery": "a", "run": "my_app.tasks.run", "within": "1d"}})
    for n, second in enumerate((5, 9, 7)):
        story.tell(Trigger(name=TriggerName("a"), data={"n": n}), time=second)
    return story


def test_an_event_that_is_not_kept_is_accepted() -> None:
    story = late_story()
    assert story.stored() == {"t#0": {"a": {"n": 1}, "two": [{"n": 1}, {"n": 2}]}}
    story.fire("b")
    assert story.commands[0].kwargs == {"a": {"n": 1}, "b": {}, "two": [{"n": 1}, {"n": 2}]}


def test_a_stored_state_holds_the_same_newest_events() -> None:
    story = late_story()
    assert story.state is not None
    story.state = wire.decode(wire.encode(story.state))
    story.tell(Trigger(name=TriggerName("a"), data={"n": 3}), time=8)
    assert story.stored() == {"t#0": {"a": {"n": 1}, "two": [{"n": 1}, {"n": 3}]}}
