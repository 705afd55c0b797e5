"""Clones: retries, what a task asks for itself, replays; and what `unless` means to them.

The rules: docs/semantics.md, R6.5 to R6.8, R7.4.
"""

from __future__ import annotations

import pytest

from tests.core.story import SECOND, START_US, Story, names, task
from triggerstream.core.effects import Reason
from triggerstream.core.events import FailureReason
from triggerstream.core.ids import Json
from triggerstream.core.tasks import Retry


def retrying(**retry: Json) -> Story:
    story = Story({"t": task("a", retry=retry), "next": task("t")})
    story.fire("a", {"n": 1})
    return story


def test_failure_with_attempts_left_is_replayed_by_a_clone_after_the_backoff() -> None:
    story = retrying(max=1, backoff="10s")
    assert story.failed("t#0", at=100) == []
    assert story.statuses() == {"t#0": "replayed", "t#1": "delayed"}
    assert story.timer(at=109.999) == []
    assert names(story.timer(at=110)) == ["t#1"]
    assert story.statuses() == {"t#0": "replayed", "t#1": "scheduled"}
    assert [(c.instance, c.retries, c.attempt, c.kwargs) for c in story.commands] == [
        ("t#0", 0, 0, {"a": {"n": 1}}),
        ("t#1", 1, 0, {"a": {"n": 1}}),
    ]
    assert story.commands[1].id == story.command("t#1")


def test_retry_without_a_backoff_is_decided_in_the_same_fold() -> None:
    story = retrying(max=2)
    assert names(story.failed("t#0")) == ["t#1"]
    assert names(story.failed("t#1")) == ["t#2"]
    assert story.failed("t#2") == []
    assert story.statuses() == {"t#0": "replayed", "t#1": "replayed", "t#2": "failed"}


def test_result_that_cannot_be_reported_is_never_retried() -> None:
    """The task did its work: to run it again would repeat its effects, and fail to report them again."""
    story = retrying(max=2)
    assert story.failed("t#0", reason=FailureReason.RESULT_NOT_REPORTABLE) == []
    assert story.statuses() == {"t#0": "failed"}
    assert story.instance("t#0").reason == "result not reportable"
    assert names(story.replay("t#0")) == ["t#1"]  # an operator may


def test_every_reason_of_a_worker_is_one_of_an_instance() -> None:
    assert {reason.value for reason in FailureReason} <= {reason.value for reason in Reason}


@pytest.mark.parametrize("reason", [r for r in FailureReason if r != "result not reportable"])
def test_every_other_failure_is_retried(reason: FailureReason) -> None:
    story = retrying(max=1)
    assert names(story.failed("t#0", reason=reason)) == ["t#1"]
    assert story.statuses() == {"t#0": "replayed", "t#1": "scheduled"}
    assert story.instance("t#0").reason == Reason(reason.value)


def test_backoff_grows_by_its_factor_up_to_its_limit() -> None:
    story = retrying(max=5, backoff="10s", factor=3, maxBackoff="100s")
    at = 0.0
    for number, wait in enumerate((10, 30, 90, 100, 100)):
        story.failed(f"t#{number}", at=at)
        assert story.timer(at=at + wait - 0.001) == []
        at += wait
        assert names(story.timer(at=at)) == [f"t#{number + 1}"]
    story.failed("t#5")
    assert story.statuses()["t#5"] == "failed"


@pytest.mark.parametrize(
    ("retry", "retries", "wait_us"),
    [
        (Retry(max=1), 7, 0),
        (Retry(max=1, factor=10.0), 10**6, 0),
        (Retry(max=1, backoff_us=1), 0, 1),
        (Retry(max=1, backoff_us=SECOND), 7, SECOND),
        (Retry(max=1, backoff_us=SECOND, factor=1.5), 2, 2_250_000),
        (Retry(max=1, backoff_us=SECOND, max_backoff_us=1), 0, 1),
        (Retry(max=1, backoff_us=SECOND, factor=10.0, max_backoff_us=60 * SECOND), 10**6, 60 * SECOND),
    ],
)
def test_wait_of_an_attempt(retry: Retry, retries: int, wait_us: int) -> None:
    assert retry.wait_us(retries) == wait_us


def test_wait_without_a_limit_never_overflows() -> None:
    assert Retry(max=1, backoff_us=SECOND, factor=10.0).wait_us(10**6) < 2**63


