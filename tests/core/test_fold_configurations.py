"""A change of configuration: as if every session had met it when it arrived.

The rules: docs/semantics.md, section 9.
"""

from __future__ import annotations

import pytest

from tests.core.story import SECOND, START_US, Story, names, task
from triggerstream.core.fold import migrate, needs_touch, next_due
from triggerstream.core.ids import JsonObject, TaskName


def asks_for_touch(story: Story) -> bool:
    assert story.state is not None
    return needs_touch(story.rules, story.session, story.state)


def test_new_leaf_is_seeded_with_what_the_session_has_seen() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", {"n": 1})
    story.fire("c", {"n": 3})  # used by no task yet
    story.apply({"t": task("a", "b", "c")})
    assert names(story.fire("b", {"n": 2})) == ["t#0"]
    assert story.commands[0].kwargs == {"a": {"n": 1}, "b": {"n": 2}, "c": {"n": 3}}


def test_new_leaf_that_was_not_seen_is_waited_for() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.apply({"t": task("a", "b", "c")})
    assert story.fire("b") == []
    assert names(story.fire("c")) == ["t#0"]


def test_captured_kwargs_are_kept_by_name() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", {"n": 1})
    story.apply({"t": task("b", "a", andEvery="c")})
    story.fire("a", {"n": 2})
    story.fire("c")
    story.fire("b")
    assert story.commands[0].kwargs["a"] == {"n": 1}


def test_waiting_instance_that_lacks_nothing_any_more_is_decided_at_the_next_event() -> None:
    story = Story({"t": task("a", "b"), "u": task("x", "y")})
    story.fire("a", {"n": 1}, at=0)
    assert not asks_for_touch(story)
    story.apply({"t": task("a"), "u": task("x", "y")}, at=5)
    assert asks_for_touch(story)
    assert names(story.fire("x", at=9)) == ["t#0"]
    assert not asks_for_touch(story)
    assert story.commands[0].decided_us == START_US + 9 * SECOND


def test_touch_is_enough_to_decide_it() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", {"n": 1})
    story.apply({"t": task("a", withParams={"extra": 1})})
    assert names(story.touch()) == ["t#0"]
    assert story.commands[0].kwargs == {"a": {"n": 1}, "extra": 1}
    assert story.touch() == []


def test_timer_event_that_comes_first_leaves_the_judging_to_the_next_event() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", at=0)
    story.apply({"t": task("a")}, at=5)
    assert story.timer(at=6) == []
    assert asks_for_touch(story)
    assert names(story.touch(at=7)) == ["t#0"]


def test_kwargs_of_a_trigger_that_the_task_needs_no_longer_are_not_passed_on() -> None:
    story = Story({"t": task("a", "b", "c")})
    story.fire("a", {"n": 1})
    story.fire("b", {"n": 2})
    story.apply({"t": task("b", "c")})
    story.fire("c", {"n": 3})
    assert story.commands[0].kwargs == {"b": {"n": 2}, "c": {"n": 3}}


def test_new_unless_is_seeded_and_abandons_at_the_next_event() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.fire("no")
    story.apply({"t": task("a", "b", unless=["no"])})
    assert story.touch() == []
    assert story.statuses() == {"t#0": "abandoned"}


def test_new_unless_abandons_a_clone_that_waits_for_its_backoff() -> None:
    retry: JsonObject = {"max": 1, "backoff": "1h"}
    story = Story({"t": task("a", retry=retry)})
    story.fire("a", at=0)
    story.fire("no")
    story.failed("t#0")
    story.apply({"t": task("a", unless=["no"], retry=retry)}, at=60)
    assert not asks_for_touch(story)
    assert story.timer(at=4000) == []
    assert story.statuses() == {"t#0": "replayed", "t#1": "abandoned"}


def test_unless_that_is_gone_no_longer_abandons() -> None:
    story = Story({"t": task("a", "b", unless=["no", "never"])})
    story.fire("a")
    story.fire("no")
    story.apply({"t": task("a", "b")})
    story.fire("never")
    assert names(story.fire("b")) == ["t#0"]


def test_decided_instance_is_left_alone_by_a_new_unless_but_notes_it() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.fire("no")
    story.apply({"t": task("a", unless=["no"], retry={"max": 3})})
    story.started("t#0")
    assert story.statuses() == {"t#0": "running"}
    assert story.failed("t#0") == []  # it blocks the retry
    assert story.instance("t#0").reason == "unless"


