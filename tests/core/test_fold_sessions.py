"""A session's life: closing, erasing, generations; and the bounds of what one may hold.

The rules: docs/semantics.md, R7.8, R7.9.
"""

from __future__ import annotations

from tests.core.story import Story, names, task
from triggerstream.core.events import (
    Body,
    Cancel,
    Close,
    Erase,
    Failed,
    Finished,
    Replay,
    Resend,
    Retried,
    Revoked,
    Skip,
    Skipped,
    Started,
    Timer,
    Touch,
)
from triggerstream.core.ids import AppId, CommandId, InstanceId, JsonObject, SessionId, TriggerName
from triggerstream.core.state import SessionState
from triggerstream.wire import state as wire


def test_close_cancels_what_waits_and_lets_go_on_what_was_decided() -> None:
    story = Story(
        {
            "waits": task("a", "b"),
            "again": task("a", retry={"max": 1, "backoff": "1h"}),
            "runs": task("a"),
        }
    )
    story.fire("a")
    story.failed("again#0")
    story.close("moved away")
    assert story.statuses() == {
        "waits#0": "cancelled",
        "again#0": "replayed",
        "again#1": "cancelled",
        "runs#0": "scheduled",
    }
    waits = story.instance("waits#0")
    assert (waits.reason, waits.note) == ("session closed", "moved away")
    assert story.timer(at=7200) == []
    story.started("runs#0")
    story.finished("runs#0")
    assert story.statuses()["runs#0"] == "finished"


def test_trigger_after_a_close_starts_anew_with_new_command_ids() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", {"n": 1})
    story.fire("b")
    first = story.commands[0].id
    story.close()
    assert story.fire("b", {"n": 2}) == []  # the `a` of before does not count any more
    assert story.statuses() == {"t#0": "unstarted"}
    assert names(story.fire("a", {"n": 2})) == ["t#0"]
    assert story.commands[1].kwargs == {"a": {"n": 2}, "b": {"n": 2}}
    assert story.commands[1].id == story.command("t#0", generation=1)
    assert first == story.command("t#0", generation=0)


def test_outcome_from_before_a_close_does_not_touch_the_session_that_started_anew() -> None:
    story = Story({"t": task("a"), "next": task("t")})
    story.fire("a")
    old = story.command("t#0")
    story.close()
    story.fire("a")
    assert story.statuses() == {"t#0": "scheduled"}
    assert story.command("t#0") != old
    before = story.command("t#0", generation=0)
    assert before == old
    story.started("t#0")
    assert story.statuses() == {"t#0": "running"}


def test_outcome_after_a_close_is_noted_and_does_not_cascade() -> None:
    story = Story({"t": task("a", retry={"max": 1}), "next": task("t")})
    story.fire("a")
    story.close()
    assert story.finished("t#0") == []
    assert story.statuses() == {"t#0": "finished"}


def test_failure_after_a_close_is_not_tried_again() -> None:
    story = Story({"t": task("a", retry={"max": 1})})
    story.fire("a")
    story.close()
    assert story.failed("t#0") == []
    assert story.statuses() == {"t#0": "failed"}
    assert story.instance("t#0").reason == "session closed"
    assert story.replay("t#0") == []


def test_close_counts_a_generation_each_time() -> None:
    story = Story({"t": task("a")})
    for generation in range(3):
        story.fire("a")
        assert story.commands[-1].id == story.command("t#0", generation=generation)
        story.close()
    assert len({c.id for c in story.commands}) == 3


def test_events_known_before_a_close_are_duplicates_after_it() -> None:
    story = Story({"t": task("a")})
    story.fire("a", id="1")
    story.close()
    assert story.fire("a", id="1") == []
    assert names(story.fire("a", id="2")) == ["t#0"]


def test_erase_leaves_nothing_but_generation_and_offset() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", {"name": "Ada"}, id="1")
    story.fire("b")
    story.erase()
    assert story.state == SessionState(generation=1, offset=2)
    assert wire.encode(story.state) == b'{"version":3,"generation":1,"offset":2}'


def test_session_starts_anew_after_an_erase_with_new_command_ids() -> None:
    story = Story({"t": task("a")})
    story.fire("a", id="1")
    story.erase()
    assert names(story.fire("a", id="1")) == ["t#0"]
    assert story.commands[0].id != story.commands[1].id
    assert story.commands[1].id == story.command("t#0", generation=1)


def test_outcome_from_before_an_erase_does_not_touch_the_new_instance() -> None:
    story = Story({"t": task("a"), "next": task("t")})
    story.fire("a")
    old = story.command("t#0")
    story.erase()
    assert story.finished("t#0") == []
    story.fire("a")
    assert story.command("t#0") != old
    assert story.refused() == 1


def test_erase_of_a_closed_session_counts_on() -> None:
    story = Story({"t": task("a")})
    story.fire("other")
    story.close()
    story.erase()
    story.fire("a")
    assert story.commands[0].id == story.command("t#0", generation=2)


def test_command_ids_differ_by_app_session_generation_task_and_number() -> None:
    ids = set()
    for app in ("app", "app2"):
        for session in ("s", "s2"):
            tasks = {"t": task(andEvery="a"), "t2": task("a")}
            story = Story({**tasks}, session=SessionId(session), app=AppId(app))
            story.fire("a")
            story.fire("a")
            story.erase()
            story.fire("a")
            ids |= {c.id for c in story.commands}
    assert len(ids) == 4 * 5


# ---- bounds -------------------------------------------------------------------------------------


def bounded(tasks: JsonObject, **bounds: int) -> Story:
    return Story({"$bounds": dict(bounds), **tasks})


