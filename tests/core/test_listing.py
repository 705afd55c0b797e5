"""Filters of sessions and instances, for lists and for orders to many."""

from __future__ import annotations

from dataclasses import fields
from itertools import product

import pytest

from tests.core.story import SECOND, START_US, Story, task
from triggerstream.core.answers import CountedSession, FailedInstance
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import FailureReason
from triggerstream.core.ids import InstanceId, Instant, JsonObject, SessionId, TaskName, TriggerName
from triggerstream.core.listing import (
    DuePlace,
    Filter,
    InstanceFilter,
    count,
    due_cursor,
    failures,
    read_due_cursor,
    stuck_since,
    tags_of,
)
from triggerstream.core.state import Status

TASKS: JsonObject = {"t": task(andEvery="a"), "u": task("t", "b"), "v": task("c", "d")}


@pytest.fixture
def story() -> Story:
    """``t#0`` finished, ``u#0`` waits for ``b`` and ``v`` has no instance, ``t#1`` is scheduled."""
    told = Story(TASKS)
    told.fire("a")
    told.finished("t#0", {})
    told.fire("a", at=60)
    return told


def test_index_and_filter_agree(story: Story) -> None:
    assert story.state is not None
    has = tags_of(story.rules, SessionId("s"), story.state)
    choices: dict[str, list[object]] = {
        "task": [None, *map(TaskName, ("t", "u", "v"))],
        "status": [None, *Status],
        "waits_for": [None, *map(TriggerName, ("b", "c", "t"))],
        "due_by_us": [None, 2**62],
    }
    assert [one.name for one in fields(Filter)] == list(choices)
    results: dict[str, set[bool]] = {name: set() for name in choices}
    for values in product(*choices.values()):
        wanted = Filter(**dict(zip(choices, values, strict=True)))  # type: ignore[arg-type] # by field
        passes = wanted.passes(story.rules, SessionId("s"), story.state)
        assert passes == has.issuperset(wanted.tags()), wanted
        given = [name for name, value in zip(choices, values, strict=True) if value is not None]
        if len(given) == 1:
            results[given[0]].add(passes)
    assert results.pop("due_by_us") == {False}, "the index knows due times beside its tags"
    assert all(found == {True, False} for found in results.values()), results


def test_a_session_is_listed_under_what_could_complete_a_nested_condition() -> None:
    told = Story({"t": {"after": [{"any": ["a", ["b", "c"]]}, {"any": ["b", "d"]}, "e"], "run": "app.t"}})
    told.fire("b")
    assert told.state is not None
    tags = tags_of(told.rules, SessionId("s"), told.state)
    found = {name for name in "abcde" if tags.issuperset(Filter(waits_for=TriggerName(name)).tags())}
    assert found == {"a", "c", "e"}


def test_a_session_with_a_timer_passes_a_filter_for_its_due_time() -> None:
    told = Story({"t": {"after": ["a", "b"], "deadline": "1h", "run": "app.t"}})
    told.fire("a", at=0)
    assert told.state is not None
    due_us = START_US + 3_600 * SECOND
    for by_us, passes in ((due_us - 1, False), (due_us, True), (2**62, True)):
        wanted = Filter(due_by_us=by_us)
        assert wanted.passes(told.rules, SessionId("s"), told.state) == passes
        assert tags_of(told.rules, SessionId("s"), told.state).issuperset(wanted.tags())


def test_the_cursor_of_a_list_by_due_time_is_read_as_it_was_written() -> None:
    place = DuePlace(START_US, SessionId("a b"))
    assert read_due_cursor(due_cursor(place)) == place
    assert read_due_cursor(None) is None
    for wrong in ("order-1", "x y", "-1 a", "9" * 20 + " a"):
        with pytest.raises(DecodeError, match="after: of a list by due time"):
            read_due_cursor(SessionId(wrong))


def test_filter_finds_instances_by_task_status_and_age(story: Story) -> None:
    def found(wanted: InstanceFilter) -> list[str]:
        assert story.state is not None
        return [f"{name}#{instance.number}" for name, instance in wanted.find(story.state)]

    assert found(InstanceFilter()) == ["t#0", "t#1", "u#0"]
    assert found(InstanceFilter(task=TaskName("t"))) == ["t#0", "t#1"]
    assert found(InstanceFilter(statuses=frozenset({Status.UNSTARTED}))) == ["u#0"]
    changed = story.instance("t#1").changed_us
    assert found(InstanceFilter(changed_before_us=changed)) == ["t#0", "u#0"]
    assert found(stuck_since(changed)) == []
    assert found(stuck_since(changed + 1)) == ["t#1"]
    assert found(stuck_since(changed + 1, status=Status.RUNNING)) == []
    assert found(stuck_since(changed + 1, task=TaskName("u"))) == []


def test_empty_filter_passes_a_session_without_instances() -> None:
    told = Story(TASKS)
    told.fire("other")
    assert told.state is not None
    assert InstanceFilter().has_one(told.state)
    assert not InstanceFilter(task=TaskName("t")).has_one(told.state)


def test_filters_are_empty_without_any_wish() -> None:
    assert InstanceFilter().is_empty()
    assert not InstanceFilter(task=TaskName("t")).is_empty()
    assert not InstanceFilter(statuses=frozenset({Status.HELD})).is_empty()
    assert not InstanceFilter(changed_before_us=0).is_empty()
    assert Filter().is_empty()
    assert not Filter(task=TaskName("t")).is_empty()
    assert not Filter(status=Status.HELD).is_empty()
    assert not Filter(waits_for=TriggerName("a")).is_empty()
    assert Filter().tags() == ()


def test_instances_are_counted_by_the_stage_of_their_status() -> None:
    told = Story({"k": task(andEvery="a"), **{name: task("a", *more) for name, more in MORE.items()}})
    told.fire("a", at=5)
    for name in ("failed1", "failed2"):
        told.failed(f"{name}#0")
    told.started("run1#0")
    told.finished("done1#0")
    told.finished("k#0")
    told.fire("a", at=9)
    told.finished("k#1")
    assert told.state is not None
    assert count(SessionId("s"), told.state) == CountedSession(
        session=SessionId("s"),
        waiting=4,
        running=3,
        failed=2,
        done=3,
        closed=False,
        clock_us=Instant(START_US + 9 * SECOND),
        last_event_us=Instant(START_US + 9 * SECOND),
    )
    told.timer(at=20)  # moves the clock, and is no event of the timeline
    counted = count(SessionId("s"), told.state)
    assert (counted.clock_us, counted.last_event_us) == (
        Instant(START_US + 20 * SECOND),
        Instant(START_US + 9 * SECOND),
    )
    told.close()
    assert count(SessionId("s"), told.state).closed


MORE: dict[str, list[str]] = {
    **{f"wait{n}": ["b"] for n in range(4)},
    **{f"run{n}": [] for n in range(3)},
    **{name: [] for name in ("failed1", "failed2", "done1")},
}


def test_failed_instances_are_listed_with_their_error_and_reason() -> None:
    told = Story({name: task("a") for name in ("t", "u", "v")})
    told.fire("a")
    told.failed("u#0", "lost", reason=FailureReason.WORKER_LOST, at=3)
    told.failed("v#0", "boom", at=4)
    assert told.state is not None
    assert failures(told.state) == [
        FailedInstance(
            instance=InstanceId("u#0"),
            error="lost",
            reason="worker lost",
            changed_us=Instant(START_US + 3 * SECOND),
        ),
        FailedInstance(
            instance=InstanceId("v#0"), error="boom", reason=None, changed_us=Instant(START_US + 4 * SECOND)
        ),
    ]