def test_run_and_params_apply_to_what_is_not_yet_decided() -> None:
    story = Story({"t": task(andEvery="a"), "u": task("a", "b")})
    story.fire("a", {"n": 1})
    new: JsonObject = {"run": "other.task", "withParams": {"a": {"m": 2}}, "queue": "fast"}
    story.apply({"t": {"after": [], "andEvery": "a", **new}, "u": {"after": ["a", "b"], **new}})
    story.fire("b")
    assert [(c.run, c.kwargs["a"], c.queue) for c in story.commands] == [
        ("my_app.tasks.run", {"n": 1}, None),
        ("other.task", {"n": 1, "m": 2}, "fast"),
    ]
    assert [c.config for c in story.commands] == [a.config.hash for a in story.rules.history]


def test_clone_runs_what_the_configuration_says_when_it_is_decided() -> None:
    story = Story({"t": task("a", retry={"max": 1, "backoff": "10s"})})
    story.fire("a", {"n": 1}, at=0)
    story.failed("t#0")
    story.apply({"t": {"after": ["a"], "run": "mended.task", "retry": {"max": 1, "backoff": "10s"}}}, at=5)
    story.timer(at=10)
    assert [c.run for c in story.commands] == ["my_app.tasks.run", "mended.task"]


def test_waiting_instances_of_a_removed_task_are_cancelled() -> None:
    story = Story({"t": task("a", "b"), "u": task("a", retry={"max": 1, "backoff": "1h"})})
    story.fire("a")
    story.failed("u#0")
    story.apply({"other": task("x")})
    assert story.touch() == []
    assert story.statuses() == {"t#0": "cancelled", "u#0": "replayed", "u#1": "cancelled"}
    assert story.instance("t#0").reason == "task removed"
    assert story.instance("u#1").reason == "task removed"
    assert story.timer(at=7200) == []


def test_decided_instances_of_a_removed_task_go_on_and_cascade() -> None:
    story = Story({"t": task("a", retry={"max": 1}), "next": task("t")})
    story.fire("a")
    story.apply({"next": task("t")})
    story.started("t#0")
    assert names(story.finished("t#0", {"n": 1})) == ["next#0"]


def test_failed_instance_of_a_removed_task_is_not_tried_again_nor_replayed() -> None:
    story = Story({"t": task("a", retry={"max": 3}), "u": task("a")})
    story.fire("a")
    story.apply({"u": task("a")})
    story.started("t#0")
    assert story.failed("t#0") == []
    assert story.statuses()["t#0"] == "failed"
    assert story.replay("t#0") == []
    assert story.refused() == 1
    assert story.skip("t#0") == []
    assert story.statuses()["t#0"] == "skipped"


def test_task_that_asks_to_be_tried_again_but_was_removed_has_failed() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.started("t#0")
    story.apply({"u": task("x")})
    assert story.retried("t#0") == []
    assert story.statuses() == {"t#0": "failed"}
    assert story.instance("t#0").reason == "task removed"


def test_numbers_continue_when_a_removed_name_returns() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", {"n": 1})
    story.apply({})
    story.touch()
    story.apply({"t": task("a", "b")})
    assert names(story.fire("b")) == ["t#1"]
    assert story.statuses() == {"t#0": "cancelled", "t#1": "scheduled"}
    assert story.commands[0].kwargs == {"a": {"n": 1}, "b": {}}


def test_task_that_returns_and_was_decided_before_does_not_run_again() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.finished("t#0")
    story.apply({})
    story.touch()
    story.apply({"t": task("a")})
    assert story.fire("a") == []
    assert story.statuses() == {"t#0": "finished"}


def test_removal_that_nothing_happened_under_still_cancels() -> None:
    """Both configurations are missed and met in their order."""
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.apply({})
    story.apply({"t": task("a", "b")})
    assert names(story.fire("b")) == ["t#1"]
    assert story.statuses() == {"t#0": "cancelled", "t#1": "scheduled"}


def test_leaf_that_was_new_in_a_missed_configuration_is_seeded_from_the_session() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.fire("c")
    story.apply({"t": task("a", "b", "c")})
    story.apply({"t": task("a", "c")})
    assert names(story.touch()) == ["t#0"]
    assert set(story.commands[0].kwargs) == {"a", "c"}


def test_waiting_instances_are_judged_once_under_the_last_of_the_missed_configurations() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.apply({"t": task("a")})
    story.apply({"t": task("a", "b")})
    assert not asks_for_touch(story)
    assert story.touch() == []
    assert story.statuses() == {"t#0": "unstarted"}


