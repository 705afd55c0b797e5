"""Deadlines, delays, rounds and quiet times (docs/semantics.md, section 8)."""

from __future__ import annotations

import pytest

from tests.core.story import SECOND, START_US, Story, names, task
from triggerstream.core.effects import Reason
from triggerstream.core.fold import next_due
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.results import Folded
from triggerstream.wire import commands
from triggerstream.wire import state as wire

SIZES = wire.EncodedSizes()


def due(story: Story) -> float | None:
    assert story.state is not None
    found = next_due(story.rules, story.state)
    return None if found is None else (found - START_US) / SECOND


def decided(story: Story) -> list[tuple[str, float]]:
    return [(one.instance, (one.decided_us - START_US) / SECOND) for one in story.commands]


# ---- deadline -----------------------------------------------------------------------------------


def ship(**keys: Json) -> JsonObject:
    return {"after": ["order", "paid"], "deadline": "1d", "run": "shop.ship", **keys}


def test_an_instance_that_is_not_satisfied_in_time_expires_and_its_timeout_fires() -> None:
    story = Story({"ship": ship(), "cancel": task("ship.timeout")})
    story.fire("order", {"n": 7}, at=0)
    assert due(story) == 86_400
    assert story.timer(at=86_399) == []
    assert names(story.timer(at=86_400)) == ["cancel#0"]
    assert story.statuses() == {"ship#0": "expired", "cancel#0": "scheduled"}
    assert story.instance("ship#0").reason is Reason.DEADLINE
    assert story.commands[0].kwargs == {"ship.timeout": {"order": {"n": 7}}}
    (cause,) = story.commands[0].causes
    assert (cause.trigger, cause.offset, cause.id) == ("ship.timeout", None, None)
    assert due(story) is None


def test_what_arrives_at_the_due_time_comes_too_late() -> None:
    story = Story({"ship": ship()})
    story.fire("order", at=0)
    assert story.fire("paid", at=86_400) == []
    assert story.statuses() == {"ship#0": "expired"}
    story = Story({"ship": ship()})
    story.fire("order", at=0)
    assert names(story.fire("paid", at=86_399.999999)) == ["ship#0"]
    assert due(story) is None


def test_an_event_of_unless_alone_starts_no_deadline() -> None:
    story = Story({"ship": ship(unless=["objected", "stop"])})
    story.fire("objected", at=0)
    assert due(story) is None
    assert story.timer(at=90_000) == []
    assert story.statuses() == {"ship#0": "unstarted"}
    story.fire("order", at=100_000)
    assert due(story) == 186_400
    story.timer(at=186_400)
    assert story.statuses() == {"ship#0": "expired"}


def test_a_chain_of_timeouts_and_delays_over_one_silence_is_the_same_as_with_timer_events() -> None:
    tasks: JsonObject = {
        "a": {"after": ["x", "never"], "deadline": "10s", "run": "m.a"},
        "b": {"after": ["a.timeout", "never"], "deadline": "10s", "run": "m.b"},
        "c": {"after": ["b.timeout"], "delay": "10s", "run": "m.c"},
        "d": {"after": ["b.timeout"], "repeat": {"every": "7s", "max": 3}, "run": "m.d"},
    }
    silent, watched = Story(tasks), Story(tasks)
    for story in (silent, watched):
        story.fire("x", at=0)
    for at in range(1, 60, 3):
        watched.timer(at=at)
    for story in (silent, watched):
        story.fire("y", at=60)
    assert decided(silent) == decided(watched)
    assert decided(silent) == [("d#0", 20), ("d#1", 27), ("c#0", 30), ("d#2", 34), ("d#3", 41)]
    assert silent.state is not None
    assert watched.state is not None
    assert silent.state.timeouts == watched.state.timeouts
    assert silent.statuses() == watched.statuses()


def test_a_timeout_comes_in_log_order_between_the_records_around_it() -> None:
    tasks: JsonObject = {
        "t": {"after": ["x", "never"], "deadline": "10s", "run": "m.t"},
        "u": {"after": [{"sequence": ["x", "t.timeout", "y"]}], "run": "m.u"},
    }
    story = Story(tasks)
    story.fire("x", at=0)
    assert names(story.fire("y", at=10)) == ["u#0"]


def test_two_timeouts_of_one_fold_are_two_events() -> None:
    tasks: JsonObject = {
        "t": {"after": ["never"], "andEvery": "x", "deadline": "10s", "run": "m.t"},
        "u": {"after": [], "andEvery": "t.timeout", "run": "m.u"},
    }
    story = Story(tasks)
    for n in range(3):
        story.fire("x", {"n": n}, at=n)
    story.timer(at=100)
    assert [one.kwargs for one in story.commands] == [{"t.timeout": {"x": {"n": n}}} for n in range(3)]
    assert all(commands.decode(commands.encode(one)) == one for one in story.commands)
    assert [story.instance(f"u#{n}").captured for n in range(3)] == [
        {"t.timeout": -((2 << 20) + n)} for n in range(1, 4)
    ]


