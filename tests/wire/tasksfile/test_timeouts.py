"""Deadlines and the triggers that they fire: what `config check` says about tasks that wait for them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.core.reference_of_conditions import SECOND_US, Fired, Line, Reference, Session
from triggerstream.core.errors import Finding
from triggerstream.core.ids import Json, JsonObject
from triggerstream.wire.tasksfile import check
from triggerstream.wire.tasksfile.names import check_seen
from triggerstream.wire.tasksfile.reader import check as check_with


def findings_of(tasks: JsonObject) -> list[Finding]:
    return list(check(json.dumps(tasks), name="tasks.json")[1])


def the_finding(tasks: JsonObject) -> tuple[str, str, str]:
    (found,) = findings_of(tasks)
    assert (found.severity == "error") == (found.code in ("endless-loop", "reserved-name"))
    return found.code, found.path, found.message


def task(*after: Json, every: Json = None, **more: Json) -> JsonObject:
    return {"after": list(after), "run": "x", **({} if every is None else {"andEvery": every}), **more}


def leaf(trigger: str, **more: Json) -> JsonObject:
    return {"trigger": trigger, "as": trigger.replace(".", "_"), **more}


SHIP = task("placed", "paid", deadline="1d")


def test_a_task_may_wait_for_the_timeout_of_another_one() -> None:
    assert findings_of({"t_ship": SHIP, "t_cancel": task(leaf("t_ship.timeout"))}) == []
    assert findings_of({"t_ship": SHIP, "t_note": task("placed", unless=["t_ship.timeout"])}) == []


def test_a_timeout_is_no_identifier() -> None:
    code, path, message = the_finding({"t_ship": SHIP, "t_cancel": task("t_ship.timeout")})
    assert (code, path) == ("not-an-identifier", "/t_cancel/after/0")
    assert message.endswith("give it an `as`")


def test_a_task_that_runs_once_does_not_both_finish_and_expire() -> None:
    both: JsonObject = {"t_ship": SHIP, "t_a": task("t_ship", leaf("t_ship.timeout"))}
    code, path, message = the_finding(both)
    assert (code, path) == ("never-starts", "/t_a/after/1/trigger")
    assert message == (
        "can never start unless an application fires one of them: `t_ship` either finishes or expires; if "
        'either should start it, write `{"any": ["t_ship", "t_ship.timeout"]}`'
    )
    either = task({"any": ["t_ship", leaf("t_ship.timeout")]})
    assert findings_of({"t_ship": SHIP, "t_a": either}) == []
    often = task("placed", "paid", every="placed", deadline="1d")
    assert findings_of(both | {"t_ship": often}) == []


# Tasks that start one another for ever


def test_a_task_that_repeats_on_its_own_timeout_is_an_error() -> None:
    code, path, message = the_finding({"t_a": task("a", "b", every=leaf("t_a.timeout"), deadline="1h")})
    assert (code, path) == ("endless-loop", "/t_a/andEvery/trigger")
    assert message == (
        "`t_a` would start itself for ever: each time it expires, `t_a.timeout` starts it again"
    )


def test_a_ring_with_a_timeout_in_it_is_an_error() -> None:
    tasks: JsonObject = {
        "t_a": task("a", every=leaf("t_b.timeout")),
        "t_b": task("b", every="t_c", deadline="1h"),
        "t_c": task(every="t_a"),
    }
    code, path, message = the_finding(tasks)
    assert (code, path) == ("endless-loop", "/t_a/andEvery/trigger")
    assert message == (
        "`t_a`, `t_b` and `t_c` would start one another for ever: each one's `andEvery` is another one's "
        "name or `.timeout`"
    )


@pytest.mark.parametrize(
    "tasks",
    [
        # Without `andEvery` a task has one instance, so the ring ends.
        {"t_a": task("a", every=leaf("t_b.timeout")), "t_b": task("t_a", "b", deadline="1h")},
        # Not of the same task.
        {"t_a": task("a", "b", every="c", deadline="1h"), "t_b": task(every=leaf("t_a.timeout"))},
        # Nothing fires that name but an application.
        {"t_a": task("a", every=leaf("t_b.timeout"))},
    ],
)
def test_other_tasks_after_a_timeout_come_to_an_end(tasks: JsonObject) -> None:
    assert findings_of(tasks) == []


def test_a_deadline_that_is_never_reached_makes_no_ring() -> None:
    found = findings_of({"t_a": task(every=leaf("t_a.timeout"), deadline="1h")})
    assert [one.code for one in found] == ["never-times-out", "no-effect"]


# Tasks that never start


@pytest.mark.parametrize("more", [{}, {"unless": ["c"]}])
def test_a_task_that_waits_for_its_own_timeout_is_a_warning(more: JsonObject) -> None:
    code, path, message = the_finding({"t_a": task("a", leaf("t_a.timeout"), deadline="1h", **more)})
    assert (code, path) == ("never-starts", "/t_a/after/1/trigger")
    assert message == (
        "`t_a` waits for its own end, `t_a.timeout`: it can never start unless an application fires a "
        "trigger of that name"
    )


def test_a_repeatable_task_may_wait_for_its_own_timeout() -> None:
    assert findings_of({"t_a": task(leaf("t_a.timeout"), every="a", deadline="1h")}) == []


def test_a_timeout_comes_although_the_task_itself_can_never_start() -> None:
    found = findings_of(
        {"t_a": task("a", "t_a", deadline="1h"), "t_b": task(leaf("t_a.timeout")), "t_c": task("t_b", "t_a")}
    )
    assert [(one.code, one.path) for one in found] == [("never-starts", "/t_a/after/1")]


def test_a_timeout_of_a_task_that_no_event_reaches_never_comes() -> None:
    code, path, message = the_finding(
        {"t_a": task(leaf("t_b.timeout"), "a"), "t_b": task("t_a", "t_b", deadline="1h")}
    )
    assert (code, path) == ("never-starts", "/t_a/after/0/trigger")
    assert message.startswith("`t_a` and `t_b` wait for one another in a ring")


def test_a_task_without_andevery_times_out_once() -> None:
    twice = task(leaf("t_ship.timeout", count=2))
    code, path, message = the_finding({"t_ship": SHIP, "t_a": twice})
    assert (code, path) == ("never-starts", "/t_a/after/0/count")
    assert message.startswith(
        "`t_ship.timeout` fires once in a session (only `andEvery` makes a task wait again), and 2 are "
    )
    assert findings_of({"t_ship": SHIP | {"andEvery": "placed"}, "t_a": twice}) == []


def test_a_task_with_repeat_finishes_once_in_each_round() -> None:
    def counts(number: int) -> JsonObject:
        repeat: Json = {"every": "1d", "max": 3}
        return {"t_a": task("a", repeat=repeat), "t_b": task({"trigger": "t_a", "count": number})}

    assert findings_of(counts(4)) == []
    code, _, message = the_finding(counts(5))
    assert code == "never-starts"
    assert message.startswith(
        "`t_a` finishes at most 4 times in a session (only `andEvery` and `repeat` make a task run again)"
    )


# Names


def test_a_task_cannot_have_the_name_of_a_timeout() -> None:
    code, path, message = the_finding({"t_ship": SHIP, "t_ship.timeout": task("a")})
    assert (code, path) == ("reserved-name", "/t_ship.timeout")
    assert message.startswith("`t_ship` at 1:2 has a `deadline`, after which a trigger of this name fires")
    assert findings_of({"t_ship": task("placed"), "t_ship.timeout": task("a")}) == []
    waits: JsonObject = {"t_a": task("a", "t_a.timeout", deadline="1h"), "t_a.timeout": task("b")}
    assert [one.code for one in findings_of(waits) if one.severity == "error"] == ["reserved-name"]


def test_a_timeout_of_a_task_without_deadline_is_a_warning() -> None:
    code, path, message = the_finding({"t_ship": task("a", "b"), "t_a": task(leaf("t_ship.timeout"))})
    assert (code, path) == ("never-times-out", "/t_a/after/0/trigger")
    assert message.startswith("`t_ship` has no `deadline`, so `t_ship.timeout` never fires unless")


def test_a_timeout_of_no_task_is_a_warning_where_the_file_has_deadlines() -> None:
    lost = task(leaf("t_shp.timeout"))
    code, path, message = the_finding({"t_ship": SHIP, "t_a": lost})
    assert (code, path) == ("never-times-out", "/t_a/after/0/trigger")
    assert message.startswith("there is no task `t_shp`, so `t_shp.timeout` never fires unless")
    assert message.endswith("did you mean `t_ship.timeout`?")
    assert findings_of({"t_ship": task("a", "b"), "t_a": lost}) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("t_ship.finished", "a task fires `t_ship`, its own name, once it has finished"),
        ("t_ship.expired", "a task fires `t_ship.timeout` when it expires"),
        ("t_ship.deadline", "a task fires `t_ship.timeout` when it expires"),
        ("t_ship.late", "a task fires `t_ship.timeout` when it expires"),
        ("t_ship.failed", "a task fires nothing when it fails: to act where it has not finished in time"),
    ],
)
def test_an_outcome_after_the_name_of_a_task_is_a_warning(name: str, hint: str) -> None:
    code, path, message = the_finding({"t_ship": SHIP, "t_a": task(leaf(name))})
    assert (code, path) == ("never-fires", "/t_a/after/0/trigger")
    assert message.startswith(
        f"`{name}` never fires unless an application fires a trigger of that name: {hint}"
    )
    assert findings_of({"t_other": SHIP, "t_a": task(leaf(name))}) == []


@pytest.mark.parametrize("name", ["t_ship_timeout", "t_shipTimeout", "T_ship.timeOut", "t_ship.timout"])
def test_a_name_that_is_nearly_a_timeout_is_a_warning(name: str) -> None:
    (found,) = [
        one
        for one in findings_of({"t_ship": SHIP, "t_a": task(leaf(name))})
        if one.code != "not-an-identifier"
    ]
    assert (found.code, found.path) == ("nearly-alike", "/t_a/after/0/trigger")
    assert f"`{name}` is nearly the same as `t_ship.timeout`, which fires" in found.message


def test_a_timeout_need_not_have_been_seen() -> None:
    text = json.dumps({"t_ship": SHIP, "t_cancel": task(leaf("t_ship.timeout"))})
    _, findings = check_with(
        text,
        name="f",
        further=[lambda file, found: check_seen(file, found, seen=["placed", "paid"], at="here")],
    )
    assert findings == ()


# Keys without effect


@pytest.mark.parametrize("after", [["a"], [{"any": ["a", "b"]}], [{"trigger": "a", "count": 1}]])
def test_a_deadline_or_window_of_what_one_event_meets_has_no_effect(after: list[Json]) -> None:
    for key, hint in (("deadline", "; to wait before the task runs, write `delay`"), ("within", "")):
        found = the_finding({"t_a": task(*after, **{key: "1h"})})
        message = f"has no effect: a single event meets all of `after`{hint}"
        assert found == ("no-effect", f"/t_a/{key}", message)


@pytest.mark.parametrize(
    "after",
    [["a", "b"], [{"any": ["a", ["b", "c"]]}], [{"trigger": "a", "count": 2}], [{"sequence": ["a", "b"]}]],
)
def test_other_deadlines_and_windows_have(after: list[Json]) -> None:
    assert findings_of({"t_a": task(*after, deadline="1h", within="30m")}) == []


def test_a_window_longer_than_the_deadline_has_no_effect() -> None:
    code, path, _ = the_finding({"t_a": task("a", "b", deadline="1h", within="61m")})
    assert (code, path) == ("no-effect", "/t_a/within")
    assert findings_of({"t_a": task("a", "b", deadline="1h", within="1h")}) == []
    # A further instance begins with older events, which the window drops.
    assert findings_of({"t_a": task("a", every="b", deadline="1h", within="61m")}) == []


def test_a_limit_of_runs_at_a_time_needs_several_runs() -> None:
    assert the_finding({"t_a": task("a", maxConcurrency=1)})[:2] == ("no-effect", "/t_a/maxConcurrency")
    assert findings_of({"t_a": task(every="a", maxConcurrency=1)}) == []
    assert findings_of({"t_a": task("a", repeat={"every": "1d", "max": 1}, maxConcurrency=1)}) == []


# The findings against the rules, as the reference evaluator has them

NAMES = ("t_a", "t_b", "t_c")
MOST_INSTANCES = 30
"""Far more than three tasks make of six events, and far fewer than a ring makes in the silence."""


@st.composite
def files(draw: st.DrawFn) -> tuple[JsonObject, list[Finding]]:
    """Tasks that wait for one another's ends and timeouts, usable or not, and what is said about them."""
    names = NAMES[: draw(st.integers(1, 3))]
    pool = st.sampled_from(["a", "b", *names, *(f"{name}.timeout" for name in names)])
    file: JsonObject = {}
    for name in names:
        every = draw(st.none() | pool)
        after = draw(st.lists(pool, min_size=every is None, max_size=3, unique=True))
        inner: Json = {"any": list(after)}
        condition = [inner] if len(after) > 1 and draw(st.integers(0, 3)) == 0 else after
        deadline: JsonObject = {"deadline": "10s"} if draw(st.booleans()) else {}
        file[name] = task(*condition, every=every, **deadline)
    return file, findings_of(file)