def test_retries_are_honoured_also_where_no_worker_said_that_it_had_started() -> None:
    story = retrying(max=1)
    assert names(story.failed("t#0")) == ["t#1"]


def test_only_the_last_of_the_clones_cascades() -> None:
    story = retrying(max=1)
    story.failed("t#0")
    story.finished("t#0", {"late": True})  # replayed: a second outcome
    assert story.statuses().get("next#0") is None
    assert names(story.finished("t#1", {"n": 2})) == ["next#0"]
    assert story.commands[-1].kwargs == {"t": {"n": 2}}


def test_clone_keeps_the_kwargs_captured_whatever_came_after() -> None:
    story = retrying(max=1, backoff="10s")
    story.failed("t#0")
    story.fire("a", {"n": 2})
    story.timer(at=10)
    assert story.commands[-1].kwargs == {"a": {"n": 1}}


def test_clone_takes_the_next_number_among_those_of_and_every() -> None:
    story = Story({"t": task(andEvery="a", retry={"max": 1, "backoff": "10s"})})
    story.fire("a", {"n": 0})
    story.fire("a", {"n": 1})
    story.failed("t#0")
    story.fire("a", {"n": 2})
    assert story.statuses() == {
        "t#0": "replayed",
        "t#1": "scheduled",
        "t#2": "delayed",
        "t#3": "scheduled",
    }
    story.timer(at=10)
    assert [(c.instance, c.kwargs["a"]) for c in story.commands] == [
        ("t#0", {"n": 0}),
        ("t#1", {"n": 1}),
        ("t#3", {"n": 2}),
        ("t#2", {"n": 0}),
    ]


# ---- a task that asks to be tried again ---------------------------------------------------------


def test_running_task_that_asks_is_tried_again_when_it_said() -> None:
    story = Story({"t": task("a")})
    story.fire("a", {"n": 1})
    story.started("t#0")
    assert story.retried("t#0", after=90.5, at=10) == []
    assert story.statuses() == {"t#0": "replayed", "t#1": "delayed"}
    assert story.timer(at=100.4) == []
    assert names(story.timer(at=100.5)) == ["t#1"]
    assert story.commands[-1].retries == 1
    assert story.commands[-1].kwargs == {"a": {"n": 1}}


def test_task_that_asks_without_a_wait_is_tried_again_at_once() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.started("t#0")
    assert names(story.retried("t#0")) == ["t#1"]


def test_task_may_replace_its_kwargs_and_they_stay_replaced() -> None:
    story = Story({"t": task("a", withParams={"extra": 1})})
    story.fire("a", {"n": 1})
    story.started("t#0")
    story.retried("t#0", kwargs={"a": {"n": 7}, "b": {"m": 8}})
    assert story.commands[-1].kwargs == {"a": {"n": 7}, "b": {"m": 8}, "extra": 1}
    assert story.stored()["t#1"] == {"a": {"n": 7}, "b": {"m": 8}}
    story.started("t#1")
    story.retried("t#1")
    assert story.stored()["t#2"] == {"a": {"n": 7}, "b": {"m": 8}}


def test_waits_of_a_task_do_not_follow_its_retry_key() -> None:
    story = retrying(max=3, backoff="1h")
    story.started("t#0")
    story.retried("t#0", after=5)
    assert names(story.timer(at=5)) == ["t#1"]


# ---- replays ------------------------------------------------------------------------------------


def test_replay_is_decided_at_once_with_the_same_kwargs() -> None:
    story = Story({"t": task("a")})
    story.fire("a", {"n": 1})
    story.failed("t#0")
    assert names(story.replay("t#0")) == ["t#1"]
    assert story.commands[-1].kwargs == {"a": {"n": 1}}
    assert story.statuses() == {"t#0": "replayed", "t#1": "scheduled"}


def test_replay_replaces_all_kwargs() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", {"n": 1})
    story.fire("b", {"n": 1})
    story.failed("t#0")
    story.replay("t#0", kwargs={"a": {"m": 2}, "extra": {}})
    assert story.commands[-1].kwargs == {"a": {"m": 2}, "extra": {}}
    story.failed("t#1")
    story.replay("t#1")
    assert story.commands[-1].kwargs == {"a": {"m": 2}, "extra": {}}


