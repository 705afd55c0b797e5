"""Why an instance is held, as a value and in words."""

from __future__ import annotations

import pytest

from tests.core.story import Story
from triggerstream.core.ids import InstanceId, Json, JsonObject
from triggerstream.core.projections import explain


def export(**keys: Json) -> JsonObject:
    return {"t": {"after": [], "andEvery": "a", "run": "m.t", **keys}}


def shown(story: Story, instance: str) -> tuple[str | None, str]:
    assert story.state is not None
    found = explain(story.rules, story.session, story.state).find(InstanceId(instance))
    assert found is not None
    return found.held_for, found.says


def fired(count: int, **keys: Json) -> Story:
    story = Story(export(**keys))
    for _ in range(count):
        story.fire("a")
    return story


def test_those_that_run_or_come_first_are_named() -> None:
    story = fired(7, maxConcurrency=2)
    story.finished("t#0")
    assert shown(story, "t#1") == (None, "was decided; no worker has started it yet")
    assert shown(story, "t#3") == ("places", "is held: at most 2 at a time, t#1 and t#2 run")
    assert shown(story, "t#4") == ("others", "is held behind t#3")
    assert shown(story, "t#5") == ("others", "is held behind t#3 and t#4")
    assert shown(story, "t#6") == ("others", "is held behind t#3, t#4 and t#5")
    story.release("t#6")
    assert shown(story, "t#3") == ("places", "is held: at most 2 at a time, t#1, t#2 and t#6 run")


def test_of_many_the_first_are_named() -> None:
    story = fired(9, maxConcurrency=1)
    assert shown(story, "t#1") == ("places", "is held: at most 1 at a time, t#0 runs")
    assert shown(story, "t#8") == ("others", "is held behind t#1, t#2, t#3 and 4 more")


def test_those_of_a_paused_task_wait_for_a_file() -> None:
    story = fired(3, paused=True, maxConcurrency=1)
    assert {shown(story, f"t#{n}") for n in range(3)} == {("paused", "is held: the task is paused")}


@pytest.mark.parametrize("later", [{}, {"maxConcurrency": 2}])
def test_one_for_which_a_file_has_a_place_is_decided_at_the_next_event(later: JsonObject) -> None:
    story = fired(4, maxConcurrency=1)
    story.apply(export(**later))
    assert shown(story, "t#1") == (None, "is held; it is decided at the session's next event")
    if later:
        assert shown(story, "t#2") == ("others", "is held behind t#1")
    else:
        assert shown(story, "t#2") == shown(story, "t#1")


def test_what_would_abandon_a_held_one_is_said() -> None:
    story = fired(1, paused=True, unless=["no", "never"])
    story.fire("no")
    assert shown(story, "t#0")[1] == "is held: the task is paused; abandoned once never arrives too"