def run(file: JsonObject, fired: list[str]) -> Session:
    """The session after the triggers were fired and a long silence followed.

    Each command finishes before the next event.
    """
    reference = Reference("app", file)
    now_s, finished = 0, 0

    def read(kind: str, **data: str) -> None:
        line = Line(
            offset=now_s, arrival_us=now_s * SECOND_US, time_us=now_s, session="s", type=kind, data=dict(data)
        )
        reference.read(line)

    for kind in [*fired, *["triggerstream.timer"] * 40]:
        now_s += 4 if kind in fired else 100
        read(kind)
        while len(asked := reference.asked("s")) > finished and len(asked) < MOST_INSTANCES:
            one = asked[finished]
            finished, now_s = finished + 1, now_s + 1
            read("triggerstream.task.finished", instance=one.instance, command=one.id)
        if len(reference.instances("s")) >= MOST_INSTANCES:
            break
    return reference.sessions["s"]


@pytest.mark.laws
@given(files(), st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=6))
def test_what_is_said_about_timeouts_is_what_the_rules_give(
    made: tuple[JsonObject, list[Finding]], fired: list[str]
) -> None:
    file, findings = made
    assume(all(one.severity == "warning" for one in findings))
    session = run(file, fired)
    assert len(session.instances) < MOST_INSTANCES, "tasks without the error come to an end"
    never = {
        name
        for one in findings
        if one.code == "never-starts"
        for name in (
            one.path.split("/")[1],
            *re.findall("`(t_.)`", one.message if "ring" in one.message else ""),
        )
    }
    assert never.isdisjoint(one.instance.partition("#")[0] for one in session.asked)
    lost = {
        name
        for one in findings
        if one.code == "never-times-out"
        for name in re.findall(r"`(t_.\.timeout)` never fires", one.message)
    }
    assert lost.isdisjoint(one.trigger for one in session.happened if isinstance(one, Fired))


@pytest.mark.parametrize(
    "file",
    [
        {"t_a": task("a", "b", every="t_a.timeout", deadline="10s")},
        {
            "t_a": task("b", every="t_b.timeout", deadline="10s"),
            "t_b": task("a", "b", every="t_a.timeout", deadline="10s"),
        },
    ],
)
def test_tasks_with_the_error_go_on_for_ever(file: JsonObject) -> None:
    assert [one.code for one in findings_of(file) if one.severity == "error"] == ["endless-loop"]
    assert len(run(file, ["a"]).instances) >= MOST_INSTANCES
