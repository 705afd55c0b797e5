"""What `sessions export` prints simulates to the state that the engine has, for every app and generation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given

from tests.contract.places import KAFKA, MemoryPlace, Place, place_of
from tests.core.strategies import APP, BUSY, ENDINGS, SMALL, History, configurations, histories, rules_of
from triggerstream.adapters.memory import ManualClock, MemoryDatabase, MemoryReader
from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError
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
from triggerstream.core.tasks import Configuration
from triggerstream.engine.ports import Reader
from triggerstream.engine.processor import Processor
from triggerstream.engine.queries.history import Unread, history
from triggerstream.engine.replay.simulate import RefusedLine, Simulation, StrayOutcome
from triggerstream.engine.rows import ConfigurationText
from triggerstream.settings import DEFAULT_APP
from triggerstream.wire import commands, tasksfile
from triggerstream.wire import state as wire
from triggerstream.wire.answers import to_json
from triggerstream.wire.event_lines import SourceLocation
from triggerstream.wire.events import encode
from triggerstream.wire.json import as_object, dumps, loads
from triggerstream.wire.records import NewRecord, Record

TEXT = """{
    "t": {"after": ["a"], "andEvery": "b", "run": "app.t", "retry": {"max": 2, "backoff": "1h"}},
    "next": {"after": ["t"], "run": "app.next"}
}"""
TASKS = tasksfile.read(TEXT, name="tasks.json")
S = SessionId("s")


def essence(session: SessionId, state: SessionState | None) -> JsonObject | None:
    """All that a session holds and shows."""
    return None if state is None else to_json(stored(session, state))


async def exported(reader: Reader, session: SessionId, app: AppId) -> list[bytes]:
    return [dumps(line) async for line in history(reader, session, app=app) if not isinstance(line, Unread)]


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
    if database.records:
        checkpoint = Processor(app=APP).process(history_.rules, database.records, lambda _: None)
        database.sessions.update(checkpoint.states)
    database.configurations = (ConfigurationText(offset=-1, arrival_us=0, hash=config.hash, text=text),)

    async def export() -> list[bytes]:
        reader = MemoryReader(database)
        sessions = {event.session for event in history_.events()}
        return [line for one in sorted(sessions) for line in await exported(reader, one, APP)]

    found, _ = simulated(config, asyncio.run(export()))
    assert {one: essence(one, state) for one, state in found.items() if state is not None} == {
        one: essence(one, wire.decode(row.state)) for one, row in database.sessions.items()
    }


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
