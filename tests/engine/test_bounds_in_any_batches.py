"""Bounds in bytes, whatever the processor estimates and wherever batches end (docs/semantics.md, R11.5)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import settings

from tests.core.compared import Folding, Reading, event_of
from tests.core.logs_of_conditions import Scenario, numbered_scenario
from tests.core.logs_of_time import numbered_timed_scenario
from tests.core.scenarios import Partition
from tests.core.strategies import APP
from tests.engine.test_processor import SIZES, Log, assert_folded_in_two_passes, command, configured
from triggerstream.core.events import Failed, Finished, Trigger
from triggerstream.core.fold import step
from triggerstream.core.ids import InstanceId, Json, JsonObject, SessionId, TaskName, TriggerName
from triggerstream.core.results import Folded
from triggerstream.core.sizes import changed_bytes, resolved_sizes
from triggerstream.core.tasks import Rules
from triggerstream.engine import sized_session
from triggerstream.wire import state as states
from triggerstream.wire.instants import format_instant
from triggerstream.wire.json import dumps
from triggerstream.wire.records import Record

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
SCENARIOS = 50 if PROFILE == "default" else settings.get_profile(PROFILE).max_examples // 5 or 100
reader = Reading()


def assert_the_same_in_any_batches(records: list[Record], random: Random) -> Partition:
    """Fold records in the two passes of the rules, at once and in batches, and compare the results."""
    single = assert_folded_in_two_passes(records)
    for most in (len(records), 2, 5, 9):
        other, left = Partition(Rules(app=APP)), records
        while left:
            size = most if most == len(records) else random.randint(1, most)
            other.process(left[:size])
            left = left[size:]
        assert other.stored == single.stored
        assert other.values == single.values
        assert other.dead_letters == single.dead_letters
    return single


def records_of_scenario(scenario: Scenario, bounds: dict[str, Json]) -> list[Record]:
    """The log of a scenario of the language, whose files have these bounds."""
    texts = [json.dumps({"$bounds": bounds, **scenario.file})]
    records = [Record(partition=0, offset=0, arrival_us=0, key=None, value=configured(texts[0]))]
    for line in scenario.lines:
        key, value = line.session.encode() or None, b""
        if line.file is None:
            event = {"type": line.type, "data": line.data, "time": format_instant(line.time_us)}
            value = dumps(event if line.id is None else {**event, "id": line.id})
        else:
            value = configured(json.dumps({"$bounds": bounds, **line.file}))
        offset = len(records)
        records.append(Record(partition=0, offset=offset, arrival_us=line.arrival_us, key=key, value=value))
    return records


BOUNDS: tuple[dict[str, Json], ...] = (
    {"stateBytes": 1_000, "resolvedBytes": 300, "commandBytes": 400},
    {"stateBytes": 2_000, "resolvedBytes": 1_000},
    {"stateBytes": 3_000, "resolvedBytes": 100, "decidedBytes": 600},
)
NARROW: tuple[dict[str, Json], ...] = (
    {"unresolvedInstances": 2},
    {"unresolvedInstances": 4, "stateBytes": 2_500},
    {"unresolvedInstances": 3, "resolvedInstances": 1, "positions": 2},
    {"triggerNames": 1, "unresolvedInstances": 5},
)


@pytest.mark.laws
def test_bounds_in_bytes_hold_for_files_of_the_language_in_any_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The slack for what an event itself adds is lowered: it is longer than these states."""
    monkeypatch.setattr(sized_session, "_RECORD_OVERHEAD", 150)
    monkeypatch.setattr(sized_session, "TEXT_BYTES", 100)
    letters = 0
    for n in range(SCENARIOS):
        records = records_of_scenario(numbered_scenario(n), BOUNDS[n % len(BOUNDS)])
        partition = assert_the_same_in_any_batches(records, Random(n))
        letters += len(partition.dead_letters)
    assert letters > SCENARIOS / 10


@pytest.mark.laws
def test_bounds_hold_for_what_time_decides_in_any_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sized_session, "_RECORD_OVERHEAD", 150)
    monkeypatch.setattr(sized_session, "TEXT_BYTES", 100)
    letters = 0
    for n in range(SCENARIOS):
        bounds = (*BOUNDS, *NARROW)[n % (len(BOUNDS) + len(NARROW))]
        records = records_of_scenario(numbered_timed_scenario(n), bounds)
        partition = assert_the_same_in_any_batches(records, Random(n))
        letters += len(partition.dead_letters)
    assert letters > SCENARIOS / 10