def test_trigger_beyond_the_bound_of_names_is_not_folded() -> None:
    story = bounded({"t": task("a", "b")}, triggerNames=2)
    story.fire("x")
    story.fire("y")
    before = story.state
    assert story.fire("z") == []
    assert story.rejected == [
        "a session holds at most 2 distinct triggers that no task uses ($bounds.triggerNames)"
    ]
    assert story.state == before
    story.fire("x")  # a known name is no new one
    assert len(story.rejected) == 1


def test_names_that_a_task_uses_do_not_count() -> None:
    story = bounded({"t": task("a", "b", unless=["c"]), "u": task(andEvery="t")}, triggerNames=1)
    for name in ("x", "a", "c", "b", "t"):
        story.fire(name)
    assert story.rejected == []
    story.apply({"$bounds": {"triggerNames": 1}, "t": task("a")})  # now it has seen four that nobody uses
    story.fire("a")
    story.fire("y")
    assert len(story.rejected) == 1


def test_thousand_names_are_the_bound_unless_told() -> None:
    story = Story({"t": task("a")})
    for n in range(1_001):
        story.fire(f"x{n}")
    assert story.rejected == [
        "a session holds at most 1,000 distinct triggers that no task uses ($bounds.triggerNames)"
    ]


def test_instance_beyond_the_bound_of_unresolved_ones_is_not_made() -> None:
    story = bounded({"t": task("b", andEvery="a")}, unresolvedInstances=2)
    for _ in range(3):
        story.fire("a")
    assert story.rejected == ["a session holds at most 2 unresolved instances ($bounds.unresolvedInstances)"]
    assert story.statuses() == {"t#0": "unstarted", "t#1": "unstarted"}
    story.cancel("t#0")
    story.fire("a")
    assert story.statuses() == {"t#0": "cancelled", "t#1": "unstarted", "t#2": "unstarted"}


def test_event_that_breaks_a_bound_in_its_second_task_changes_nothing_in_the_first() -> None:
    story = bounded({"t": task(andEvery="a"), "u": task(andEvery="a")}, unresolvedInstances=3)
    story.fire("a")
    before = wire.encode(story.state or SessionState())
    assert story.fire("a") == []
    assert wire.encode(story.state or SessionState()) == before
    assert len(story.commands) == 2


def test_clone_takes_the_place_of_its_origin_within_the_bound() -> None:
    story = bounded({"t": task("a", retry={"max": 1})}, unresolvedInstances=1)
    story.fire("a")
    assert names(story.failed("t#0")) == ["t#1"]


def test_oldest_resolved_instances_are_forgotten_and_the_numbers_go_on() -> None:
    story = Story({"t": task(andEvery="a")})
    for n in range(103):
        story.fire("a")
        story.finished(f"t#{n}")
    whole = story.whole()
    assert whole is not None
    record = whole.tasks[story.commands[0].task]
    assert list(record.resolved) == list(range(3, 103))
    assert record.next == 103
    assert names(story.fire("a")) == ["t#103"]


def test_open_instance_is_kept_however_many_later_ones_are_resolved() -> None:
    story = bounded({"t": task(andEvery="a")}, resolvedInstances=2)
    story.fire("a")
    for n in range(1, 6):
        story.fire("a")
        story.finished(f"t#{n}")
    assert story.statuses() == {"t#0": "scheduled", "t#4": "finished", "t#5": "finished"}
    story.finished("t#0")
    assert story.statuses() == {"t#4": "finished", "t#5": "finished"}


def test_timeline_keeps_the_last_50_positions() -> None:
    story = Story({"t": task("a")})
    for n in range(60):
        story.fire(f"x{n}")
    assert story.state is not None
    assert [position[0] for position in story.state.positions] == list(range(10, 60))


def test_rejected_event_leaves_no_trace_and_what_follows_is_folded() -> None:
    story = bounded({"t": task("a")}, triggerNames=1)
    story.fire("x")
    story.fire("y", at=100)
    assert story.rejected
    assert story.state is not None
    assert story.state.offset == 0
    assert TriggerName("y") not in story.state.seen
    story.fire("x", {"n": 2})
    assert story.state.seen[TriggerName("x")].data == {"n": 2}


def test_an_erased_session_is_one_of_which_nothing_is_known_but_generation_and_offset() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.apply({"t": task("a", "c")})
    story.erase()
    assert story.state == SessionState(generation=1, offset=2, config=1)


def test_only_a_trigger_makes_a_session_known() -> None:
    instance, command = InstanceId("t#0"), CommandId("c")
    outcomes: list[Body] = [
        Finished(instance=instance, command=command),
        Failed(instance=instance, command=command),
        Skipped(instance=instance, command=command),
        Retried(instance=instance, command=command),
        Revoked(instance=instance, command=command),
    ]
    others: list[Body] = [
        Started(instance=instance, command=command),
        Skip(instance=instance),
        Replay(instance=instance),
        Cancel(instance=instance),
        Resend(instance=instance),
        Close(),
        Erase(),
        Touch(),
        Timer(),
    ]
    story = Story({"t": task("a")})
    for body in (*outcomes, *others):
        assert story.tell(body) == []
        assert story.state is None
    assert story.unknown == len(outcomes) + len(others)
    assert story.settled == [command] * len(outcomes)
    assert story.rejected == []
    story.fire("a")
    assert story.state is not None
    assert (story.state.generation, story.state.refused) == (0, 0)


def test_an_erased_session_is_known_and_its_generation_stays() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.erase()
    story.finished("t#0")
    assert story.state is not None
    assert (story.unknown, story.state.generation, story.state.refused) == (0, 1, 1)
    story.erase()
    assert story.state.generation == 2
