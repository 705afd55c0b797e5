"""Orders but replays, which are with the clones (docs/semantics.md, section 7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tests.core.story import SECOND, START_US, Story, names, task
from triggerstream.core.commands import Revoke
from triggerstream.core.events import Failed, FailureReason, Outcome, Release, Resend, Revoked, Skip
from triggerstream.core.ids import CommandId, InstanceId


def test_skip_without_cascade_starts_nothing() -> None:
    story = Story({"t": task("a"), "next": task("t")})
    story.fire("a")
    story.failed("t#0")
    assert story.skip("t#0") == []
    assert story.statuses() == {"t#0": "skipped"}


def test_skip_with_cascade_fires_the_tasks_name_with_the_result_given() -> None:
    story = Story({"t": task("a"), "next": task("t")})
    story.fire("a")
    story.failed("t#0")
    assert names(story.skip("t#0", cascade=True, result={"n": 1})) == ["next#0"]
    assert story.commands[-1].kwargs == {"t": {"n": 1}}


def test_skip_with_cascade_and_no_result_fires_with_no_kwargs() -> None:
    story = Story({"t": task("a"), "next": task("t")})
    story.fire("a")
    story.failed("t#0")
    story.skip("t#0", cascade=True)
    assert story.commands[-1].kwargs == {"t": {}}


def test_order_keeps_who_gave_it_and_why() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.failed("t#0")
    story.tell(Skip(instance=InstanceId("t#0"), reason="not needed", by="ada"))
    assert story.instance("t#0").note == "not needed (ada)"
    assert story.notes()[-1] == ("ordered", "t#0 skipped: not needed (ada)")


def test_cancel_of_a_decided_instance_asks_to_revoke_its_command() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    command = story.command("t#0")
    assert story.cancel("t#0") == [
        Revoke(id=command, session=story.session, task=story.commands[0].task, instance=InstanceId("t#0"))
    ]
    assert story.settled == [command]


def test_cancelled_instance_takes_no_further_trigger() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    assert story.cancel("t#0") == []
    assert story.fire("b") == []
    assert story.statuses() == {"t#0": "cancelled"}


def test_cancelled_clone_is_not_decided_when_due() -> None:
    story = Story({"t": task("a", retry={"max": 1, "backoff": "10s"})})
    story.fire("a")
    story.failed("t#0")
    story.cancel("t#1")
    assert story.timer(at=60) == []
    assert story.statuses() == {"t#0": "replayed", "t#1": "cancelled"}


def test_every_outcome_but_finished_is_refused_after_a_cancel() -> None:
    story = Story({"t": task("a", retry={"max": 3})})
    story.fire("a")
    story.cancel("t#0")
    assert story.started("t#0") == []
    assert story.failed("t#0") == []
    assert story.revoked("t#0") == []
    assert story.statuses() == {"t#0": "cancelled"}
    assert story.refused() == 3


def test_resend_asks_for_the_same_command_with_the_next_attempt() -> None:
    story = Story({"t": task("a", queue="slow", withParams={"a": {"x": 1}})})
    story.fire("a", {"n": 1}, at=1)
    first = story.commands[0]
    story.tell(Resend(instance=InstanceId("t#0")), at=100)
    story.started("t#0")
    story.resend("t#0")
    assert story.commands == [
        first,
        replace(first, attempt=1, decided_at=1),
        replace(first, attempt=2, decided_at=story.offset - 1),
    ]
    assert story.statuses() == {"t#0": "running"}


NOTHING_RAN = [reason for reason in FailureReason if reason is not FailureReason.RESULT_NOT_REPORTABLE]


@pytest.mark.parametrize(
    "late",
    [
        lambda i, c: Revoked(instance=i, command=c, attempt=0),
        *(
            lambda i, c, reason=reason: Failed(instance=i, command=c, error="x", reason=reason, attempt=0)
            for reason in NOTHING_RAN
        ),
    ],
    ids=["revoked", *NOTHING_RAN],
)
@pytest.mark.parametrize("started", [False, True])
def test_an_earlier_message_that_came_to_nothing_does_not_end_one_that_was_sent_again(
    late: Callable[[InstanceId, CommandId], Outcome], *, started: bool
) -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.resend("t#0")
    if started:
        story.started("t#0")
    command = story.command("t#0")
    story.tell(late(InstanceId("t#0"), command))
    assert story.statuses()["t#0"] == ("running" if started else "scheduled")
    assert story.settled == []
    assert story.refused() == 1
    story.finished("t#0")
    assert story.statuses()["t#0"] == "finished"
    assert story.settled == [command]


def test_an_earlier_message_whose_task_failed_or_whose_attempt_is_the_newest_counts() -> None:
    for late in (
        Failed(instance=InstanceId("t#0"), command=CommandId(""), error="ValueError", attempt=0),
        Failed(
            instance=InstanceId("t#0"),
            command=CommandId(""),
            error="a set",
            reason=FailureReason.RESULT_NOT_REPORTABLE,
            attempt=0,
        ),
        Failed(
            instance=InstanceId("t#0"),
            command=CommandId(""),
            error="x",
            reason=FailureReason.WORKER_LOST,
            attempt=1,
        ),
        Failed(
            instance=InstanceId("t#0"), command=CommandId(""), error="x", reason=FailureReason.WORKER_LOST
        ),
        Revoked(instance=InstanceId("t#0"), command=CommandId(""), attempt=1),
        Revoked(instance=InstanceId("t#0"), command=CommandId("")),
    ):
        story = Story({"t": task("a")})
        story.fire("a")
        story.resend("t#0")
        story.tell(replace(late, command=story.command("t#0")))
        assert story.statuses()["t#0"] == ("expired" if isinstance(late, Revoked) else "failed")


def test_resend_is_the_same_whatever_the_configuration_says_by_now() -> None:
    story = Story({"t": task("a", queue="slow", expires="1h", withParams={"a": {"x": 1}})})
    story.fire("a", {"n": 1})
    first = story.commands[0]
    story.apply({"t": {"after": ["a", "b"], "run": "other.task", "withParams": {"a": {"y": 2}}}})
    story.resend("t#0")
    assert story.commands == [first, replace(first, attempt=1, decided_at=story.offset - 1)]
    story.apply({"u": task("a")})
    story.resend("t#0")
    assert story.commands[-1] == replace(first, attempt=2, decided_at=story.offset - 1)


def test_resend_of_a_clone_with_kwargs_of_its_own_repeats_those() -> None:
    story = Story({"t": task("a")})
    story.fire("a", {"n": 1})
    story.failed("t#0")
    story.replay("t#0", kwargs={"a": {"n": 2}})
    story.resend("t#1")
    assert story.commands[-1] == replace(story.commands[-2], attempt=1, decided_at=3)


def test_outcome_counts_once_however_often_a_command_was_sent() -> None:
    story = Story({"t": task("a"), "next": task(andEvery="t")})
    story.fire("a")
    story.resend("t#0")
    story.finished("t#0")
    story.finished("t#0")
    assert [c.instance for c in story.commands] == ["t#0", "t#0", "next#0"]


def test_a_released_retry_is_decided_now_and_no_second_time_when_it_was_due() -> None:
    story = Story({"t": task("a", retry={"max": 2, "backoff": "1h"})})
    story.fire("a")
    story.failed("t#0", at=10)
    assert names(story.tell(Release(instance=InstanceId("t#1"), reason="it is back", by="ann"), at=11)) == [
        "t#1"
    ]
    assert story.commands[-1].decided_us == START_US + 11 * SECOND
    assert (story.instance("t#1").note, story.instance("t#1").retries) == ("it is back (ann)", 1)
    assert story.notes()[-1][1] == "t#1 released: it is back (ann)"
    assert story.timer(at=8000) == []
    assert story.statuses() == {"t#0": "replayed", "t#1": "scheduled"}


def test_a_session_whose_clock_is_ahead_is_got_going_by_a_release() -> None:
    story = Story({"t": task("a", retry={"max": 2, "backoff": "1s"})})
    days = 400 * 24 * 3600
    story.fire("other", at=days)
    story.fire("a", at=0)
    story.failed("t#0", at=1)
    assert story.timer(at=60) == []
    assert names(story.tell(Release(instance=InstanceId("t#1")), at=61)) == ["t#1"]
    assert story.state is not None
    assert story.state.clock_us == START_US + days * SECOND
