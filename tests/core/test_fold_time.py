"""Time: the session's clock, and timers that are decided by it alone (docs/semantics.md, section 8)."""

from __future__ import annotations

from tests.core.story import SECOND, START_US, Story, names, task
from triggerstream.core.events import Started, Trigger
from triggerstream.core.fold import next_due
from triggerstream.core.ids import InstanceId, TriggerName


def waiting() -> Story:
    """A session whose ``t#1`` is due at second 10."""
    story = Story({"t": task("a", retry={"max": 2, "backoff": "10s"}), "u": task("b", "c")})
    story.fire("a", at=0)
    story.failed("t#0", at=0)
    return story


def due(story: Story) -> float | None:
    assert story.state is not None
    found = next_due(story.rules, story.state)
    return None if found is None else (found - START_US) / SECOND


def test_timer_is_decided_before_the_record_that_arrives_at_its_due_time() -> None:
    story = waiting()
    story.fire("b", at=9)
    assert names(story.fire("c", at=10)) == ["t#1", "u#0"]
    assert [c.decided_us for c in story.commands[1:]] == [START_US + 10 * SECOND] * 2


def test_timer_found_late_was_decided_at_its_due_time() -> None:
    story = waiting()
    story.fire("b", at=500)
    assert story.commands[-1].decided_us == START_US + 10 * SECOND


def test_any_event_of_the_session_lets_time_pass() -> None:
    story = waiting()
    wrong = story.command("t#0", generation=5)
    body = Started(instance=InstanceId("t#0"), command=wrong)
    assert names(story.tell(body, at=10)) == ["t#1"]
    story = waiting()
    assert names(story.touch(at=10)) == ["t#1"]
    story = waiting()
    story.fire("b", id="1")
    assert names(story.fire("b", id="1", at=10)) == ["t#1"]


def test_timers_are_decided_in_due_order_whatever_their_task() -> None:
    tasks = {
        name: task("a", retry={"max": 1, "backoff": f"{s}s"}) for name, s in (("z", 30), ("y", 10), ("x", 20))
    }
    story = Story({**tasks})
    story.fire("a", at=0)
    for name in tasks:
        story.failed(f"{name}#0", at=0)
    assert due(story) == 10
    assert names(story.timer(at=60)) == ["y#1", "x#1", "z#1"]
    assert due(story) is None


def test_timers_due_at_one_instant_keep_the_files_order() -> None:
    tasks = {name: task("a", retry={"max": 1, "backoff": "10s"}) for name in ("z", "a2", "m")}
    story = Story({**tasks})
    story.fire("a", at=0)
    for name in ("m", "a2", "z"):
        story.failed(f"{name}#0", at=0)
    assert names(story.timer(at=60)) == ["z#1", "a2#1", "m#1"]


def test_early_repeated_and_missing_timer_events_decide_the_same() -> None:
    plain, busy = waiting(), waiting()
    plain.fire("b", at=30)
    for at in (1, 9, 10, 10, 11, 30):
        busy.timer(at=at)
    busy.fire("b", at=30)
    assert [(c.id, c.kwargs, c.decided_us) for c in plain.commands] == [
        (c.id, c.kwargs, c.decided_us) for c in busy.commands
    ]


def test_clock_never_goes_back() -> None:
    story = waiting()
    story.timer(at=9)
    assert story.timer(at=3) == []
    assert story.state is not None
    assert story.state.clock_us == START_US + 9 * SECOND


def test_event_time_decides_no_timer() -> None:
    story = waiting()
    body = Trigger(name=TriggerName("b"), data={})
    assert story.tell(body, at=5, time=500) == []
    assert names(story.tell(body, at=10, time=1)) == ["t#1"]


def test_due_times_of_59_s_61_s_25_h_and_40_d_are_exact() -> None:
    for text, seconds in (("59s", 59), ("61s", 61), ("25h", 90_000), ("40d", 3_456_000)):
        story = Story({"t": task("a", retry={"max": 1, "backoff": text})})
        story.fire("a", at=0)
        story.failed("t#0", at=0)
        assert due(story) == seconds
        assert story.timer(at=seconds - 0.000001) == []
        assert names(story.timer(at=seconds)) == ["t#1"]


def test_next_due_is_that_of_the_first_timer() -> None:
    story = waiting()
    assert due(story) == 10
    story.timer(at=10)
    assert due(story) is None
    story.failed("t#1", at=15)
    assert due(story) == 25
    story.cancel("t#2")
    assert due(story) is None


def test_timers_and_touches_leave_no_trace_in_the_timeline() -> None:
    story = waiting()
    before = story.notes()
    story.timer(at=5)
    story.touch(at=6)
    assert story.notes() == before


def test_command_that_a_timer_decides_carries_no_trace_of_the_event_that_let_time_pass() -> None:
    story = waiting()
    story.fire("b", at=500, traceparent="00-of-b")
    assert story.commands[-1].instance == "t#1"
    assert story.commands[-1].traceparent is None
    story.fire("c", traceparent="00-of-c")
    assert story.commands[-1].traceparent == "00-of-c"
