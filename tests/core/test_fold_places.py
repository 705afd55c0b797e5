"""Instances that wait for a place (docs/semantics.md, R8.10 and R8.11)."""

from __future__ import annotations

import pytest

from tests.core.story import START_US, Story, names, task
from triggerstream.core.effects import Reason
from triggerstream.core.fold import needs_touch
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.state import Status
from triggerstream.wire import state as wire

SIZES = wire.EncodedSizes()


def export(**keys: Json) -> JsonObject:
    return {"t": {"after": [], "andEvery": "a", "run": "m.t", **keys}}


def one_at_a_time(**keys: Json) -> Story:
    return Story(export(maxConcurrency=1, **keys))


def held(story: Story) -> list[str]:
    return [name for name, status in story.statuses().items() if status == "held"]


# ---- at most so many at a time ------------------------------------------------------------------


def test_events_that_come_while_the_place_is_taken_are_served_one_after_the_other() -> None:
    story = one_at_a_time()
    assert names(story.fire("a", {"n": 1})) == ["t#0"]
    for n in (2, 3, 4):
        assert story.fire("a", {"n": n}) == []
    assert held(story) == ["t#1", "t#2", "t#3"]
    for number in range(3):
        assert names(story.finished(f"t#{number}")) == [f"t#{number + 1}"]
    story.finished("t#3")
    assert set(story.statuses().values()) == {"finished"}
    assert [one.kwargs for one in story.commands] == [{"a": {"n": n}} for n in (1, 2, 3, 4)]


def test_places_are_of_one_task_in_one_session() -> None:
    story = Story({**export(maxConcurrency=2), "u": {"after": [], "andEvery": "a", "run": "m.u"}})
    decided = [names(story.fire("a")) for _ in range(3)]
    assert decided == [["t#0", "u#0"], ["t#1", "u#1"], ["u#2"]]
    assert story.finished("u#0") == []
    story.started("t#1")
    assert held(story) == ["t#2"]
    assert names(story.finished("t#1")) == ["t#2"]


@pytest.mark.parametrize("end", ["finished", "failed", "skipped", "cancel", "revoked", "retried"])
def test_whatever_ends_a_command_gives_its_place_back(end: str) -> None:
    story = one_at_a_time(unless=["never", "no"])
    story.fire("a", at=0)
    story.fire("a", at=1)
    if end in {"failed", "retried"}:
        story.started("t#0")
    if end == "retried":
        story.fire("no")
        story.fire("never")
        assert story.statuses()["t#1"] == "abandoned"
        story.retried("t#0")
        assert story.statuses()["t#0"] == "failed"
        return
    decided = story.failed("t#0", "no luck") if end == "failed" else getattr(story, end)("t#0")
    assert "t#1" in names(decided)


def test_a_held_one_is_decided_at_the_clock_and_keeps_what_it_captured() -> None:
    story = one_at_a_time(withParams={"a": {"p": 1}})
    story.fire("a", at=0)
    story.fire("a", {"n": 2}, at=1)
    story.fire("b", at=2)
    story.finished("t#0", at=50)
    assert story.commands[-1].kwargs == {"a": {"n": 2, "p": 1}}
    assert story.commands[-1].decided_us == START_US + 50_000_000
    assert [cause.offset for cause in story.commands[-1].causes] == [1]


def test_held_ones_are_decided_in_the_order_in_which_they_were_held() -> None:
    story = Story({"t": task("a", andEvery="b", retry={"max": 1, "backoff": "10s"}, maxConcurrency=1)})
    story.fire("a", at=0)
    story.fire("b", at=0)
    story.failed("t#0", "no luck", at=1)
    story.fire("b", at=2)
    story.fire("b", at=3)
    assert story.timer(at=11) == []
    # t#1 is the retry, which waited, so it was held last.
    assert [story.instance(f"t#{n}").held_no for n in (1, 2, 3)] == [2, None, 1]
    assert names(story.finished("t#2", at=20)) == ["t#3"]
    assert names(story.finished("t#3", at=21)) == ["t#1"]


def test_a_retry_without_a_wait_gives_its_place_to_the_first_held_one() -> None:
    story = one_at_a_time(retry={"max": 1})
    story.fire("a")
    story.fire("a")
    assert names(story.failed("t#0", "no luck")) == ["t#1"]
    assert story.statuses() == {"t#0": "replayed", "t#1": "scheduled", "t#2": "held"}


