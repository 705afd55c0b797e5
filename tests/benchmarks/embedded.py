"""How fast the embedded engine is on SQLite: a full log, and an event now and then."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from tests.benchmarks.rows import Row, table
from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.sqlite import SqliteLog, SqliteStore
from triggerstream.core.commands import Decision
from triggerstream.core.ids import AppId
from triggerstream.engine.embedded.engine import EmbeddedEngine
from triggerstream.engine.garbage import collect_less_often
from triggerstream.wire.records import NewRecord

APP = AppId("bench")
TASKS = json.dumps({"t_report": {"after": ["t1", "t2", "t3", "t4"], "run": "bench.tasks.report"}})
EVENTS_A_SESSION = 4
SESSIONS_AT_ONCE = 500
"""Number of sessions whose events lie interleaved in the log."""


class _Executor:
    """Confirms at once, and notes when."""

    def __init__(self, expected: int) -> None:
        self.at: list[float] = []
        self.complete = asyncio.Event()
        self._expected = expected

    async def dispatch(self, decision: Decision) -> None:  # noqa: ARG002 - the port's signature
        self.at.append(time.perf_counter())
        if len(self.at) >= self._expected:
            self.complete.set()

    def destination(self, decision: Decision) -> str | None:  # noqa: ARG002 - the port's signature
        """None is ever refused."""
        return None

    async def close(self) -> None:
        """Nothing to let go of."""


def _record(session: int, trigger: int) -> NewRecord:
    number = session * EVENTS_A_SESSION + trigger
    value = f'{{"type":"t{trigger + 1}","id":"{number:032x}","data":{{"score":{number},"by":"module"}}}}'
    return NewRecord(key=f"survey-{session:09d}".encode(), value=value.encode())


def _records(events: int) -> list[NewRecord]:
    return [
        _record(session, trigger)
        for first in range(0, events // EVENTS_A_SESSION, SESSIONS_AT_ONCE)
        for trigger in range(EVENTS_A_SESSION)
        for session in range(first, min(first + SESSIONS_AT_ONCE, events // EVENTS_A_SESSION))
    ]


async def _engine(directory: Path, executor: _Executor) -> tuple[EmbeddedEngine, SqliteLog]:
    log = SqliteLog(directory, create=True)
    store = SqliteStore(directory, app=APP, log=log)
    return EmbeddedEngine(app=APP, log=log, store=store, dispatcher=executor, clock=SystemClock()), log


async def _apply(directory: Path) -> None:
    engine, log = await _engine(directory, _Executor(0))
    running = asyncio.create_task(engine.run())
    await engine.apply(TASKS)
    engine.stop()
    await running
    await log.close()


async def _throughput(directory: Path, events: int) -> list[Row]:
    await _apply(directory)
    log = SqliteLog(directory)
    records = _records(events)
    started = time.perf_counter()
    for start in range(0, events, 1_000):
        await log.append(records[start : start + 1_000])
    appended_s = time.perf_counter() - started
    await log.close()
    executor = _Executor(events // EVENTS_A_SESSION)
    engine, log = await _engine(directory, executor)
    collect_less_often()  # as `dev` does
    started, cpu = time.perf_counter(), time.process_time()
    running = asyncio.create_task(engine.run())
    complete = asyncio.create_task(executor.complete.wait())
    await asyncio.wait([running, complete], return_when=asyncio.FIRST_COMPLETED)
    elapsed_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    engine.stop()
    await running
    await log.close()
    return [
        Row(name="embedded: append in thousands", value=events / appended_s, unit="events/s"),
        Row(name="embedded: fold a full log", value=events / elapsed_s, unit="events/s"),
        Row(name="embedded: fold a full log, CPU time", value=events / cpu_s, unit="events/CPU s"),
    ]


async def _latency(directory: Path, commands: int, pause_s: float) -> list[Row]:
    """From before the append of the completing event to its hand-over; the producer shares the process."""
    await _apply(directory)
    executor = _Executor(sys.maxsize)
    engine, log = await _engine(directory, executor)
    running = asyncio.create_task(engine.run())
    producer = SqliteLog(directory)  # an object of its own wakes the engine as another process would
    waits: list[float] = []
    for session in range(commands):
        group = [_record(session, trigger) for trigger in range(EVENTS_A_SESSION)]
        await producer.append(group[:-1])
        await asyncio.sleep(pause_s)
        count = len(executor.at)
        started = time.perf_counter()
        await producer.append(group[-1:])
        while len(executor.at) == count:  # noqa: ASYNC110 - waiting for an event would add a wake-up
            await asyncio.sleep(0.0001)
        waits.append((executor.at[-1] - started) * 1_000)
    engine.stop()
    await running
    await producer.close()
    await log.close()
    return [
        Row(name="embedded: append to hand-over, p50", value=median(waits), unit="ms"),
        Row(name="embedded: append to hand-over, p99", value=quantiles(waits, n=100)[98], unit="ms"),
    ]


def run(events: int = 100_000) -> list[Row]:
    """Sustained events/s of a full log, and the latency from append to hand-over at low load."""
    with TemporaryDirectory() as directory:
        rows = asyncio.run(_throughput(Path(directory), events))
    with TemporaryDirectory() as directory:
        return rows + asyncio.run(_latency(Path(directory), commands=200, pause_s=0.02))


if __name__ == "__main__":
    print(table(run(*map(int, sys.argv[1:2]))))
