"""What answers say about time: due times, rounds, what expired, and what timers did."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.story import SECOND, START_US, Story, read, task
from triggerstream.core.answers import ExplainedSession
from triggerstream.core.durations import duration_in_words, short_duration
from triggerstream.core.ids import InstanceId, Json, JsonObject
from triggerstream.core.projections import explain, stored
from triggerstream.core.time_sentences import time_keys
from triggerstream.present import condition_words, words
from triggerstream.wire.answers import from_json, to_json
from triggerstream.wire.instants import format_instant

DAY = 86_400
SHIP: JsonObject = {"after": ["order", "paid"], "deadline": "7d", "run": "shop.ship"}


def shown(story: Story) -> ExplainedSession:
    assert story.state is not None
    found = explain(story.rules, story.session, story.state)
    assert from_json(to_json(found), ExplainedSession) == found
    return found


def as_json(story: Story, instance: str) -> Any:  # noqa: ANN401 - JSON
    found = shown(story).find(InstanceId(instance))
    assert found is not None
    return to_json(found)


def aside(story: Story, instance: str, *, now: float | None = None) -> str:
    found = shown(story).find(InstanceId(instance))
    assert found is not None
    return words.aside(found, now_us=None if now is None else START_US + round(now * SECOND))


def in_round(story: Story, instance: str, *, now: float | None = None) -> str:
    for one in shown(story).tasks:
        for found in one.instances:
            if found.instance == instance:
                now_us = None if now is None else START_US + round(now * SECOND)
                return words.round_words(found, one, now_us=now_us)
    raise KeyError(instance)


def rows(story: Story) -> list[tuple[str, str]]:
    return [(row.what, words.event(row)) for row in shown(story).timeline]


def at(seconds: float) -> str:
    return format_instant(START_US + round(seconds * SECOND))


@pytest.mark.parametrize(
    ("seconds", "short", "exact"),
    [
        (0.4, "less than 1 s", "less than 1 s"),
        (59, "59 s", "59 s"),
        (300, "5 min", "5 min"),
        (7_800, "2 h 10 min", "2 h 10 min"),
        (2 * 3600 + 59, "2 h", "2 h 59 s"),
        (7 * DAY, "7 d", "7 d"),
        (DAY + 3600 + 60, "1 d 1 h", "1 d 1 h 1 min"),
        (1_500 * DAY, "1,500 d", "1,500 d"),
        (-1, "less than 1 s", "less than 1 s"),
    ],
)
def test_durations_are_said_in_their_largest_units(seconds: float, short: str, exact: str) -> None:
    assert short_duration(round(seconds * SECOND)) == short
    assert duration_in_words(round(seconds * SECOND)) == exact


def test_an_instance_with_a_deadline_says_what_it_lacks_and_until_when() -> None:
    story = Story({"ship": SHIP})
    story.fire("order", at=0)
    found = as_json(story, "ship#0")
    assert (found["due"], found["dueOf"]) == (at(7 * DAY), "deadline")
    when = "2026-01-08 00:00:00.000Z"
    assert aside(story, "ship#0", now=0) == f"waits for paid; expires in 7 d ({when})"
    assert aside(story, "ship#0", now=7 * DAY - 7_800) == f"waits for paid; expires in 2 h 10 min ({when})"
    late = f"waits for paid; its deadline is overdue by 5 min ({when})"
    assert aside(story, "ship#0", now=7 * DAY + 300) == late
    assert aside(story, "ship#0") == f"waits for paid; expires {when}"


def test_an_instance_that_expired_says_why_and_the_timeline_what_fired() -> None:
    story = Story({"ship": SHIP, "cancel": task("ship.timeout")})
    story.fire("order", at=0)
    story.fire("other", at=8 * DAY)
    assert as_json(story, "ship#0")["says"] == "not satisfied within 7 d: deadline"
    assert rows(story) == [
        ("arrived", "order"),
        ("expired", "ship#0: not satisfied within 7 d: deadline"),
        ("fired", "ship.timeout by a timer (deadline)"),
        ("decided", "cancel#0 runs my_app.tasks.run, because of ship.timeout (a timer)"),
        ("arrived", "other"),
    ]
    expired, fired, decided = (to_json(row) for row in shown(story).timeline[1:4])
    assert expired == {
        "time": at(7 * DAY),
        "what": "expired",
        "note": "not satisfied within 7 d: deadline",
        "instance": "ship#0",
        "dueOf": "deadline",
    }
    assert fired == {"time": at(7 * DAY), "what": "fired", "type": "ship.timeout", "dueOf": "deadline"}
    by: Json = {"time": at(7 * DAY)}
    assert decided["because"] == [{"trigger": "ship.timeout", "by": by}]
    assert as_json(story, "cancel#0")["completedBy"] == {"trigger": "ship.timeout", "by": by}


def test_an_expired_instance_has_the_reason_why_its_timeout_was_left_out() -> None:
    later: JsonObject = {"after": ["no"], "andEvery": "ship.timeout", "run": "m.u"}
    story = Story({"$bounds": {"unresolvedInstances": 1}, "ship": SHIP, "u": later, "v": later})
    story.fire("order", at=0)
    story.timer(at=8 * DAY)
    (ship,) = shown(story).tasks[0].instances
    assert ship.status == "expired"
    error = words.other_error(ship, shown(story).tasks[0])
    assert error is not None
    assert error.startswith("the trigger `ship.timeout` is left out: a session holds at most 1")
    assert not words.is_failure(ship)


def test_no_answer_has_the_number_of_an_event_that_a_timer_fired() -> None:
    tasks: JsonObject = {
        "ship": SHIP,
        "cancel": task("ship.timeout"),
        "count": {"after": [{"trigger": "ship.timeout", "count": 2}], "run": "m.count"},
        "never": {"after": [{"trigger": "ship.timeout", "where": "data.n > 3"}], "run": "m.never"},
        "blocked": {"after": ["order", "x"], "unless": ["ship.timeout"], "run": "m.blocked"},
    }
    story = Story(tasks)
    story.fire("order", at=0)
    story.fire("other", at=8 * DAY)
    found = shown(story)
    assert "-" not in "".join(str(number) for number in numbers(to_json(found)))
    (leaf,) = found.tasks[2].instances[0].after.leaves()
    assert [condition_words.taken(one) for one in leaf.by] == ["a timer, 2026-01-08 00:00:00.000Z"]
    assert condition_words.leaf_remarks(leaf, found.tasks[2].instances[0].status) == ["ship#0: expired"]
    assert found.tasks[3].says is not None
    assert "ship.timeout: the timeout after event 0 does not count" in found.tasks[3].says
    seen = next(one for one in found.seen if one.trigger == "ship.timeout")
    assert words.by(seen.by) == "a timer, 2026-01-08 00:00:00.000Z"


def numbers(value: Json) -> list[int]:
    match value:
        case bool():
            return []
        case int():
            return [value]
        case dict():
            return [number for one in value.values() for number in numbers(one)]
        case list():
            return [number for one in value for number in numbers(one)]
        case _:
            return []


def test_rounds_are_numbered_and_the_next_one_has_its_time() -> None:
    repeated: JsonObject = {"after": ["a"], "repeat": {"every": "1d", "max": 3}, "run": "m.remind"}
    story = Story({"remind": repeated})
    story.fire("a", at=0)
    assert in_round(story, "remind#0", now=0) == "round 1 of 4 · next in 1 d"
    assert aside(story, "remind#1", now=DAY + 60).startswith("waits for round 2 of 4; overdue by 1 min (")
    story.finished("remind#0", at=DAY + 3_600)
    assert in_round(story, "remind#0", now=DAY + 3_600) == "round 1 of 4"
    assert in_round(story, "remind#1", now=DAY + 3_600) == "round 2 of 4 · next in 23 h"
    assert in_round(story, "remind#1") == "round 2 of 4 · next at 2026-01-03 00:00:00.000Z"
    found = as_json(story, "remind#2")
    assert (found["round"], found["rounds"], found["repeatOf"], found["dueOf"]) == (
        3,
        4,
        "remind#1",
        "repeat",
    )
    assert ("decided", "remind#1 runs m.remind in a round that was due, because of a (event 0)") in rows(
        story
    )
    story.apply({"remind": {"after": ["a"], "run": "m.remind"}}, at=DAY + 4_000)
    assert in_round(story, "remind#1", now=DAY + 4_000).startswith("round 2 · next overdue by ")


def test_a_retry_has_its_number_and_of_how_many() -> None:
    story = Story({"t": task("a", retry={"max": 2, "backoff": "1h"})})
    story.fire("a", at=0)
    story.failed("t#0", at=10)
    assert aside(story, "t#1", now=10) == (
        "waits to be tried again (retry 1 of 2); due in 1 h (2026-01-01 01:00:10.000Z)"
    )
    found = shown(story).find(InstanceId("t#1"))
    assert found is not None
    assert words.rerun_of(found) == "t#0 (1 of 2)"
    assert (found.retries, found.max_retries) == (1, 2)
    story.timer(at=4_000)
    assert rows(story)[-1] == (
        "decided",
        "t#1 runs my_app.tasks.run as a retry that was due, because of a (event 0)",
    )


def test_an_instance_that_waits_after_it_was_satisfied_says_for_how_long() -> None:
    tasks: JsonObject = {
        "late": {"after": ["a"], "delay": "1h30m", "run": "m.late"},
        "quiet": {"after": ["a"], "debounce": {"quiet": "5m", "atMost": "1h"}, "run": "m.quiet"},
    }
    story = Story(tasks)
    story.fire("a", at=0)
    assert aside(story, "late#0", now=0) == (
        "is satisfied, and waits 1 h 30 min (`delay`); due in 1 h 30 min (2026-01-01 01:30:00.000Z)"
    )
    assert aside(story, "quiet#0", now=0) == (
        "is satisfied, and waits until no event has come for 5 min, at most 1 h (`debounce`); "
        "due in 5 min (2026-01-01 00:05:00.000Z)"
    )
    story.fire("a", at=200)
    story.timer(at=10_000)
    assert rows(story)[2:] == [
        ("decided", "quiet#0 runs m.quiet after its debounce, because of a (event 1)"),
        ("decided", "late#0 runs m.late after its delay, because of a (event 0)"),
    ]
    assert as_json(story, "quiet#0")["completedBy"]["by"]["offset"] == 1


def test_the_keys_of_time_of_a_task_are_said_in_words() -> None:
    tasks: JsonObject = {
        "a": {"after": ["x", "y"], "within": "2h", "deadline": "7d", "delay": "1h30m", "run": "m.a"},
        "b": {"after": ["x"], "debounce": "5m", "expires": "10m", "run": "m.b"},
        "c": {"after": ["x"], "repeat": {"every": "1d", "max": 3}, "run": "m.c"},
        "d": {"after": ["x"], "repeat": {"every": "1d", "max": 1}, "retry": {"max": 1}, "run": "m.d"},
        "e": {"after": ["x"], "retry": {"max": 3, "backoff": "1m", "factor": 2}, "run": "m.e"},
        "f": {"after": ["x"], "run": "m.f"},
    }
    assert {one.name: time_keys(one) for one in read(tasks).tasks} == {
        "a": ["within 2 h", "deadline 7 d", "delay 1 h 30 min"],
        "b": ["debounce 5 min", "expires 10 min"],
        "c": ["every 1 d, 3 more times"],
        "d": ["every 1 d, once more", "1 retry"],
        "e": ["3 retries after 1 min, each 2 times longer"],
        "f": [],
    }


def test_what_the_worker_dropped_says_so() -> None:
    story = Story({"t": task("a", expires="10m"), "u": task("a")})
    story.fire("a")
    story.revoked("t#0")
    story.revoked("u#0")
    assert as_json(story, "t#0")["says"] == "the worker dropped it: expires"
    assert as_json(story, "u#0")["says"] == "the worker dropped it: revoked"


def test_a_stored_session_has_due_times_under_the_file_that_it_met() -> None:
    story = Story({"ship": SHIP})
    story.fire("order", at=0)
    assert story.state is not None
    found: Any = to_json(stored(story.session, story.state, rules=story.rules))
    assert (found["instances"]["ship#0"]["due"], found["instances"]["ship#0"]["dueOf"]) == (
        at(7 * DAY),
        "deadline",
    )
    without: Any = to_json(stored(story.session, story.state))
    assert "due" not in without["instances"]["ship#0"]
