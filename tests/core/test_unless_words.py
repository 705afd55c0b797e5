"""Words about an `unless` that was fulfilled before its instance was decided, or since."""

from __future__ import annotations

import pytest

from tests.core.story import Story
from triggerstream.core.answers import ExplainedInstance
from triggerstream.core.ids import InstanceId, Json, JsonObject
from triggerstream.core.projections import explain
from triggerstream.present import condition_words

ANY: JsonObject = {"any": ["c", "d"]}
SINCE = "was not fulfilled when it was decided; fulfilled since: only a retry or replay of it is blocked"


def told(unless: list[Json], **keys: Json) -> Story:
    story = Story({"t": {"after": ["a"], "unless": unless, "run": "m.t", **keys}})
    story.fire("a", at=0)
    return story


def shown(story: Story, instance: str = "t#0") -> ExplainedInstance:
    assert story.state is not None
    found = explain(story.rules, story.session, story.state).find(InstanceId(instance))
    assert found is not None
    return found


def words(story: Story, instance: str = "t#0") -> list[str]:
    """The lines about `unless`, as a terminal and a page begin them."""
    found = shown(story, instance)
    assert found.unless is not None
    if condition_words.is_list_of_plain_leaves(found.unless):
        leaves = list(found.unless.leaves())
        return [
            f"{condition_words.unless_mark(found, leaf)} {condition_words.unless(found, leaf)}"
            for leaf in leaves
        ]
    return [f"{condition_words.unless_mark(found)} {condition_words.unless_head(found)}"]


def test_a_group_fulfilled_after_the_decision_does_not_look_as_if_it_had_stopped_the_instance() -> None:
    story = told([ANY])
    assert words(story) == ["· unless: was not fulfilled"]
    story.fire("c")
    assert words(story) == [f"· unless: {SINCE}"]
    story.started("t#0")
    assert words(story) == [f"· unless: {SINCE}"]


def test_a_trigger_that_came_after_the_decision_does_not_look_as_if_it_had_stopped_the_instance() -> None:
    story = told(["c"])
    story.fire("c")
    assert words(story) == [
        "· unless c: arrived after it was decided (event 1): only a retry or replay of it is blocked"
    ]


def test_of_several_triggers_only_the_later_ones_came_since() -> None:
    story = told(["c", "d"])
    story.fire("c")
    assert words(story) == [
        "· unless c: arrived after it was decided (event 1)",
        "· unless d: had not arrived",
    ]
    story.fire("d")
    assert words(story)[1].endswith("(event 2): only a retry or replay of it is blocked")


def test_a_failed_instance_is_marked_as_blocked() -> None:
    story = told([ANY])
    story.fire("c")
    story.failed("t#0")
    assert words(story) == [f"✗ unless: {SINCE}"]


@pytest.mark.parametrize("ended", ["finished", "cancel"])
def test_an_ended_instance_says_only_when_it_was_fulfilled(ended: str) -> None:
    story = told([ANY])
    story.fire("c")
    getattr(story, ended)("t#0")
    assert words(story) == ["· unless: was not fulfilled when it was decided; fulfilled since"]


def test_a_timer_that_decided_came_before_the_event_of_its_fold() -> None:
    story = told([ANY], delay="1h")
    story.fire("c", at=3600)
    assert shown(story).status == "scheduled"
    assert words(story) == [f"· unless: {SINCE}"]


def test_an_abandoned_instance_says_that_it_was_fulfilled() -> None:
    story = told([ANY], delay="1h")
    story.fire("c", at=60)
    assert words(story) == ["✗ unless: fulfilled"]


def test_a_forced_replay_says_that_it_was_fulfilled_already() -> None:
    story = told([ANY])
    story.fire("c")
    story.failed("t#0")
    story.replay("t#0", force=True)
    assert shown(story, "t#1").status == "scheduled"
    assert words(story, "t#1") == ["✗ unless: fulfilled"]