def test_an_unjudged_instance_is_judged_before_it_expires() -> None:
    story = Story({"ship": ship(), "late": task("ship.timeout")})
    story.fire("order", at=0)
    story.apply({"ship": {"after": ["order"], "deadline": "1d", "run": "shop.ship"}}, at=10)
    assert due(story) == 86_400
    assert names(story.timer(at=86_400)) == ["ship#0"]
    assert decided(story) == [("ship#0", 86_400)]


def test_a_deadline_that_a_file_adds_counts_from_the_stored_start() -> None:
    story = Story({"ship": {"after": ["order", "paid"], "run": "shop.ship"}})
    story.fire("order", at=0)
    assert due(story) is None
    story.apply({"ship": ship()}, at=100)
    assert due(story) == 86_400
    story.apply({"ship": ship(deadline="30s")}, at=200)
    assert due(story) == 30
    story.timer(at=201)
    assert story.statuses() == {"ship#0": "expired"}


def test_a_task_for_existing_sessions_has_its_deadline_from_the_configuration_on() -> None:
    story = Story({"other": task("z")})
    story.fire("order", at=0)
    story.apply({"ship": ship(appliesTo="existing")}, at=50)
    assert due(story) == 86_450
    story.timer(at=86_450)
    assert story.statuses() == {"ship#0": "expired"}


def test_a_command_that_the_worker_dropped_says_so() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.revoked("t#0")
    assert story.instance("t#0").reason is Reason.REVOKED


# ---- delay --------------------------------------------------------------------------------------


def test_a_delayed_instance_is_decided_later_unless_an_event_forbids_it() -> None:
    tasks: JsonObject = {"t": task("B", unless=["C"], unlessFrom="instance", delay="1h")}
    story = Story(tasks)
    story.fire("B", at=0)
    assert story.statuses() == {"t#0": "delayed"}
    assert due(story) == 3_600
    assert names(story.timer(at=3_600)) == ["t#0"]
    story = Story(tasks)
    story.fire("B", at=0)
    assert story.fire("C", at=3_599) == []
    assert story.statuses() == {"t#0": "abandoned"}
    assert due(story) is None


def test_a_delay_that_goes_from_the_file_is_over_at_once() -> None:
    story = Story({"t": task("B", delay="1h")})
    story.fire("B", at=0)
    story.apply({"t": task("B", delay="2h")}, at=5)
    assert due(story) == 7_200
    story.apply({"t": task("B")}, at=10)
    assert due(story) == 0
    assert names(story.timer(at=10)) == ["t#0"]
    assert decided(story) == [("t#0", 0)]


def test_a_delayed_instance_takes_no_more_events() -> None:
    story = Story({"t": {"after": [], "andEvery": "B", "delay": "10s", "run": "m.t"}})
    story.fire("B", {"n": 1}, at=0)
    story.fire("B", {"n": 2}, at=5)
    assert story.statuses() == {"t#0": "delayed", "t#1": "delayed"}
    story.timer(at=20)
    assert decided(story) == [("t#0", 10), ("t#1", 15)]


# ---- repeat -------------------------------------------------------------------------------------


REMIND: JsonObject = {"t": task("a", unless=["ok"], repeat={"every": "1d", "max": 3})}


def test_a_command_is_decided_again_until_the_last_round() -> None:
    story = Story(REMIND)
    story.fire("a", {"n": 1}, at=0)
    for day in range(1, 6):
        story.timer(at=day * 86_400)
    assert decided(story) == [(f"t#{day}", day * 86_400) for day in range(4)]
    assert all(one.kwargs == {"a": {"n": 1}} for one in story.commands)
    assert len({one.id for one in story.commands}) == 4
    assert due(story) is None
    assert (story.instance("t#3").repeats, story.instance("t#3").repeat_of) == (3, 2)


def test_rounds_end_with_unless_and_outcomes_do_not_matter() -> None:
    story = Story(REMIND)
    story.fire("a", at=0)
    story.failed("t#0", at=5)
    story.timer(at=86_400)
    assert names(story.fire("ok", at=90_000)) == []
    assert story.statuses() == {"t#0": "failed", "t#1": "scheduled", "t#2": "abandoned"}
    story.timer(at=900_000)
    assert len(story.commands) == 2


def test_a_clone_has_no_further_rounds() -> None:
    story = Story({"t": task("a", retry={"max": 1}, repeat={"every": "1d", "max": 1})})
    story.fire("a", at=0)
    story.failed("t#0", at=1)
    assert decided(story) == [("t#0", 0), ("t#2", 1)]
    story.timer(at=900_000)
    assert decided(story)[2:] == [("t#1", 86_400)]


