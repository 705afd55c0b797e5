"""Random logs in which tasks files change mean the same to both engines, in memory, and to `simulate`."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.contract.places import MemoryPartitionPlace, MemoryPlace, Place
from tests.core.logs_of_conditions import Scenario, scenarios
from tests.core.logs_of_time import numbered_timed_scenario
from tests.core.strategies import (
    APP,
    CHANGING,
    ORDERS,
    OUTCOMES,
    SMALL,
    START_US,
    History,
    configurations,
    histories,
)
from triggerstream.adapters.memory import ManualClock
from triggerstream.core.commands import Command
from triggerstream.core.ids import ConfigHash, JsonObject, SessionId
from triggerstream.core.projections import stored
from triggerstream.core.tasks import NO_CONFIGURATION, AppliedConfiguration
from triggerstream.engine.configure import configuration_record
from triggerstream.engine.queries.worker import InspectedPartition
from triggerstream.engine.replay.simulate import RefusedLine, Simulation
from triggerstream.engine.whole_sessions import whole_session
from triggerstream.wire import commands, tasksfile
from triggerstream.wire import state as states
from triggerstream.wire.answers import to_json
from triggerstream.wire.events import encode
from triggerstream.wire.instants import format_instant
from triggerstream.wire.json import as_object, dumps, loads
from triggerstream.wire.records import Record

EVERY_CONSTRUCT = """{"t": {
    "after": [{"any": ["a", {"trigger": "b", "where": "data.n > 1", "count": 2}]}, {"sequence": ["c", "d"]},
              "e", {"trigger": "f", "as": "g", "key": "data.id", "each": {"of": "e", "list": "data.ids"}}],
    "unless": [{"atLeast": 1, "of": ["x", "y"]}], "unlessFrom": "instance", "appliesTo": "existing",
    "run": "app.t"
}}"""
MANY = 30 if os.environ.get("HYPOTHESIS_PROFILE") == "quick" else 100
LANGUAGE = tasksfile.check(EVERY_CONSTRUCT, name="tasks.json")[0] is not None


@dataclass
class Log:
    """The same log as records, which engines read, and as lines, which `simulate` reads."""

    records: list[Record] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    sessions: dict[SessionId, None] = field(default_factory=dict)
    in_force: ConfigHash | None = None
    number: int = 0
    arrival_us: int = 0
    back_in_time: bool = False

    def apply(self, text: str, arrival_us: int) -> None:
        config = tasksfile.read(text, name="tasks.json")
        record = configuration_record(config, replaces=self.in_force, number=self.number)
        if record is not None:  # else it is in force
            self.in_force, self.number = config.hash, self.number + 1
            self._append(None, record.value, {"apply": text}, arrival_us)

    def event(self, session: SessionId, value: bytes, arrival_us: int) -> None:
        self.sessions.setdefault(session)
        self._append(session.encode(), value, as_object(loads(value), "") | {"session": session}, arrival_us)

    def _append(self, key: bytes | None, value: bytes, line: JsonObject, arrival_us: int) -> None:
        self.arrival_us = arrival_us if self.back_in_time else max(self.arrival_us, arrival_us)
        offset = len(self.records)
        record = Record(partition=0, offset=offset, arrival_us=self.arrival_us, key=key, value=value)
        self.records.append(record)
        self.lines.append(dumps(line | {"received": format_instant(self.arrival_us), "offset": offset}))


@dataclass(frozen=True)
class Outcome:
    """What became of a log: commands in order, all that each session holds and shows, reasons of refusals."""

    commands: list[Command]
    sessions: dict[SessionId, JsonObject]
    refused: list[str]


async def in_a_partition(log: Log) -> Outcome:
    place = MemoryPartitionPlace(ManualClock())
    place.app = APP
    place.partition.log.extend(log.records)
    try:
        sessions = await folded(place, log)
    finally:
        await place.close()
    decided = [commands.decode(value) for value in place.partition.commands]
    return Outcome(
        [one for one in decided if isinstance(one, Command)],
        sessions,
        [letter.reason for letter in place.partition.dead_letters],
    )


async def embedded(log: Log) -> dict[SessionId, JsonObject]:
    """The sessions alone: the outbox keeps no command that is settled."""
    place = MemoryPlace(ManualClock())
    place.app = APP
    place.database.records.extend(log.records)
    try:
        return await folded(place, log)
    finally:
        await place.close()


async def folded(place: Place, log: Log) -> dict[SessionId, JsonObject]:
    """Each session with all its instances, once ``place`` has folded its log."""
    await place.fold()
    found = await place.states()
    known = await found.some([*log.sessions])
    source = found if isinstance(found, InspectedPartition) else place.reader()
    return {
        one: to_json(stored(one, await whole_session(source, one, states.decode(state))))
        for one, state in known.items()
    }


def simulated(log: Log) -> Outcome:
    simulation = Simulation(NO_CONFIGURATION, app=APP, name="log")
    shown = list(simulation.run(log.lines))
    known = {one: to_json(stored(one, state)) for one, state in simulation.sessions() if state is not None}
    return Outcome(
        [one for one in shown if isinstance(one, Command)],
        known,
        [one.reason for one in shown if isinstance(one, RefusedLine)],
    )


def assert_all_agree(log: Log) -> None:
    async def engines() -> tuple[Outcome, dict[SessionId, JsonObject]]:
        return await in_a_partition(log), await embedded(log)

    partition, sessions = asyncio.run(engines())
    found = simulated(log)
    assert found == partition
    assert found.sessions == sessions


@pytest.mark.laws
@given(
    histories(
        kinds=(*CHANGING, *CHANGING, *OUTCOMES, *ORDERS, "close", "touch", "timer"),
        configs=configurations() | configurations(bounds=SMALL),
        back_in_time=False,
    )
)
def test_changing_files_mean_the_same_to_both_engines_and_to_simulate(history: History) -> None:
    texts = {
        entry.config.hash: tasksfile.encode(entry.config)
        for entry in (*history.rules.history, *history.entries)
        if isinstance(entry, AppliedConfiguration)
    }
    # Only files that can be applied.
    assume(all(tasksfile.check(text, name="tasks.json")[0] is not None for text in texts.values()))
    log = Log()
    log.apply(texts[history.rules.current.hash], START_US)
    for entry in history.entries:
        if isinstance(entry, AppliedConfiguration):
            log.apply(texts[entry.hash], entry.arrival_us)
        else:
            value = encode(entry.body, id=entry.id, time_us=entry.time_us, traceparent=entry.traceparent)
            log.event(entry.session, value, entry.arrival_us)
    assert_all_agree(log)


def log_of(scenario: Scenario) -> Log | None:
    """A scenario of the condition language; None if a file of it cannot be applied."""
    log = Log()
    files = [scenario.file, *(line.file for line in scenario.lines if line.file is not None)]
    if any(tasksfile.check(json.dumps(file), name="tasks.json")[0] is None for file in files):
        return None
    log.apply(json.dumps(scenario.file), scenario.lines[0].arrival_us)
    for line in scenario.lines:
        if line.file is not None:
            log.apply(json.dumps(line.file), line.arrival_us)
            continue
        fields = {"type": line.type, "data": line.data, "time": format_instant(line.time_us)}
        value = dumps(fields if line.id is None else {**fields, "id": line.id})
        log.event(SessionId(line.session), value, line.arrival_us)
    return log


@pytest.mark.laws
@pytest.mark.skipif(not LANGUAGE, reason="waits until the reader of tasks files knows conditions")
@settings(
    max_examples=max(settings().max_examples // 2, 10), suppress_health_check=[HealthCheck.filter_too_much]
)
@given(scenarios())
def test_files_of_conditions_mean_the_same_to_both_engines_and_to_simulate(scenario: Scenario) -> None:
    log = log_of(scenario)
    assume(log is not None)
    if log is not None:
        assert_all_agree(log)


@pytest.mark.laws
def test_files_of_time_and_places_mean_the_same_to_both_engines_and_to_simulate() -> None:
    compared = 0
    for n in range(MANY):
        log = log_of(numbered_timed_scenario(n))
        if log is not None:
            assert_all_agree(log)
            compared += 1
    assert compared > MANY // 2
