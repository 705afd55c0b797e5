"""What `sessions export` prints simulates to the state that the engine has, for every app and generation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.contract.places import KAFKA, MemoryPartitionPlace, MemoryPlace, Place, place_of
from tests.core.logs_of_conditions import Scenario, scenarios
from tests.core.strategies import (
    APP,
    BUSY,
    CHANGING,
    ENDINGS,
    SMALL,
    History,
    configurations,
    histories,
    rules_of,
)
from tests.equivalence.test_simulate import Log, folded, log_of
from triggerstream.adapters.memory import ManualClock, MemoryDatabase, MemoryReader
from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.events import (
    Body,
    Cancel,
    Close,
    Erase,
    Failed,
    Finished,
    Replay,
    Started,
    Trigger,
)
from triggerstream.core.ids import AppId, InstanceId, JsonObject, SessionId, TriggerName
from triggerstream.core.projections import stored
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import NO_CONFIGURATION, AppliedConfiguration, Configuration
from triggerstream.engine.checkpoint import Stored
from triggerstream.engine.ports import Reader
from triggerstream.engine.processor import Processor
from triggerstream.engine.queries.history import Unread, history
from triggerstream.engine.replay.simulate import RefusedLine, Simulation, StrayOutcome
from triggerstream.engine.rows import ConfigurationText
from triggerstream.engine.whole_sessions import add_retired
from triggerstream.settings import DEFAULT_APP
from triggerstream.wire import commands, tasksfile
from triggerstream.wire import state as wire
from triggerstream.wire.answers import to_json
from triggerstream.wire.event_lines import SourceLocation
from triggerstream.wire.events import encode
from triggerstream.wire.json import as_object, dumps, loads
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.retired import RetiredKey

TEXT = """{
    "t": {"after": ["a"], "andEvery": "b", "run": "app.t", "retry": {"max": 2, "backoff": "1h"}},
    "next": {"after": ["t"], "run": "app.next"}
}"""
TASKS = tasksfile.read(TEXT, name="tasks.json")
S = SessionId("s")


def essence(session: SessionId, state: SessionState | None) -> JsonObject | None:
    """All that a session holds and shows."""
    return None if state is None else to_json(stored(session, state))


async def exported(reader: Reader, session: SessionId, app: AppId, *, files: bool = False) -> list[bytes]:
    lines = history(reader, session, app=app, files=files)
    return [dumps(line) async for line in lines if not isinstance(line, Unread)]


def simulated(
    config: Configuration, lines: Sequence[bytes]
) -> tuple[dict[SessionId, SessionState | None], list[RefusedLine | StrayOutcome]]:
    """Each session's state, and what the simulation reports; the app is that of the lines."""
    simulation = Simulation(config, app=AppId(DEFAULT_APP), name="log")
    reported = [shown for shown in simulation.run(lines) if not isinstance(shown, Command)]
    return dict(simulation.sessions()), reported


@pytest.mark.laws
@given(histories(kinds=(*BUSY, *ENDINGS, "touch", "timer"), configs=configurations(bounds=SMALL)))
def test_an_exported_session_simulates_to_the_state_that_was_stored(history_: History) -> None:
    config = history_.rules.current.config
    text = tasksfile.encode(config)
    assume(tasksfile.check(text, name="tasks.json")[0] is not None)  # a file that can be applied
    database = MemoryDatabase()
    for event in history_.events():
        value = encode(event.body, id=event.id, time_us=event.time_us, traceparent=event.traceparent)
        record = Record(
            partition=0,
            offset=event.offset,
            arrival_us=event.arrival_us,
            key=event.session.encode(),
            value=value,
        )
        database.records.append(record)
    retired: dict[RetiredKey, bytes] = {}
    if database.records:
        checkpoint = Processor(app=APP).process(history_.rules, database.records, lambda _: None)
        database.sessions.update(checkpoint.states)
        retired = {key: entry for key, entry in checkpoint.retired.items() if entry is not None}
    database.configurations = (ConfigurationText(offset=-1, arrival_us=0, hash=config.hash, text=text),)

    async def export() -> list[bytes]:
        reader = MemoryReader(database)
        sessions = {event.session for event in history_.events()}
        return [line for one in sorted(sessions) for line in await exported(reader, one, APP)]

    found, _ = simulated(config, asyncio.run(export()))
    assert {one: essence(one, state) for one, state in found.items() if state is not None} == {
        one: essence(one, add_retired(one, wire.decode(row.state), retired))
        for one, row in database.sessions.items()
    }


async def states_of_exports(
    reader: Reader, sessions: Iterable[SessionId], app: AppId
) -> dict[SessionId, JsonObject | None]:
    """What each session holds in a simulation of its export, with its tasks files."""
    found: dict[SessionId, JsonObject | None] = {}
    for session in sessions:
        lines = await exported(reader, session, app, files=True)
        after, _ = simulated(NO_CONFIGURATION, lines)  # random logs also have outcomes of no command
        found |= {one: essence(one, state) for one, state in after.items()}
    return found