def test_timers_due_before_a_missed_configuration_fire_under_the_one_before() -> None:
    def tasks(run: str) -> JsonObject:
        return {"t": {"after": ["a"], "run": run, "retry": {"max": 1, "backoff": "10s"}}}

    story = Story(tasks("one"))
    story.fire("a", at=0)
    story.failed("t#0", at=0)
    story.apply(tasks("two"), at=5)
    story.apply(tasks("three"), at=15)
    assert names(story.fire("x", at=20)) == ["t#1"]
    assert [(c.run, c.decided_us - START_US) for c in story.commands] == [("one", 0), ("two", 10 * SECOND)]


def test_due_times_follow_the_configuration_from_the_same_start_instant() -> None:
    story = Story({"t": task("a", retry={"max": 1, "backoff": "1h"})})
    story.fire("a", at=0)
    story.failed("t#0", at=0)
    story.apply({"t": task("a", retry={"max": 1, "backoff": "10m"})}, at=60)
    assert story.state is not None
    assert next_due(story.rules, story.state) == START_US + 600 * SECOND
    assert story.timer(at=599) == []
    assert names(story.timer(at=600)) == ["t#1"]


def test_due_time_that_a_shorter_backoff_puts_in_the_past_is_due_at_the_next_event() -> None:
    story = Story({"t": task("a", retry={"max": 1, "backoff": "1h"})})
    story.fire("a", at=0)
    story.failed("t#0", at=0)
    story.apply({"t": task("a", retry={"max": 1, "backoff": "1s"})}, at=60)
    assert names(story.touch(at=61)) == ["t#1"]
    assert story.commands[-1].config == story.rules.current.config.hash


def test_wait_that_a_task_asked_for_stays_what_it_said() -> None:
    story = Story({"t": task("a")})
    story.fire("a", at=0)
    story.started("t#0")
    story.retried("t#0", after=100)
    story.apply({"t": task("a", retry={"max": 5, "backoff": "1s"})}, at=50)
    assert story.timer(at=99) == []
    assert names(story.timer(at=100)) == ["t#1"]


def test_session_that_starts_after_a_change_has_nothing_to_meet() -> None:
    story = Story({"t": task("a")})
    story.apply({"t": {"after": ["a"], "run": "other"}})
    story.fire("a")
    assert [c.run for c in story.commands] == ["other"]


def test_closed_session_is_left_as_it_is_but_starts_anew_under_the_new_one() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.close()
    story.apply({"u": task("a")})
    assert story.touch() == []
    assert story.statuses() == {"t#0": "cancelled"}
    assert names(story.fire("a")) == ["u#0"]


def test_migrate_does_at_once_what_the_next_event_would() -> None:
    story = Story({"t": task("a", "b", retry={"max": 1}), "u": task("a", "c")})
    story.fire("a", at=0)
    story.apply({"t": task("a", "x")}, at=5)
    assert story.state is not None
    migrated = migrate(story.rules, story.state, story.session)
    assert migrated.decisions == ()
    assert migrated.state.config == story.rules.current.offset
    lazy, eager = Story({}), Story({})
    lazy.rules = eager.rules = story.rules
    lazy.state, eager.state = story.state, migrated.state
    for told in (lazy, eager):
        told.offset = 100
        told.fire("x", at=6)
    assert lazy.state == eager.state
    assert lazy.commands == eager.commands
    assert lazy.statuses() == {"t#0": "scheduled", "u#0": "cancelled"}


def test_new_task_is_met_by_the_next_trigger_that_it_uses() -> None:
    story = Story({"t": task("a")})
    story.fire("a", {"n": 1})
    story.fire("b", {"n": 2})
    story.apply({"t": task("a"), "u": task("a", "b", "c")})
    story.touch()
    assert story.statuses() == {"t#0": "scheduled"}
    assert names(story.fire("c")) == ["u#0"]
    assert story.commands[-1].kwargs == {"a": {"n": 1}, "b": {"n": 2}, "c": {}}
    assert TaskName("u") in (story.state.tasks if story.state is not None else {})


def test_a_timer_that_was_due_before_a_configuration_is_decided_at_its_offset() -> None:
    story = Story({"t": task("a", retry={"max": 1, "backoff": "5s"})})
    story.fire("a")
    story.failed("t#0")
    story.apply({"t": task("a", "b", retry={"max": 1, "backoff": "5s"})}, at=10)
    story.apply({"t": task("a", "c", retry={"max": 1, "backoff": "5s"})}, at=20)
    assert names(story.touch(at=30)) == ["t#1"]
    instance = story.instance("t#1")
    assert instance.decided_at == 2, "the first configuration after it was due"
    assert instance.decided_us == START_US + 5_000_000