def test_what_an_event_and_its_cascade_want_comes_before_the_place_is_given() -> None:
    story = Story({**export(maxConcurrency=1), "u": task("t", "x")})
    story.fire("a")
    story.fire("a")
    story.fire("x")
    assert names(story.finished("t#0")) == ["u#0", "t#1"]


# ---- paused -------------------------------------------------------------------------------------


def test_an_event_while_paused_is_held_and_fires_when_the_file_lets_it() -> None:
    story = Story(export(paused=True))
    assert story.fire("a", {"n": 1}, at=0) == []
    assert story.fire("a", {"n": 2}, at=1) == []
    assert held(story) == ["t#0", "t#1"]
    story.apply(export(), at=2)
    assert story.state is not None
    assert needs_touch(story.rules, story.session, story.state)
    assert story.timer(at=3) == []
    assert names(story.touch(at=4)) == ["t#0", "t#1"]
    assert {one.decided_us for one in story.commands} == {START_US + 4_000_000}
    assert [one.kwargs for one in story.commands] == [{"a": {"n": 1}}, {"a": {"n": 2}}]


def test_what_runs_goes_on_while_its_task_is_paused() -> None:
    story = Story(export())
    story.fire("a")
    story.apply(export(paused=True))
    story.fire("a")
    assert story.finished("t#0") == []
    assert story.statuses() == {"t#0": "finished", "t#1": "held"}


def test_a_larger_limit_lets_more_of_them_run_and_a_smaller_one_ends_none() -> None:
    story = one_at_a_time()
    for _ in range(5):
        story.fire("a")
    story.apply(export(maxConcurrency=3))
    assert names(story.touch()) == ["t#1", "t#2"]
    story.apply(export(maxConcurrency=2))
    assert story.touch() == []
    assert story.finished("t#0") == []
    assert names(story.finished("t#1")) == ["t#3"]


def test_an_instance_that_a_file_completes_waits_behind_those_that_are_held() -> None:
    story = Story({"t": task("a", "b", andEvery="a", paused=True)})
    story.fire("a")
    story.fire("b")
    story.fire("a")
    assert story.statuses() == {"t#0": "held", "t#1": "held"}
    story = Story({"t": task("b", andEvery="a", paused=True, unless=["x", "y"])})
    story.fire("a")
    story.apply({"t": task(andEvery="a")})
    assert names(story.touch()) == ["t#0"]


def test_a_task_that_is_not_limited_any_more_decides_those_that_were_held_first() -> None:
    story = Story({"t": task("a", "b", paused=True, andEvery="c")})
    story.fire("c")  # t#0 lacks a and b
    story.fire("a")
    story.apply({"t": task(andEvery="c", paused=True)})
    story.fire("c")  # t#0 and t#1 are held
    assert [story.instance(f"t#{n}").held_no for n in (0, 1)] == [1, 2]
    story.apply({"t": task("z", andEvery="c", paused=True)})
    story.fire("c")  # t#2 lacks z
    story.apply({"t": task(andEvery="c")})
    assert names(story.touch()) == ["t#0", "t#1", "t#2"]


def test_a_timer_of_an_unjudged_session_is_held_behind_others_only() -> None:
    delayed: JsonObject = {"after": [], "andEvery": "a", "delay": "10s", "run": "m.t"}
    story = Story({"t": {**delayed, "paused": True}})
    story.fire("a", at=0)
    story.timer(at=10)
    story.fire("a", at=11)
    assert story.statuses() == {"t#0": "held", "t#1": "delayed"}
    story.apply({"t": delayed}, at=12)
    # No held one is decided before the instances were judged, so the timer's is held behind it.
    assert story.timer(at=21) == []
    assert held(story) == ["t#0", "t#1"]
    assert names(story.touch(at=22)) == ["t#0", "t#1"]
    other = Story({"t": {**delayed, "paused": True}})
    other.fire("a", at=0)
    other.apply({"t": delayed}, at=1)
    assert names(other.timer(at=10)) == ["t#0"]


# ---- what ends or passes by the line ------------------------------------------------------------


def test_unless_abandons_a_held_one_and_the_next_one_is_served() -> None:
    story = one_at_a_time(unless=[{"trigger": "no", "where": "data.all"}], unlessFrom="instance")
    story.fire("a")
    story.fire("a")
    story.fire("no", {"all": True})
    assert story.statuses() == {"t#0": "scheduled", "t#1": "abandoned"}
    story.fire("a")
    assert names(story.finished("t#0")) == ["t#2"]