@pytest.mark.laws
def test_a_state_grows_by_no_more_than_the_parts_that_an_event_changed_and_the_event() -> None:
    for n in range(SCENARIOS):
        folding = Folding.of(numbered_scenario(n).file, reader)
        for line in numbered_scenario(n).lines:
            if line.file is not None:
                folding.read(line)
                folding.migrate()
                continue
            event = event_of(line)
            known = folding.states.get(event.session)
            folded = step(folding.rules, known, event)
            if not isinstance(folded, Folded):
                continue
            before = 0 if known is None else SIZES.state(known)
            changed = changed_bytes(known, folded.state, folded.touched, SIZES)
            own = 600 + 2 * len(dumps(line.data))
            assert SIZES.state(folded.state) <= before + changed + own, (n, line.offset)
            alone = 0 if known is None else resolved_sizes(known, SIZES)[1]
            now = resolved_sizes(folded.state, SIZES)[1]
            assert now <= alone + (before + changed + own if folded.resolved else 0), (n, line.offset)
            folding.states[event.session] = folded.state


def records_of_events(file: JsonObject, sent: Sequence[tuple[str, float, JsonObject]]) -> list[Record]:
    """A file, and events of one session: name, event time in seconds, data."""
    records = [Record(partition=0, offset=0, arrival_us=0, key=None, value=configured(json.dumps(file)))]
    for name, time_s, data in sent:
        event = {"type": name, "data": data, "time": format_instant(round(time_s * 1_000_000))}
        offset = len(records)
        records.append(Record(partition=0, offset=offset, arrival_us=0, key=b"s", value=dumps(event)))
    return records


def test_an_event_after_which_every_leaf_remembers_an_earlier_one_is_within_the_bound_of_the_state() -> None:
    leaves: Json = [
        {"trigger": "a", "as": "l" + "x" * 180 + str(n), "where": "data.x == 1"} for n in range(20)
    ]
    remembering: JsonObject = {"after": [{"all": leaves}, "go"], "andEvery": "go", "run": "m.t"}
    file: JsonObject = {"$bounds": {"stateBytes": 50_000}, **{f"t{n}": remembering for n in range(10)}}
    sent: list[tuple[str, float, JsonObject]] = [
        ("a", 0, {"x": 1}),
        ("a", 0, {"x": 0}),
        ("b", 0, {}),
        ("c", 0, {}),
    ]
    partition = assert_the_same_in_any_batches(records_of_events(file, sent), Random(1))
    assert [letter.record.offset for letter in partition.dead_letters] == [2]


def test_an_event_that_meets_every_leaf_of_a_sequence_is_within_the_bound_of_the_state() -> None:
    """The first events come last: then all others are in order."""
    leaves, count = 40, 50
    sequence: Json = [{"trigger": f"s{n}", "count": count} for n in range(leaves)]
    task: JsonObject = {"after": [{"sequence": sequence}, "go"], "run": "m.t"}
    times = [(n, k) for n in [*range(1, leaves), 0] for k in range(count)]
    sent: list[tuple[str, float, JsonObject]] = [(f"s{n}", 100 * n + k, {}) for n, k in times]
    whole = Partition(Rules(app=APP))
    whole.process(records_of_events({"t": task}, sent))
    bounds: JsonObject = {"stateBytes": SIZES.state(whole.state("s")) - 50}
    records = records_of_events({"$bounds": bounds, "t": task}, [*sent, ("x", 0, {})])
    for sizes in ([1, 1], [2]):
        partition = Partition(Rules(app=APP))
        partition.process(records[:-2])
        last = records[-3].offset
        for size in sizes:
            left = [record for record in records if record.offset > last]
            partition.process(left[:size])
            last += size
        assert [letter.record.offset for letter in partition.dead_letters] == [len(sent)]