def test_replay_with_empty_kwargs_replaces_them_too() -> None:
    story = Story({"t": task("a")})
    story.fire("a", {"n": 1})
    story.failed("t#0")
    story.replay("t#0", kwargs={})
    assert story.commands[-1].kwargs == {}


def test_manual_replay_starts_the_retry_count_anew() -> None:
    story = retrying(max=1)
    story.failed("t#0")
    story.failed("t#1")
    story.replay("t#1")
    assert names(story.failed("t#2")) == ["t#3"]
    assert [c.retries for c in story.commands] == [0, 1, 0, 1]
    story.failed("t#3")
    assert story.statuses()["t#3"] == "failed"


def test_forced_replay_of_a_running_instance_ends_its_command() -> None:
    story = Story({"t": task("a"), "next": task("t")})
    story.fire("a")
    story.started("t#0")
    assert names(story.replay("t#0", force=True)) == ["t#1"]
    assert story.settled == [story.command("t#0")]
    assert story.finished("t#0") == []  # of the instance that was replayed
    assert names(story.finished("t#1")) == ["next#0"]


def test_replay_of_a_replayed_instance_changes_nothing() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.failed("t#0")
    story.replay("t#0")
    assert story.replay("t#0") == []
    assert story.statuses() == {"t#0": "replayed", "t#1": "scheduled"}


# ---- unless -------------------------------------------------------------------------------------


def test_clone_that_waits_for_its_backoff_is_abandoned_by_unless() -> None:
    story = Story({"t": task("a", unless=["no"], retry={"max": 1, "backoff": "10s"})})
    story.fire("a")
    story.failed("t#0")
    story.fire("no")
    assert story.statuses() == {"t#0": "replayed", "t#1": "abandoned"}
    assert story.timer(at=60) == []


def test_clone_inherits_what_its_origin_noted_while_it_ran() -> None:
    story = Story({"t": task("a", unless=["no", "never"], retry={"max": 1, "backoff": "10s"})})
    story.fire("a")
    story.started("t#0")
    story.fire("no")
    story.failed("t#0")
    story.fire("never")
    assert story.statuses() == {"t#0": "replayed", "t#1": "abandoned"}


def test_unless_fulfilled_at_the_due_time_comes_too_late() -> None:
    story = Story({"t": task("a", unless=["no"], retry={"max": 1, "backoff": "10s"})})
    story.fire("a")
    story.failed("t#0", at=0)
    assert names(story.fire("no", at=10)) == ["t#1"]


def test_failure_whose_unless_is_fulfilled_is_not_tried_again() -> None:
    story = Story({"t": task("a", unless=["no"], retry={"max": 3})})
    story.fire("a")
    story.fire("no")
    assert story.statuses() == {"t#0": "scheduled"}
    assert story.failed("t#0") == []
    assert story.statuses() == {"t#0": "failed"}
    assert story.instance("t#0").reason == "unless"


def test_task_that_asks_is_not_tried_again_once_its_unless_is_fulfilled() -> None:
    story = Story({"t": task("a", unless=["no"])})
    story.fire("a")
    story.started("t#0")
    story.fire("no")
    assert story.retried("t#0") == []
    assert story.statuses() == {"t#0": "failed"}
    assert story.instance("t#0").reason == "unless"


def test_replay_whose_unless_is_fulfilled_needs_force() -> None:
    story = Story({"t": task("a", unless=["no"])})
    story.fire("a")
    story.failed("t#0")
    story.fire("no")  # a failed instance goes on noting it
    assert story.replay("t#0") == []
    assert story.statuses() == {"t#0": "failed"}
    assert story.instance("t#0").reason == "unless"
    assert story.refused() == 1
    assert names(story.replay("t#0", force=True)) == ["t#1"]
    assert story.statuses() == {"t#0": "replayed", "t#1": "scheduled"}


def test_due_time_is_counted_from_the_sessions_clock() -> None:
    story = retrying(max=1, backoff="10s")
    story.timer(at=50)
    story.failed("t#0", at=20)  # arrived with an older stamp: the clock stays at 50
    assert story.instance("t#1").waits_from_us == START_US + 50 * SECOND
    assert story.timer(at=59) == []
    assert names(story.timer(at=60)) == ["t#1"]
