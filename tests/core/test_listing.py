"""Filters of sessions and instances, for lists and for orders to many."""

from __future__ import annotations

from itertools import product

import pytest

from tests.core.story import Story, task
from triggerstream.core.ids import JsonObject, SessionId, TaskName, TriggerName
from triggerstream.core.listing import Filter, InstanceFilter, marks, stuck_since
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
    has = marks(story.rules, SessionId("s"), story.state)
    tasks = [None, *map(TaskName, ("t", "u", "v"))]
    triggers = [None, *map(TriggerName, ("b", "c", "t"))]
    passed = 0
    for name, status, trigger in product(tasks, [None, *Status], triggers):
        wanted = Filter(task=name, status=status, waits_for=trigger)
        passes = wanted.passes(story.rules, SessionId("s"), story.state)
        assert passes == has.issuperset(wanted.marks()), wanted
        passed += passes
    assert 0 < passed < len(tasks) * (len(Status) + 1) * len(triggers)


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