def test_commands_that_timers_decide_are_within_the_bound_of_the_state() -> None:
    """A file of lists of triggers: a hundred retries are due at one event."""
    tasks: JsonObject = {
        f"t{n}": {"after": ["a"], "run": "m.t", "retry": {"max": 1, "backoff": "1h"}} for n in range(100)
    }
    waiting = log_of_failures(tasks).folded().states[SessionId("s")].state
    bound = SIZES.state(states.decode(waiting)) + 12_000
    log = log_of_failures({"$bounds": {"stateBytes": bound}, **tasks})
    log.fire("b")
    log.fire("c", at=7_200)
    partition = Partition(Rules(app=APP))
    partition.process(log.records)
    assert SIZES.state(partition.state("s")) <= bound
    assert_folded_in_two_passes(log.records)


def log_of_failures(file: JsonObject) -> Log:
    log = Log(file)
    log.tell(Trigger(name=TriggerName("a"), data={}))
    for name in file:
        if not name.startswith("$"):
            log.tell(Failed(command=command(task=name), instance=InstanceId(f"{name}#0"), error=""))
    return log


def test_an_event_that_resolved_instances_captured_counts_for_their_bound_once_nothing_else_needs_it() -> (
    None
):
    """A file of lists of triggers: the event is the latest of its trigger when the instance is resolved."""
    bounds: JsonObject = {"resolvedBytes": 9_000}
    log = Log({"$bounds": bounds, "t": {"after": [], "andEvery": "a", "run": "m.t"}})
    for n in range(2):
        log.fire("a", text="x" * 5_000)
        log.tell(Finished(command=command(n), instance=InstanceId(f"t#{n}"), result=None))
    log.fire("a")
    partition = assert_the_same_in_any_batches(log.records, Random(1))
    assert list(partition.state("s").tasks[TaskName("t")].resolved) == [1]


def test_resolved_instances_that_are_stored_without_names_count_with_them() -> None:
    """They are longer than their stored form, and new events leave the earlier ones to them alone."""
    names: list[str] = [f"module{n}Received" for n in range(60)]
    tasks: JsonObject = {f"t{n}": {"after": [*names], "run": "m.t"} for n in range(12)}

    def log_within(bounds: JsonObject) -> Log:
        log = Log({"$bounds": bounds, **tasks})
        for name in names:
            log.fire(name)
        for task in tasks:
            log.tell(Finished(command=command(task=task), instance=InstanceId(f"{task}#0"), result=None))
        return log

    stored = log_within({}).folded().states[SessionId("s")].state
    alone, once_alone = resolved_sizes(states.decode(stored), SIZES)
    log = log_within({"resolvedBytes": alone + (once_alone - alone) // 3})
    for name in names:
        log.fire(name)
    partition = assert_the_same_in_any_batches(log.records, Random(1))
    assert sum(len(record.resolved) for record in partition.state("s").tasks.values()) < len(tasks)


TIMED_BOUNDS: list[JsonObject] = [
    {"stateBytes": 1_500},
    {"stateBytes": 2_100},
    {"decidedBytes": 600, "commandBytes": 500, "unresolvedInstances": 3},
    {"unresolvedInstances": 4},
]


@pytest.mark.laws
@pytest.mark.parametrize("bounds", TIMED_BOUNDS, ids=str)
def test_what_time_decides_is_within_bounds_and_the_same_in_any_batches(bounds: JsonObject) -> None:
    for n in range(SCENARIOS // 2):  # with each of these bounds
        records = records_of_scenario(numbered_timed_scenario(n), bounds)
        assert_the_same_in_any_batches(records, Random(n))


def test_a_timeout_that_fires_before_a_file_that_was_missed_is_met_is_left_out_alone() -> None:
    """The draft goes on with copies where it may have to return, and the clock is that of the file."""
    deadline: JsonObject = {"after": ["a", "b"], "deadline": "10s", "run": "m.t"}
    follower: JsonObject = {"after": ["t.timeout"], "run": "m.u"}
    file: JsonObject = {"$bounds": {"unresolvedInstances": 1}, "t": deadline, "u": follower}
    log = Log(file)
    log.fire("a")
    log.apply({**file, "v": {"after": ["z"], "run": "m.v"}}, at=60)
    log.fire("c", at=50)
    partition = assert_folded_in_two_passes(log.records)
    state = partition.state("s")
    assert state.clock_us == max(record.arrival_us for record in log.records)
    assert [name for name, record in state.tasks.items() if record.open] == ["u"]