def test_the_next_round_is_not_made_where_a_bound_forbids_it() -> None:
    story = Story({"$bounds": {"unresolvedInstances": 1}, **REMIND})
    assert names(story.fire("a", at=0)) == ["t#0"]
    assert story.prevented == 1
    assert story.statuses() == {"t#0": "scheduled"}
    assert "is not repeated" in str(story.notes()[-1][1])
    assert "not repeated" in (story.instance("t#0").error or "")


# ---- debounce -----------------------------------------------------------------------------------


def cart(**keys: Json) -> JsonObject:
    return {"t": {"after": ["cart"], "debounce": {"quiet": "10s", **keys}, "run": "m.t"}}


def test_each_event_lets_the_quiet_time_begin_again() -> None:
    story = Story(cart())
    for n, at in enumerate((0, 8, 16)):
        story.fire("cart", {"n": n}, at=at)
    assert due(story) == 26
    story.timer(at=40)
    assert decided(story) == [("t#0", 26)]
    assert story.commands[0].kwargs == {"cart": {"n": 2}}


def test_a_quiet_time_ends_at_the_latest_after_at_most() -> None:
    story = Story(cart(atMost="15s"))
    for at in (0, 8, 14):
        story.fire("cart", at=at)
    assert due(story) == 15
    story.timer(at=40)
    assert decided(story) == [("t#0", 15)]


# ---- bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [None, SIZES])
def test_a_timeout_is_left_out_completely_and_the_others_fire(sizes: wire.EncodedSizes | None) -> None:
    tasks: JsonObject = {
        "$bounds": {"unresolvedInstances": 4},
        "t": {"after": ["never"], "andEvery": "x", "deadline": "10s", "run": "m.t"},
        "u": {"after": ["t.timeout", "no"], "run": "m.u"},
        "v": {"after": ["no"], "andEvery": "t.timeout", "run": "m.v"},
        "w": {"after": ["no"], "andEvery": "t.timeout", "run": "m.w"},
    }
    story = Story(tasks, sizes=sizes)
    story.fire("x", {"n": 1}, at=0)
    story.fire("a1", at=0)
    story.apply({**tasks, "z": task("a1", "no2", appliesTo="existing")}, at=1)
    story.apply({**tasks, "z": task("a1", "no2"), "y": task("a1", "no2", appliesTo="existing")}, at=1)
    story.touch(at=2)
    assert story.statuses() == {"t#0": "unstarted", "z#0": "unstarted", "y#0": "unstarted"}
    story.timer(at=10)
    assert story.statuses() == {"t#0": "expired", "z#0": "unstarted", "y#0": "unstarted"}
    (left_out,) = story.left_out
    assert (left_out.trigger, left_out.data) == ("t.timeout", {"x": {"n": 1}})
    assert left_out.time_us == START_US + 10 * SECOND
    assert left_out.id == story.command("t#0")
    assert story.prevented == 1
    assert "left out" in (story.instance("t#0").error or "")
    assert "left out" not in str(story.notes())
    assert isinstance(story.result, Folded)
    assert story.state is not None
    assert "t.timeout" not in story.state.seen


def test_timeouts_whose_data_does_not_fit_are_left_out_and_the_instances_expire() -> None:
    tasks: JsonObject = {
        "$bounds": {"stateBytes": 20_000, "decidedBytes": 9_000},
        "t": {
            "after": ["never", {"trigger": "x", "as": "again"}],
            "andEvery": "x",
            "deadline": "10s",
            "run": "m.t",
        },
        "u": {"after": ["no"], "andEvery": "t.timeout", "run": "m.u"},
    }
    story = Story(tasks, sizes=SIZES)
    for n in range(6):
        story.fire("x", {"n": n, "text": "x" * 2_500}, at=n)
    story.timer(at=60)
    statuses = story.statuses()
    assert [statuses[f"t#{n}"] for n in range(6)] == ["expired"] * 6
    made = [name for name in statuses if name.startswith("u#")]
    assert len(made) + len(story.left_out) == 6
    assert story.left_out
    assert story.prevented == len(story.left_out)
    assert story.state is not None
    assert SIZES.state(story.state) <= 20_000
    # Dead letters are durable with the fold, so all together they have no more bytes than its commands.
    assert [one.data is None for one in story.left_out] == [False] + [True] * (len(story.left_out) - 1)


def test_timeouts_that_would_decide_too_many_bytes_are_left_out() -> None:
    tasks: JsonObject = {
        "$bounds": {"decidedBytes": 2_000},
        "t": {"after": ["never"], "andEvery": "x", "deadline": "10s", "run": "m.t"},
        "u": {"after": [], "andEvery": "t.timeout", "run": "m.u"},
    }
    story = Story(tasks, sizes=SIZES)
    for n in range(6):
        story.fire("x", {"n": n, "text": "x" * 400}, at=n)
    decided = story.timer(at=60)
    assert 0 < len(decided) < 6
    assert len(decided) + len(story.left_out) == 6
    assert [one.instance for one in story.commands] == [f"u#{n}" for n in range(len(decided))]
