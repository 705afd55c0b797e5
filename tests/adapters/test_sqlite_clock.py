"""A log on disk takes nothing while the machine's clock is far ahead, and loses and rewrites nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from triggerstream.adapters.memory import ManualClock, MemoryDispatcher
from triggerstream.adapters.sqlite import SqliteLog, SqliteReader, SqliteStore
from triggerstream.adapters.sqlite.clock_guard import SqliteClockWatch
from triggerstream.core.commands import Command
from triggerstream.core.errors import ClockError
from triggerstream.core.events import Failed, Trigger
from triggerstream.core.ids import AppId, SessionId, TriggerName
from triggerstream.engine.clock_step import ClockReading
from triggerstream.engine.embedded.engine import EmbeddedEngine
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord

DAYS = 24 * 3600
A = encode(Trigger(name=TriggerName("a"), data={}))


class Rebooted(ManualClock):
    """A clock of the same machine, started anew."""

    def reading(self) -> ClockReading:
        return super().reading()._replace(boot="another", since_boot_us=1_000_000)


@dataclass
class Database:
    directory: Path
    clock: ManualClock

    def __post_init__(self) -> None:
        self.log = SqliteLog(self.directory, create=True, clock=self.clock)
        self.watch = SqliteClockWatch(self.directory, clock=self.clock)
        self.reader = SqliteReader(self.directory)

    async def append(self, session: str = "s", value: bytes = A) -> None:
        await self.log.append([NewRecord(key=session.encode(), value=value)])

    async def arrivals(self) -> list[int]:
        return [record.arrival_us for record in await self.reader.records(limit=100)]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(tmp_path, ManualClock())
    yield made
    await made.log.close()
    await made.reader.close()


async def test_an_event_that_arrives_while_a_clock_is_ahead_pins_no_later_one(
    database: Database,
) -> None:
    before_us = database.clock.now_us()
    database.clock.set_forward(400 * DAYS)
    await database.append()
    database.clock.set_forward(-400 * DAYS)
    await database.append()
    ahead_us, after_us = await database.arrivals()
    assert (after_us, ahead_us - after_us) == (before_us, 400 * DAYS * 1_000_000)


async def test_nothing_is_accepted_until_a_clock_that_was_set_forward_is_back(database: Database) -> None:
    await database.append()
    assert database.watch.look() is None
    database.clock.set_forward(400 * DAYS)
    for _ in range(2):
        with pytest.raises(ClockError, match=r"set forward by 400 days .*dev TASKS.json --accept-clock"):
            await database.append()
        assert "400 days" in (database.watch.look() or "")
    with pytest.raises(ClockError):
        database.log.report(SessionId("s"), A)
    database.clock.set_forward(-400 * DAYS)
    await database.append()
    assert database.watch.look() is None
    assert len(await database.arrivals()) == 2


async def test_a_clock_that_was_accepted_is_trusted_from_then_on(database: Database) -> None:
    await database.append()
    database.watch.look()
    database.clock.set_forward(2 * DAYS)
    database.watch.accept()
    await database.append()
    assert database.watch.look() is None
    database.clock.set_forward(DAYS)
    with pytest.raises(ClockError, match="24 hours"):
        await database.append()


async def test_small_corrections_and_steps_back_are_no_reason(database: Database) -> None:
    await database.append()
    for step_s in (300, 300, 0.5, -5 * DAYS, 300):
        assert database.watch.look() is None
        database.clock.set_forward(step_s)
        await database.append()
    database.clock.set_forward(0.000_001)
    with pytest.raises(ClockError):
        await database.append()


async def test_time_that_passes_is_no_step(database: Database) -> None:
    await database.append()
    database.watch.look()
    database.clock.advance(400 * DAYS)
    await database.append()
    assert database.watch.look() is None


async def test_a_restart_of_the_machine_begins_anew(database: Database) -> None:
    await database.append()
    database.watch.look()
    rebooted = Rebooted(database.clock.now_us() + 30 * DAYS * 1_000_000)
    log = SqliteLog(database.directory, clock=rebooted)
    await log.append([NewRecord(key=b"s", value=A)])
    watch = SqliteClockWatch(database.directory, clock=rebooted)
    assert watch.look() is None
    rebooted.set_forward(DAYS)
    with pytest.raises(ClockError):
        await log.append([NewRecord(key=b"s", value=A)])
    await log.close()


async def test_an_engine_waits_for_its_clock_and_goes_on_when_it_is_back(database: Database) -> None:
    """Its timers look due while the clock is ahead; appended then, they would hold their sessions up."""
    dispatcher = MemoryDispatcher()
    engine = EmbeddedEngine(
        app=AppId("app"),
        log=database.log,
        store=SqliteStore(database.directory, app=AppId("app"), log=database.log, clock=database.clock),
        dispatcher=dispatcher,
        clock=database.clock,
    )
    running = asyncio.create_task(engine.run())
    async with asyncio.timeout(60):
        await engine.ready()
        await engine.apply('{"t": {"after": ["a"], "run": "f", "retry": {"max": 1, "backoff": "10s"}}}')
        database.watch.look()
        await database.append()
        (command,) = await dispatcher.wait_for(1)
        assert isinstance(command, Command)
        failed = Failed(instance=command.instance, command=command.id, error="away")
        await database.append(value=encode(failed))
        await engine.reached(3)
        database.clock.set_forward(400 * DAYS)
        database.clock.advance(1)
        database.clock.advance(1)
        await asyncio.sleep(0)
        with pytest.raises(ClockError):
            await database.append()
        database.clock.set_forward(-400 * DAYS)
        while len(dispatcher.dispatched) < 2:
            database.clock.advance(1)
            await asyncio.sleep(0.01)
        assert max(await database.arrivals()) <= database.clock.now_us()
        engine.stop()
        await running
