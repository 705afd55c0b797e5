"""`Backtest`: the same events under two tasks files, and the outcomes that the new one gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import convert

from tests.core.changing_files import FILE_BYTES, file_of
from tests.core.logs_of_conditions import Scenario, scenarios
from tests.core.strategies import (
    APP,
    BUSY,
    ENDINGS,
    SMALL,
    TIGHT,
    Dice,
    History,
    configurations,
    histories,
)
from triggerstream.core.commands import Command
from triggerstream.core.events import TYPES, Body, Cancel, Failed, Finished, Outcome, Started, Trigger
from triggerstream.core.events import Event as CoreEvent
from triggerstream.core.ids import (
    InstanceId,
    Json,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
    split_instance_id,
)
from triggerstream.core.tasks import Configuration
from triggerstream.engine.replay.backtest import OWN_COMMAND, Backtest, SizedEvent
from triggerstream.engine.replay.backtest_counts import BacktestCounts, Kind, TaskCounts
from triggerstream.engine.replay.file_differences import differing_triggers
from triggerstream.engine.replay.session_logs import Choice, SessionLogs
from triggerstream.engine.replay.simulate import Simulation
from triggerstream.wire import tasksfile
from triggerstream.wire.events import encode
from triggerstream.wire.instants import format_instant
from triggerstream.wire.json import as_object, dumps, loads
from triggerstream.wire.records import Record

S = SessionId("s")
SECOND = 1_000_000


def read(file: dict[str, Any]) -> Configuration:
    return tasksfile.read(dumps(file), name="tasks.json")


def task(*after: object, run: str = "app.t", **keys: object) -> dict[str, Any]:
    return {"after": [*after], "run": run, **keys}


def fired(name: str, **data: Json) -> Trigger:
    return Trigger(name=TriggerName(name), data=data)


def of(kind: type[Outcome], instance: str, **fields: Json) -> Outcome:
    parts = split_instance_id(instance)
    assert parts is not None
    command = command_id(APP, S, generation=0, task=parts[0], number=parts[1])
    made: Outcome = convert({"instance": instance, "command": command, **fields}, kind)
    return made


def log(*bodies: Body | tuple[int, Body]) -> list[SizedEvent]:
    """Events of one session: each a second after the one before, or at the second named."""
    found: list[SizedEvent] = []
    at_s = 0
    for offset, item in enumerate(bodies):
        at_s, body = item if isinstance(item, tuple) else (at_s + 1, item)
        event = CoreEvent(
            session=S,
            offset=offset,
            arrival_us=at_s * SECOND,
            time_us=at_s * SECOND,
            type=body.name if isinstance(body, Trigger) else TYPES[type(body)],
            body=body,
        )
        found.append((event, 100))
    return found


def compared(
    old: dict[str, Any], new: dict[str, Any], *bodies: Body | tuple[int, Body], until_s: int | None = None
) -> BacktestCounts:
    until_us = None if until_s is None else until_s * SECOND
    backtest = Backtest(read(old), read(new), app=APP, until_us=until_us)
    backtest.compare(S, log(*bodies))
    return backtest.counts


def kinds(counts: TaskCounts) -> dict[str, int]:
    return {kind.value: number for kind, number in counts.kinds.items() if number}


def by_task(counts: BacktestCounts) -> dict[str, dict[str, int]]:
    return {name: kinds(counts.tasks[name]) for name in sorted(counts.tasks) if kinds(counts.tasks[name])}


def commands_of(counts: BacktestCounts, task_name: str, kind: Kind) -> list[tuple[JsonObject, JsonObject]]:
    """The kwargs of each example, under both files."""
    return [
        (one.old.kwargs if one.old else {}, one.new.kwargs if one.new else {})
        for one in counts.tasks[TaskName(task_name)].examples[kind]
    ]


# ---- what differs -------------------------------------------------------------------------------


def test_a_command_that_only_the_new_file_decides_is_added_and_assumed_to_finish() -> None:
    counts = compared({"t": task("a", "b")}, {"t": task("a", "b"), "u": task("a")}, fired("a"), fired("b"))
    assert by_task(counts) == {"u": {"added": 1}}
    assert counts.tasks[TaskName("u")].assumed == 1
    assert counts.tasks[TaskName("t")].assumed == 0
    assert (counts.sessions, counts.differing, counts.events) == (1, 1, 2)
    (example,) = counts.tasks[TaskName("u")].examples[Kind.ADDED]
    assert (example.offset, example.old, example.command.instance) == (0, None, "u#0")


def test_a_command_that_only_the_old_file_decides_is_removed_and_its_outcome_dropped() -> None:
    finished = of(Finished, "u#0")
    counts = compared({"t": task("a"), "u": task("a")}, {"t": task("a")}, fired("a"), finished)
    assert by_task(counts) == {"u": {"removed": 1}}
    assert counts.dropped == 1
    assert counts.tasks[TaskName("u")].examples[Kind.REMOVED][0].new is None


def test_other_kwargs_change_a_command_and_what_follows_from_it() -> None:
    old = {"t": task("a", withParams={"a": {"p": 1}}), "next": task("t")}
    new = {"t": task("a", withParams={"a": {"p": 2}}), "next": task("t")}
    counts = compared(old, new, fired("a"), of(Finished, "t#0", result={"r": 1}))
    assert by_task(counts) == {"next": {"changed": 1}, "t": {"changed": 1}}
    assert commands_of(counts, "t", Kind.CHANGED) == [({"a": {"p": 1}}, {"a": {"p": 2}})]
    # With other arguments it is not known how it ends: it finishes at once with an empty result.
    assert commands_of(counts, "next", Kind.CHANGED) == [({"t": {"r": 1}}, {"t": {}})]
    assert counts.tasks[TaskName("t")].assumed == 1
    assert counts.dropped == 1


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (0, False)])
def test_kwargs_are_compared_as_json(one: object, other: object) -> None:
    old, new = ({"t": task("a", withParams={"a": {"p": value}})} for value in (one, other))
    assert by_task(compared(old, new, fired("a"))) == {"t": {"changed": 1}}
    assert not compared(old, old, fired("a")).differs


@pytest.mark.parametrize(
    "changed", [{"run": "app.other"}, {"queue": "slow"}, {"priority": 0}, {"expires": "1h"}]
)
def test_another_run_or_route_changes_a_command_that_ends_as_before(changed: JsonObject) -> None:
    old = {"t": task("a"), "next": task("t")}
    new = {"t": task("a") | changed, "next": task("t")}
    counts = compared(old, new, fired("a"), of(Finished, "t#0", result={"r": 1}))
    assert by_task(counts) == {"t": {"changed": 1}}
    assert counts.tasks[TaskName("t")].assumed == 0
    (example,) = counts.tasks[TaskName("t")].examples[Kind.CHANGED]
    assert len(example.differs) == 1


# ---- outcomes -----------------------------------------------------------------------------------

RETRIED = {"t": task("a", retry={"max": 1}), "next": task("t")}
RETRIED_LATER = {"t": task("a", retry={"max": 1, "backoff": "1h"}), "next": task("t")}
FAILED_ONCE = (
    fired("a"),
    of(Failed, "t#0", error="no luck"),
    of(Started, "t#1"),
    of(Finished, "t#1", result={"r": 1}),
)


def test_an_outcome_moves_to_right_after_a_command_that_is_decided_later() -> None:
    counts = compared(RETRIED, RETRIED_LATER, *FAILED_ONCE, (7_200, fired("x")))
    assert by_task(counts) == {"next": {"later": 1}, "t": {"later": 1}}
    assert (counts.moved, counts.dropped) == (2, 0)
    assert counts.tasks[TaskName("t")].assumed == 0
    # At the due time of the retry, not at the event that lets the time pass.
    (next_one,) = counts.tasks[TaskName("next")].examples[Kind.LATER]
    assert next_one.new is not None
    assert next_one.new.decided_us == (2 + 3_600) * SECOND
    assert next_one.new.kwargs == {"t": {"r": 1}}


def test_an_outcome_stands_where_it_stood_if_the_command_is_decided_earlier() -> None:
    log_of_retry = (fired("a"), of(Failed, "t#0"), (7_200, fired("x")), of(Finished, "t#1", result={"r": 1}))
    counts = compared(RETRIED_LATER, RETRIED, *log_of_retry)
    assert by_task(counts) == {"t": {"earlier": 1}}
    assert (counts.moved, counts.dropped) == (0, 0)


def test_a_retry_whose_time_does_not_come_in_the_history_is_removed() -> None:
    counts = compared(RETRIED, RETRIED_LATER, *FAILED_ONCE)
    assert by_task(counts) == {"next": {"removed": 1}, "t": {"removed": 1}}
    assert counts.dropped == 2
    later = compared(RETRIED, RETRIED_LATER, *FAILED_ONCE, until_s=7_200)
    assert by_task(later) == {"next": {"later": 1}, "t": {"later": 1}}


def test_what_finishes_at_once_does_so_before_later_events() -> None:
    following = {"next": task("t", unless=["x"])}
    failing = {"t": task("b", retry={"max": 1, "backoff": "1h"})} | following
    # t#0 fails in the history, t#1 is the new file's own: due an hour later, long before x.
    counts = compared(failing, failing, fired("b"), of(Failed, "t#0"), (9_000, fired("x")))
    assert not counts.differs
    counts = compared(
        {"t": task("b")} | following,
        failing,
        fired("b"),
        of(Failed, "t#0"),
        (9_000, fired("x")),
    )
    assert by_task(counts) == {"next": {"added": 1}, "t": {"added": 1}}


def test_a_delay_decides_later_and_what_follows_is_in_time_for_later_events() -> None:
    new = {"t": task("a", delay="1h"), "next": task("t", unless=["x"])}
    old = {**new, "t": task("a")}
    counts = compared(old, new, fired("a"), of(Finished, "t#0", result={"r": 1}), (7_200, fired("x")))
    assert by_task(counts) == {"next": {"later": 1}, "t": {"later": 1}}
    assert counts.moved == 1


def test_a_deadline_fires_at_its_due_time() -> None:
    new = {"t": task("a", "b", deadline="1h"), "late": task("t.timeout", unless=["x"])}
    counts = compared({"t": task("a")}, new, fired("a"), of(Finished, "t#0"), (7_200, fired("x")))
    assert by_task(counts) == {"late": {"added": 1}, "t": {"removed": 1}}
    (example,) = counts.tasks[TaskName("late")].examples[Kind.ADDED]
    assert example.command.decided_us == (1 + 3_600) * SECOND


def test_rounds_of_a_repeat_finish_at_once_each_at_its_time() -> None:
    new = {"t": task("a", repeat={"every": "1h", "max": 3}), "next": task(andEvery="t")}
    counts = compared({}, new, fired("a"), (36_000, fired("x")))
    assert by_task(counts) == {"next": {"added": 4}, "t": {"added": 4}}
    times = [one.command.decided_us for one in counts.tasks[TaskName("next")].examples[Kind.ADDED]]
    assert times == [(1 + 3_600 * n) * SECOND for n in range(4)]


def test_commands_that_finish_at_once_make_others_follow() -> None:
    new = {"t": task("a"), "u": task("t"), "v": task("u")}
    counts = compared({}, new, fired("a"))
    assert by_task(counts) == {"t": {"added": 1}, "u": {"added": 1}, "v": {"added": 1}}
    assert sum(one.assumed for one in counts.tasks.values()) == 3


def test_outcomes_of_no_command_of_the_old_file_are_counted() -> None:
    counts = compared({"t": task("a")}, {"t": task("a")}, fired("b"), of(Finished, "t#0"), fired("a"))
    assert not counts.differs
    assert counts.strays == 1


def test_an_outcome_before_its_command_belongs_to_none() -> None:
    """Another file was in force when it was reported."""
    chain = {"t": task("a"), "next": task("t")}
    counts = compared(
        {"t": task("a", "b"), "next": task("t")}, chain, fired("a"), of(Finished, "t#0"), fired("b")
    )
    assert counts.strays == 1
    assert counts.tasks[TaskName("t")].assumed == 1


def test_an_outcome_without_a_command_is_one_of_the_instance() -> None:
    finished = Finished(instance=InstanceId("t#0"), command=OWN_COMMAND, result={"r": 1})
    chain = {"t": task("a"), "next": task("t")}
    counts = compared(chain, chain, fired("a"), finished)
    assert counts.strays == 0
    assert counts.tasks[TaskName("next")].new == 1


def test_orders_apply_as_they_stand() -> None:
    old = {"t": task("a", "b"), "u": task("a")}
    counts = compared(
        old, {**old, "t": task("a")}, fired("a"), Cancel(instance=InstanceId("t#0")), fired("b")
    )
    # Under the old file the instance waits, and is cancelled; under the new one it has finished.
    assert by_task(counts) == {"t": {"added": 1}}


def test_a_session_may_begin_in_a_later_generation() -> None:
    command = command_id(APP, S, generation=3, task=TaskName("t"), number=0)
    finished = Finished(instance=InstanceId("t#0"), command=command)
    chain = read({"t": task("a"), "next": task("t")})
    backtest = Backtest(chain, chain, app=APP)
    backtest.compare(S, log(fired("a"), finished), generation=3)
    assert backtest.counts.strays == 0
    assert backtest.counts.tasks[TaskName("next")].new == 1


def test_triggers_beyond_a_bound_are_counted() -> None:
    new = {"$bounds": {"triggerNames": 1}, "t": task("a")}
    counts = compared({"t": task("a")}, new, fired("x"), fired("y"), fired("a"))
    assert (counts.rejected_old, counts.rejected_new) == (0, 1)
    assert not counts.differs


def test_the_same_examples_are_kept_however_sessions_are_split() -> None:
    together, parts = Backtest(read({}), read({"t": task("a")}), app=APP), BacktestCounts()
    for n in reversed(range(40)):
        session = SessionId(f"s{n}")
        event = CoreEvent(
            session=session, offset=n, arrival_us=n % 3, time_us=0, type="a", body=fired("a", n=n)
        )
        alone = Backtest(read({}), read({"t": task("a")}), app=APP)
        alone.compare(session, [(event, 10)])
        together.compare(session, [(event, 10)])
        parts.add(alone.counts)
    assert parts == together.counts
    examples = parts.tasks[TaskName("t")].examples[Kind.ADDED]
    assert [one.command.session for one in examples] == ["s0", "s12", "s15", "s18", "s21"]


# ---- laws ---------------------------------------------------------------------------------------


def sessions_of(events: Sequence[CoreEvent]) -> dict[SessionId, list[SizedEvent]]:
    found: dict[SessionId, list[SizedEvent]] = {}
    for event in events:
        found.setdefault(event.session, []).append((event, len(encode(event.body))))
    return found


def run(
    old: Configuration, new: Configuration, events: Sequence[CoreEvent], *, fold_twice: bool = True
) -> BacktestCounts:
    backtest = Backtest(old, new, app=APP, fold_twice=fold_twice)
    for session, own in sessions_of(events).items():
        backtest.compare(session, own)
    return backtest.counts


WITHOUT_TIMERS = ("fire",) * 16 + ("started", "finished", "finished", "skipped", "revoked", "resend", "skip")


@pytest.mark.laws
@given(histories(kinds=(*BUSY, *ENDINGS), configs=configurations(bounds=(*TIGHT, TIGHT[-1]))))
def test_a_file_differs_in_nothing_from_itself(history: History) -> None:
    config = history.rules.current.config
    counts = run(config, config, history.events())
    assert not counts.differs
    assert (counts.dropped, counts.moved) == (0, 0)
    assert all(one.assumed == 0 for one in counts.tasks.values())


@pytest.mark.laws
@given(histories(kinds=WITHOUT_TIMERS, configs=configurations(bounds=SMALL, retry=False)))
def test_a_file_differs_in_nothing_from_itself_within_bounds_in_bytes(history: History) -> None:
    config = history.rules.current.config
    assert not run(config, config, history.events()).differs


@pytest.mark.laws
@given(scenarios())
def test_a_file_of_the_language_differs_in_nothing_from_itself(drawn: Scenario) -> None:
    config = read(drawn.file)
    logs = SessionLogs(Choice(), app=APP)
    for offset, line in enumerate(drawn.lines):
        if line.file is None:
            value = dumps({"type": line.type, "data": line.data} | ({"id": line.id} if line.id else {}))
            logs.add(
                Record(
                    partition=0,
                    offset=offset,
                    arrival_us=line.arrival_us,
                    key=line.session.encode(),
                    value=value,
                )
            )
    backtest = Backtest(config, config, app=APP, fold_twice=True)
    logs.fold(backtest)
    assert not backtest.counts.differs


@pytest.mark.laws
@settings(deadline=None)
@given(
    histories(kinds=("fire",), configs=configurations(retry=False), back_in_time=False),
    st.binary(min_size=FILE_BYTES, max_size=FILE_BYTES),
)
def test_all_commands_are_added_to_an_empty_file_as_simulate_decides_them(
    history: History, drawn: bytes
) -> None:
    file = {name: {**one, "retry": {"max": 0}} for name, one in file_of(Dice(drawn)).items()}
    config, _ = tasksfile.check(dumps(file), name="tasks.json")
    if config is None:
        return
    simulation = Simulation(config, app=APP, name="events", assume_finished=True)
    lines = []
    for event in history.events():
        fields = as_object(loads(encode(event.body, id=event.id)), "")
        fields["time"] = format_instant(event.time_us)
        fields |= {"session": event.session, "received": format_instant(event.arrival_us)}
        lines.append(dumps(fields))
    expected = [one for one in simulation.run(lines) if isinstance(one, Command)]
    backtest = Backtest(read({}), config, app=APP)
    for session, own in sessions_of(history.events()).items():
        backtest.compare(session, own)
    counts = backtest.counts
    assert {name: one.kinds[Kind.ADDED] for name, one in counts.tasks.items()} == {
        name: sum(one.task == name for one in expected) for name in {one.task for one in expected}
    }
    by_id = {one.id: one for one in expected}
    for one in counts.tasks.values():
        for example in one.examples[Kind.ADDED]:
            command = example.command
            assert command.kwargs == by_id[command.id].kwargs
            assert command.decided_us == by_id[command.id].decided_us


@pytest.mark.laws
@given(
    histories(kinds=(*BUSY, *ENDINGS), configs=configurations(every=False, bounds=TIGHT)),
    configurations(every=False, bounds=TIGHT),
    st.integers(0, 3),
)
def test_a_session_that_both_files_fold_to_the_same_need_not_be_folded_twice(
    history: History, other: Configuration, kept: int
) -> None:
    old = history.rules.current.config
    new = replace(other, tasks=(*old.tasks[:kept], *other.tasks), bounds=old.bounds)
    names = {task.name for task in new.tasks}
    if len(names) < len(new.tasks) or has_ring(new):
        return
    events = history.events()
    once, twice = run(old, new, events, fold_twice=False), run(old, new, events)
    assert once.pending <= twice.pending  # a session in which the files cannot differ does not count
    once.pending = twice.pending
    assert once == twice


def has_ring(config: Configuration) -> bool:
    """True if tasks that finish at once could start one another for ever, which no usable file allows."""
    waits = {task.name: {*task.needs} & {*config.by_name} for task in config.tasks}
    while waits:
        ready = [name for name, needs in waits.items() if not needs & waits.keys()]
        if not ready:
            return True
        for name in ready:
            del waits[name]
    return False


def triggers_between(old: dict[str, Any], new: dict[str, Any]) -> set[str] | None:
    found = differing_triggers(read(old), read(new))
    return None if found is None else {*found}


def test_triggers_differ_that_a_changed_task_waits_for_or_that_lead_to_it() -> None:
    old = {"t": task("a"), "u": task("t", "b"), "v": task("c", unless=["d"])}
    assert triggers_between(old, old) == set()
    changed = {**old, "u": task("t", "b", run="app.other")}
    assert triggers_between(old, changed) == {"a", "b", "t", "t.timeout", "u", "u.timeout"}
    assert triggers_between(old, {**old, "w": task("d")}) == {"c", "d", "v", "v.timeout", "w", "w.timeout"}
    assert triggers_between(old, {**old, "w": task("e")}) == {"e", "w", "w.timeout"}
    assert triggers_between({**old, "w": task("e")}, old) == {"e", "w", "w.timeout"}


def test_every_trigger_may_differ_with_other_bounds_or_another_order() -> None:
    old = {"t": task("a"), "u": task("b")}
    assert triggers_between(old, {"u": task("b"), "t": task("a")}) is None
    assert triggers_between(old, {**old, "$bounds": {"triggerNames": 7}}) is None
