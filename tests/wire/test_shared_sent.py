"""The parts that several commands of a task have alike are stored once, in the task's record."""

from __future__ import annotations

import json
from copy import copy
from typing import Any

import pytest
from msgspec.structs import replace

from tests.core.story import Story
from triggerstream.core.ids import JsonObject, TaskName
from triggerstream.core.state import SessionState
from triggerstream.wire import state as states
from triggerstream.wire.blocks import encode_value
from triggerstream.wire.shared_sent import shared_bytes

TASK: JsonObject = {"after": [], "andEvery": "a", "run": "tasks.t", "queue": "q"}
T = TaskName("t")


def decided(task: JsonObject, *, times: int, finished: int = 0) -> Story:
    """A session with so many decided instances, the first of which are finished."""
    story = Story({"t": task})
    for number in range(times):
        story.fire("a")
        if number < finished:
            story.finished(f"t#{number}")
    return story


def stored(state: SessionState | None) -> dict[str, Any]:
    """The record of the task as it is stored."""
    assert state is not None
    found: dict[str, Any] = json.loads(states.encode(state))["tasks"]["t"]
    return found


def own(record: dict[str, Any]) -> list[int]:
    """The numbers of the instances that have a ``sent`` of their own."""
    return [one["number"] for one in (*record.get("open", ()), *record.get("resolved", ())) if "sent" in one]


def whole(state: SessionState | None) -> SessionState:
    """As it is read from a store: without what was only noted for the next event."""
    assert state is not None
    return state.collected()


def read_again(state: SessionState | None) -> SessionState:
    assert state is not None
    return states.decode(states.encode(state))


def test_one_instance_has_its_own() -> None:
    story = decided(TASK, times=1)
    assert own(stored(story.state)) == [0]
    assert "sent" not in stored(story.state)
    assert read_again(story.state) == whole(story.state)


@pytest.mark.parametrize("finished", [0, 1, 3])
def test_several_have_it_once_open_or_resolved(finished: int) -> None:
    story = decided(TASK, times=3, finished=finished)
    record = stored(story.state)
    assert own(record) == []
    assert (record["sent"]["run"], record["sent"]["queue"]) == ("tasks.t", "q")
    assert read_again(story.state) == whole(story.state)


def test_those_that_were_decided_under_another_file_keep_theirs() -> None:
    story = decided(TASK, times=2)
    story.apply({"t": TASK | {"queue": "other"}})
    story.fire("a")
    record = stored(story.state)
    assert own(record) == [2]
    again = read_again(story.state)
    assert [one.sent.queue for one in again.tasks[T].open.values() if one.sent] == ["q", "q", "other"]


def test_of_two_contents_that_are_shared_the_first_is_in_the_record() -> None:
    story = decided(TASK, times=2)
    story.apply({"t": TASK | {"queue": "other"}})
    story.fire("a")
    story.fire("a")
    record = stored(story.state)
    assert (record["sent"]["queue"], own(record)) == ("q", [2, 3])


def test_an_instance_that_waits_gets_none() -> None:
    story = decided(TASK | {"after": ["b"]}, times=3)
    story.fire("b")
    story.fire("a")
    story.apply({"t": TASK | {"after": ["b", "c"]}})
    story.fire("a")
    again = read_again(story.state)
    assert again == whole(story.state)
    assert [one.sent is None for one in again.tasks[T].open.values()].count(True) == 1


def test_params_that_are_equal_but_written_otherwise_are_not_shared() -> None:
    story = decided(TASK | {"withParams": {"n": 1}}, times=1)
    story.apply({"t": TASK | {"withParams": {"n": 1.0}}})
    story.fire("a")
    assert story.state is not None
    for instance in story.state.tasks[T].open.values():
        assert instance.sent is not None
        instance.sent.config = type(instance.sent.config)("0" * 64)  # as if the file were the same
    assert own(stored(story.state)) == [0, 1]
    again = read_again(story.state).tasks[T].open
    texts = [json.dumps(one.sent.params) for one in again.values() if one.sent]
    assert texts == ['{"n": 1}', '{"n": 1.0}']


def test_params_that_are_equal_are_shared() -> None:
    story = decided(TASK | {"withParams": {"n": 1}}, times=2)
    assert story.state is not None
    for instance in story.state.tasks[T].open.values():
        instance.sent = copy(instance.sent)  # as it is in a state whose instances have their own
    assert own(stored(story.state)) == []
    assert read_again(story.state) == whole(story.state)


def test_an_instance_of_old_that_was_decided_without_any_keeps_others_from_sharing() -> None:
    story = decided(TASK, times=3)
    assert story.state is not None
    story.state.tasks[T].open[1].sent = None
    assert own(stored(story.state)) == [0, 2]
    assert read_again(story.state) == whole(story.state)


@pytest.mark.parametrize("number", range(3))
def test_the_order_of_such_an_instance_among_the_others_does_not_matter(number: int) -> None:
    for change in ({"sent": None}, {"decided_us": None}):
        story = decided(TASK, times=3)
        assert story.state is not None
        for field, value in change.items():
            setattr(story.state.tasks[T].open[number], field, value)
        assert read_again(story.state) == whole(story.state)


def test_bounds_in_bytes_count_each_with_its_own() -> None:
    many = decided(TASK, times=9, finished=8).state
    assert many is not None
    value = states.encode(many)
    sizes = states.EncodedSizes()
    resolved = sum(sizes.instance(one) for one in many.tasks[T].resolved.values())
    at_most = states.size_at_most(states.decode_lazily(value), len(value))
    assert len(value) < sizes.state(many) + resolved
    assert at_most >= sizes.state(many)
    assert at_most >= resolved


@pytest.mark.parametrize("times", [2, 9])
def test_what_sharing_saves_is_counted_for_each_instance(times: int) -> None:
    state = decided(TASK, times=times).state
    assert state is not None
    instances = list(state.tasks[T].open.values())
    saved = sum(len(encode_value(one)) - len(encode_value(replace(one, sent=None))) for one in instances)
    assert shared_bytes(instances) == saved > 0


def test_sharing_saves_nothing_where_nothing_is_shared() -> None:
    story = decided(TASK, times=1)
    assert story.state is not None
    assert shared_bytes([]) == 0
    assert shared_bytes(list(story.state.tasks[T].open.values())) == 0
    story.apply({"t": TASK | {"queue": "other"}})
    story.fire("a")
    assert shared_bytes(list(story.state.tasks[T].open.values())) == 0