async def assert_exports_give_the_sessions_of_both_engines(log: Log) -> None:
    embedded = MemoryPlace(ManualClock())
    embedded.app = APP
    embedded.database.records.extend(log.records)
    partitioned = MemoryPartitionPlace(ManualClock())
    partitioned.app = APP
    partitioned.partition.log.extend(log.records)
    try:
        sessions = await folded(embedded, log)
        assert await states_of_exports(embedded.reader(), sessions, APP) == sessions
        sessions = await folded(partitioned, log)
        known = await (await partitioned.states()).some([*log.sessions])
        rows = {one: Stored(state=state, due_us=None, config=-1) for one, state in known.items()}
        await partitioned.stop()
        # Touches that the engine appended after it had folded the log are in no state yet.
        del partitioned.partition.log[len(log.records) :]
        assert await states_of_exports(partitioned.reader_with(rows), sessions, APP) == sessions
    finally:
        await embedded.close()
        await partitioned.close()


@pytest.mark.laws
@settings(
    max_examples=max(settings().max_examples // 2, 10), suppress_health_check=[HealthCheck.filter_too_much]
)
@given(scenarios())
def test_exports_with_their_tasks_files_simulate_to_the_sessions_of_both_engines(scenario: Scenario) -> None:
    log = log_of(scenario)
    assume(log is not None)
    if log is not None:
        asyncio.run(assert_exports_give_the_sessions_of_both_engines(log))


@pytest.mark.laws
@given(
    histories(
        kinds=(*CHANGING, *CHANGING, *BUSY, *ENDINGS, "touch", "timer"),
        configs=configurations(bounds=SMALL) | configurations(),
        back_in_time=True,
    )
)
def test_exports_simulate_to_the_sessions_also_where_arrivals_go_back(history_: History) -> None:
    log = Log(back_in_time=True)
    for entry in (history_.rules.current, *history_.entries):
        if isinstance(entry, AppliedConfiguration):
            text = tasksfile.encode(entry.config)
            assume(tasksfile.check(text, name="tasks.json")[0] is not None)
            log.apply(text, entry.arrival_us)
        else:
            value = encode(entry.body, id=entry.id, time_us=entry.time_us, traceparent=entry.traceparent)
            log.event(entry.session, value, entry.arrival_us)
    asyncio.run(assert_exports_give_the_sessions_of_both_engines(log))


class Life:
    """A session that gets one event at a time, each folded before the next."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.seen = 0

    async def tell(self, *bodies: Body) -> None:
        await self.place.log.append([NewRecord(key=S.encode(), value=encode(body)) for body in bodies])
        await self.place.fold()

    async def command(self) -> Command:
        """The command that was decided last."""
        found = commands.decode((await self.place.decided())[-1])
        assert isinstance(found, Command)
        return found

    async def live(self) -> None:
        """Two generations and a half, with every kind of outcome and order."""
        await self.tell(fire("a"), fire("b", n=1))
        first = await self.command()
        await self.tell(Started(instance=first.instance, command=first.id))
        await self.tell(Failed(instance=first.instance, command=first.id, error="OSError: away"))
        await self.tell(Cancel(instance=InstanceId("t#1"), reason="enough", by="ada"))
        await self.tell(Close(generation=0), fire("a"), fire("b", n=2))
        second = await self.command()
        await self.tell(Finished(instance=second.instance, command=second.id, result={"n": 1}))
        await self.tell(Erase(generation=1), fire("b", n=3), fire("a"))
        third = await self.command()
        await self.tell(Started(instance=third.instance, command=third.id))
        await self.tell(Replay(instance=third.instance, force=True))
        fourth = await self.command()
        await self.tell(Finished(instance=fourth.instance, command=fourth.id, result="done"))


def fire(name: str, **data: int) -> Trigger:
    return Trigger(name=TriggerName(name), data=dict(data))


@pytest.fixture(params=["memory", "sqlite", KAFKA])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    made = await place_of(request.param, request, tmp_path, ManualClock())
    yield made
    await made.close()


async def test_an_export_of_each_engine_simulates_to_the_state_that_it_has(place: Place) -> None:
    await place.configure(TEXT)
    await Life(place).live()
    reader = place.reader()
    row = await reader.session(S)
    assert row is not None
    lines = await exported(reader, S, place.app)
    found, reported = simulated(TASKS, lines)
    assert (essence(S, found[S]), reported) == (essence(S, row.known()), [])
    assert row.known().generation == 2
    assert "finished" in str(essence(S, row.known()))


async def test_an_export_of_each_engine_has_the_files_under_which_its_events_came(place: Place) -> None:
    with_where = """{ // only large ones
        "t": {"after": [{"trigger": "a", "where": "data.n > 1"}], "andEvery": "b", "run": "app.t"},
        "next": {"after": ["b"], "run": "app.next", "appliesTo": "existing"}
    }"""
    await place.configure('{"before": {"after": ["x"], "run": "app.x"}}')
    await place.configure(TEXT)
    life = Life(place)
    await life.tell(fire("a"))
    await place.configure(with_where)
    await life.tell(fire("b", n=1), fire("a", n=2))
    first = await life.command()
    await life.tell(Finished(instance=first.instance, command=first.id, result={"n": 1}))
    await place.configure(TEXT)
    reader = place.reader()
    row = await reader.session(S)
    assert row is not None
    lines = await exported(reader, S, place.app, files=True)
    rows = [as_object(loads(line), "") for line in lines]
    # In force at the first event, and from then to the last one.
    assert [row["apply"] for row in rows if "apply" in row] == [TEXT, with_where]
    assert ["apply" in row for row in rows] == [True, False, True, False, False, False]
    found, reported = simulated(NO_CONFIGURATION, lines)
    assert (essence(S, found[S]), reported) == (essence(S, row.known()), [])
    assert "finished" in str(essence(S, row.known()))
    assert not any(b'"apply"' in line for line in await exported(reader, S, place.app))


class LaterReader(MemoryReader):
    """A reader of a log whose records before ``first`` are gone."""

    def __init__(self, database: MemoryDatabase, first: int) -> None:
        super().__init__(database)
        self._first = first

    async def records(self, *, after: int = -1, limit: int = 50, partition: int = 0) -> Sequence[Record]:
        return await super().records(after=max(after, self._first - 1), limit=limit, partition=partition)


async def test_an_export_of_a_log_that_lost_its_beginning_names_the_generation() -> None:
    place = MemoryPlace(ManualClock())
    await place.configure(TEXT)
    life = Life(place)
    await life.tell(fire("a"))
    await life.tell(Close(generation=0), fire("b"))
    await life.tell(Erase(generation=1))
    first = len(place.database.records)
    await life.tell(fire("a"), fire("b"))
    command = await life.command()
    await life.tell(Erase(generation=7), Started(instance=command.instance, command=command.id))
    reader = LaterReader(place.database, first)
    found, reported = simulated(TASKS, await exported(reader, S, place.app))
    row = await reader.session(S)
    assert row is not None
    assert (essence(S, found[S]), reported) == (essence(S, row.known()), [])
    await life.tell(Close(generation=2), fire("a"))
    lines = await exported(reader, S, place.app)
    assert as_object(loads(lines[0]), "")["generation"] == 2
    assert not any("generation" in as_object(loads(line), "") for line in lines[1:])
    row = await reader.session(S)
    assert row is not None
    assert essence(S, simulated(TASKS, lines)[0][S]) == essence(S, row.known())
    await place.close()


async def lost_beginning(*, files_before: int) -> tuple[MemoryPlace, LaterReader]:
    """A log whose first records are gone, and with them the tasks file of the session's first event."""
    place = MemoryPlace(ManualClock())
    for n in range(files_before):
        await place.configure(f'{{"before{n}": {{"after": ["x"], "run": "app.x"}}}}')
    await place.configure(TEXT)
    await place.fire("other", "x")
    await place.fold()
    first = len(place.database.records)
    life = Life(place)
    await life.tell(fire("a"))
    return place, LaterReader(place.database, first)


async def test_a_file_that_the_log_has_lost_is_taken_from_those_that_the_engine_keeps() -> None:
    place, reader = await lost_beginning(files_before=2)
    await place.configure('{"t": {"after": ["b"], "run": "app.t"}}')
    await Life(place).tell(fire("b"))
    row = await reader.session(S)
    assert row is not None
    found = await states_of_exports(reader, [S], place.app)
    assert found == {S: essence(S, row.known())}
    await place.close()


async def test_an_export_whose_files_are_gone_says_so() -> None:
    place, reader = await lost_beginning(files_before=2)
    await place.configure('{"t": {"after": ["b"], "run": "app.t"}}')
    await place.fire("other", "b")
    await Life(place).tell(fire("b"))
    # Each session has met the newest file: the engine keeps no other.
    assert len(place.database.configurations) == 1
    with pytest.raises(UsageError, match="in force at event 4, the session's first, is not known any more"):
        await exported(reader, S, place.app, files=True)
    assert len(await exported(reader, S, place.app)) == 2
    await place.close()


@pytest.mark.parametrize("lost", [False, True])
async def test_events_before_the_first_file_are_exported_without_one(*, lost: bool) -> None:
    place = MemoryPlace(ManualClock())
    await place.fire("other", "x")
    life = Life(place)
    await life.tell(fire("a"))
    await place.configure(TEXT)
    await life.tell(fire("b"))
    reader = LaterReader(place.database, 1) if lost else place.reader()
    lines = await exported(reader, S, place.app, files=True)
    assert [b'"apply"' in line for line in lines] == [False, True, False]
    row = await reader.session(S)
    assert row is not None
    assert await states_of_exports(reader, [S], place.app) == {S: essence(S, row.known())}
    await place.close()


async def test_a_file_that_took_no_force_is_not_exported() -> None:
    place = MemoryPlace(ManualClock())
    await place.configure(TEXT)
    life = Life(place)
    await life.tell(fire("a"))
    stale = place.database.records[0].value
    assert stale is not None
    await place.log.append([NewRecord(key=None, value=stale)])
    await life.tell(fire("b"))
    assert [letter.offset for letter in place.database.dead_letters] == [2]
    lines = await exported(place.reader(), S, place.app, files=True)
    assert [b'"apply"' in line for line in lines] == [True, False, False]
    await place.close()


async def test_offsets_of_sessions_in_different_partitions_may_be_equal() -> None:
    lines = [
        b'{"session":"x","type":"a","app":"app","offset":7}',
        b'{"session":"y","type":"a","app":"app","offset":7}',
        b'{"session":"y","type":"b","data":{"n":1},"app":"app","offset":9}',
        b'{"session":"x","type":"b"}',
        b'{"session":"y","type":"b"}',
    ]
    found, reported = simulated(TASKS, lines)
    assert {session: state and state.offset for session, state in found.items()} == {"x": 10, "y": 11}
    assert reported == []
    with pytest.raises(DecodeError, match="log:2:1: /offset: must be greater"):
        simulated(TASKS, [lines[0], lines[0]])


async def test_an_outcome_of_another_app_is_reported_as_belonging_to_no_command() -> None:
    place = MemoryPlace(ManualClock())
    await place.configure(TEXT)
    life = Life(place)
    await life.tell(fire("a"), fire("b"))
    command = await life.command()
    await life.tell(Started(instance=command.instance, command=command.id))
    lines = await exported(place.reader(), S, AppId("other"))
    _, reported = simulated(TASKS, lines)
    assert reported == [
        StrayOutcome(place=SourceLocation(name="log", line=3), session=S, instance="t#0", command=command.id)
    ]
    assert simulated(TASKS, await exported(place.reader(), S, place.app))[1] == []
    await place.close()


@pytest.mark.parametrize("generations", [None, (3, 4)])
def test_a_log_that_lost_its_beginning_is_exported_from_the_generation_that_it_was_in(
    generations: tuple[int, int] | None,
) -> None:
    """A duplicate does not make a closed session begin again, so the close after it is refused."""
    first, second = generations or (None, None)
    lost: list[tuple[Body, str | None]] = [(fire("x"), None), (Close(), None)] * 3
    kept: list[tuple[Body, str | None]] = [
        *((fire("a"), "1"), (Close(generation=first), None)),
        *((fire("a"), "1"), (Close(generation=second), None)),
    ]
    records = [
        Record(partition=0, offset=offset, arrival_us=1, key=b"s", value=encode(body, id=identity))
        for offset, (body, identity) in enumerate(lost + kept)
    ]
    rules = rules_of(TASKS)
    checkpoint = Processor(app=APP).process(rules, records, lambda _: None)
    database = MemoryDatabase()
    database.records.extend(records[len(lost) :])
    database.sessions.update(checkpoint.states)
    database.configurations = (ConfigurationText.of(rules.current),)
    assert wire.decode(checkpoint.states[S].state).generation == 4
    line = as_object(loads(asyncio.run(exported(MemoryReader(database), S, APP))[0]), "")
    assert line["generation"] == 3


@pytest.mark.parametrize("closed_before", [False, True])
def test_an_erased_session_is_exported_from_its_erasure_on(*, closed_before: bool) -> None:
    bodies: list[Body] = [fire("a", secret=1), *([Close()] if closed_before else []), fire("x", secret=2)]
    bodies += [Erase(), Erase(generation=0), fire("a", n=3)]
    records = [
        Record(partition=0, offset=offset, arrival_us=1, key=b"s", value=encode(body))
        for offset, body in enumerate(bodies)
    ]
    rules = rules_of(TASKS)
    database = MemoryDatabase()
    database.configurations = (ConfigurationText.of(rules.current),)
    for end in (len(records) - 1, len(records)):
        database.records[:] = records[:end]
        database.sessions.update(Processor(app=APP).process(rules, records[:end], lambda _: None).states)
        lines = asyncio.run(exported(MemoryReader(database), S, APP))
        assert b"secret" not in b"".join(lines)
        found, _ = simulated(TASKS, lines)
        assert essence(S, found[S]) == essence(S, wire.decode(database.sessions[S].state))