def test_a_held_one_takes_no_more_events() -> None:
    story = Story({"t": task("a", "b", andEvery="c", paused=True)})
    story.fire("a", {"n": 1})
    story.fire("b")
    story.fire("c", {"n": 1})
    story.fire("c", {"n": 2})
    assert held(story) == ["t#0", "t#1"]
    story.apply({"t": task("a", "b", andEvery="c")})
    story.touch()
    assert [one.kwargs["c"] for one in story.commands] == [{"n": 1}, {"n": 2}]


def test_a_held_one_has_no_deadline() -> None:
    story = Story({"t": {"after": ["a"], "deadline": "10s", "paused": True, "run": "m.t"}})
    story.fire("a", at=0)
    story.timer(at=1_000)
    assert held(story) == ["t#0"]


def test_release_and_a_forced_replay_ask_for_no_place() -> None:
    story = one_at_a_time()
    for _ in range(4):
        story.fire("a")
    assert names(story.release("t#2")) == ["t#2"]
    assert names(story.replay("t#0", force=True)) == ["t#4"]
    assert held(story) == ["t#1", "t#3"]
    # Two run where one may: the next place is free when both have ended.
    assert story.finished("t#2") == []
    assert names(story.finished("t#4")) == ["t#1"]


def test_a_replay_is_held_like_any_other() -> None:
    story = one_at_a_time()
    story.fire("a")
    story.failed("t#0", "no luck")
    story.fire("a")
    assert story.replay("t#0") == []
    assert story.statuses() == {"t#0": "replayed", "t#1": "scheduled", "t#2": "held"}
    assert names(story.finished("t#1")) == ["t#2"]


def test_a_held_one_can_be_cancelled_and_a_closed_session_cancels_all() -> None:
    story = one_at_a_time()
    for _ in range(4):
        story.fire("a")
    story.cancel("t#1")
    story.close()
    assert list(story.statuses().values()) == ["scheduled", "cancelled", "cancelled", "cancelled"]
    # What runs on after the close takes no place in the next generation.
    assert names(story.fire("a")) == ["t#0"]
    assert story.fire("a") == []
    assert story.instance("t#1").held_no == 1


def test_rounds_of_a_repeat_wait_for_a_place() -> None:
    story = Story({"t": task("a", repeat={"every": "10s", "max": 2}, maxConcurrency=1)})
    story.fire("a", at=0)
    assert story.timer(at=10) == []
    assert held(story) == ["t#1"]
    assert story.timer(at=30) == []
    assert names(story.finished("t#0", at=31)) == ["t#1"]
    assert story.timer(at=41) == []
    assert names(story.finished("t#1", at=42)) == ["t#2"]


# ---- bounds -------------------------------------------------------------------------------------


def test_held_ones_whose_commands_do_not_fit_in_one_event_fail_and_the_others_are_decided() -> None:
    bounds: JsonObject = {"$bounds": {"decidedBytes": 5_000}}
    story = Story({**bounds, **export(paused=True)}, sizes=SIZES)
    for n in range(20):
        story.fire("a", {"n": n, "text": "x" * 100})
    story.apply({**bounds, **export()})
    decided = names(story.touch())
    assert 5 <= len(decided) <= 15
    assert decided == [f"t#{n}" for n in range(len(decided))]
    ended = [story.instance(name) for name in story.statuses()]
    failed = [one for one in ended if one.status is Status.FAILED]
    assert len(failed) == 20 - len(decided) == story.prevented
    assert {one.reason for one in failed} == {Reason.BOUND}
    assert names(story.replay(f"t#{len(decided)}")) == ["t#20"]


def test_a_held_one_whose_command_does_not_fit_leaves_the_place_to_the_next() -> None:
    bounds: JsonObject = {"$bounds": {"commandBytes": 2_000}}
    story = Story({**bounds, **export(maxConcurrency=1)}, sizes=SIZES)
    story.fire("a")
    story.fire("a", {"text": "x" * 1_200})
    story.fire("a")
    story.apply({**bounds, **export(maxConcurrency=1, withParams={"a": {"more": "y" * 900}})})
    assert names(story.finished("t#0")) == ["t#2"]
    assert story.statuses() == {"t#0": "finished", "t#1": "failed", "t#2": "scheduled"}