RETRYING: JsonObject = {"t": task("a", retry={"max": 1, "backoff": "5s"})}
SLOWER: JsonObject = {"t": task("a", retry={"max": 1, "backoff": "1h"})}


def retrying() -> Story:
    """A story whose `t#1` is due after 5 seconds."""
    story = Story(RETRYING)
    story.fire("a")
    story.failed("t#0")
    return story


@pytest.mark.parametrize(("arrives", "due"), [(4, 3600), (5, 5), (6, 5)])
def test_a_timer_goes_by_the_configuration_that_was_in_force_when_it_was_due(arrives: int, due: int) -> None:
    story = retrying()
    story.apply(SLOWER, at=arrives)
    assert story.state is not None
    assert next_due(story.rules, story.state) == START_US + due * SECOND


def test_nothing_is_due_once_the_task_was_removed() -> None:
    story = retrying()
    story.apply({"u": task("a")}, at=1)
    story.apply(RETRYING, at=2)
    assert story.state is not None
    assert next_due(story.rules, story.state) is None


def test_a_command_that_a_migration_decides_is_that_of_its_session() -> None:
    story = retrying()
    story.apply(SLOWER, at=10)
    assert story.state is not None
    (command,) = migrate(story.rules, story.state, story.session).decisions
    assert (command.session, command.id, command.instance) == ("s", story.command("t#1"), "t#1")


@pytest.mark.parametrize("after", [["x"], ["a"], ["x", "y"], ["x", "y", "z"]])
def test_clone_keeps_the_kwargs_of_its_origin_whatever_the_file_asks_for_by_then(after: list[str]) -> None:
    story = Story({"t": task("a", "c")})
    story.fire("a", {"n": 1})
    story.fire("c", {"n": 2})
    story.failed("t#0")
    story.apply({"t": task(*after)})
    assert names(story.replay("t#0")) == ["t#1"]
    assert story.commands[-1].kwargs == {"a": {"n": 1}, "c": {"n": 2}}


def test_retry_keeps_the_kwargs_of_its_origin_whatever_the_file_asks_for_by_then() -> None:
    retry: JsonObject = {"max": 3, "backoff": "10s"}
    story = Story({"t": task("a", "c", retry=retry)})
    story.fire("a", {"n": 1})
    story.fire("c", {"n": 2})
    story.failed("t#0")
    story.apply({"t": task("x", retry=retry)})
    assert names(story.timer(at=60)) == ["t#1"]
    assert story.commands[-1].kwargs == {"a": {"n": 1}, "c": {"n": 2}}


@pytest.mark.parametrize("keys", [{}, {"andEvery": "c"}])
def test_task_that_returns_while_a_retry_waited_does_not_run_again(keys: JsonObject) -> None:
    retry: JsonObject = {"max": 3, "backoff": "10s"}
    story = Story({"t": task("a", retry=retry, **keys)})
    story.fire("c")
    story.fire("a")
    story.failed("t#0")
    story.apply({"u": task("x")})
    story.touch()
    assert story.statuses()["t#1"] == "cancelled"
    story.apply({"t": task("a", retry=retry)})
    assert story.fire("a") == []
    assert story.fire("a") == []


def test_task_that_returns_without_and_every_does_not_run_again_if_an_earlier_instance_ran() -> None:
    story = Story({"t": task("a", andEvery="c")})
    story.fire("a")
    assert names(story.fire("c")) == ["t#0"]
    story.finished("t#0")
    story.apply({"t": task("a", "b", andEvery="c")})
    story.fire("c")
    story.apply({"u": task("x")})
    story.touch()
    assert story.statuses() == {"t#0": "finished", "t#1": "cancelled"}
    story.apply({"t": task("a")})
    assert story.fire("a") == []


def test_task_that_was_removed_twice_may_begin_again_if_none_of_its_instances_was_decided() -> None:
    story = Story({"t": task("a", "b")})
    for _ in range(2):
        story.fire("a")
        story.apply({"u": task("x")})
        story.touch()
        story.apply({"t": task("a", "b")})
    assert story.statuses() == {"t#0": "cancelled", "t#1": "cancelled"}
    assert names(story.fire("b")) == ["t#2"]


def test_task_that_returns_may_begin_again_if_none_of_its_instances_was_decided() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.apply({"u": task("x")})
    story.touch()
    story.apply({"t": task("a", "b")})
    assert names(story.fire("b")) == ["t#1"]
