"""Measures timers: 1,000 of one session due at once, 100,000 pending ones, 100,000 due in the same second.

The last runs on the embedded engine, with its clock set forward; meanwhile events of another session arrive.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
import tracemalloc
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from tests.benchmarks.rows import Row
from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.sqlite import SqliteLog, SqliteStore
from triggerstream.core.commands import Decision
from triggerstream.core.events import Event, Failed, Timer, Trigger
from triggerstream.core.fold import step
from triggerstream.core.ids import (
    AppId,
    CommandId,
    InstanceId,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
    instance_id,
)
from triggerstream.core.results import Folded
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import AppliedConfiguration, Rules
from triggerstream.engine.embedded.engine import EmbeddedEngine
from triggerstream.engine.garbage import collect_less_often
from triggerstream.engine.scan import Scan
from triggerstream.engine.timers.service import TimerService
from triggerstream.wire import state, tasksfile
from triggerstream.wire.records import NewRecord

APP = AppId("bench")
SESSION = SessionId("s")
AT_ONCE = 1_000
SESSIONS = 100_000
ROUNDS = 7
HOUR_US = 3_600_000_000
_DAY = 86_400
_PROBE_S = 0.05
WAITING = {"t": {"after": ["a", "b"], "deadline": "1d", "run": "r"}}
ONE_SESSION = {
    "deadlines": {"t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "r"}},
    "deadlines, each with a task that its timeout starts": {
        "t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "r"},
        "u": {"after": [], "andEvery": "t.timeout", "run": "r"},
    },
    "delays": {"t": {"after": [], "andEvery": "a", "delay": "1h", "run": "r"}},
    "retries": {"t": {"after": [], "andEvery": "a", "retry": {"max": 1, "backoff": "1h"}, "run": "r"}},
    "rounds of one repeat": {
        "t": {"after": ["a"], "repeat": {"every": "3s", "max": AT_ONCE}, "run": "r"},
    },
}


def rules_of(tasks: object) -> Rules:
    """The rules with one tasks file in force."""
    config = tasksfile.read(json.dumps(tasks), name="tasks")
    return Rules(app=APP, history=(AppliedConfiguration(config=config, offset=-1, arrival_us=0),))


def event(offset: int, body: Trigger | Failed | Timer, *, at_us: int) -> Event:
    """An event of ``SESSION``."""
    return Event(session=SESSION, offset=offset, arrival_us=at_us, time_us=at_us, type="", body=body)


def fold(rules: Rules, known: SessionState | None, one: Event) -> Folded:
    """The result of an event that is never refused."""
    folded = step(rules, known, one)
    if not isinstance(folded, Folded):
        raise TypeError("the benchmark does not fold what it should")
    return folded


def waiting_session(rules: Rules) -> SessionState:
    """A session with 1,000 instances that wait for a timer, or with the one from which the rounds follow."""
    task = rules.current.config.tasks[0]
    known: SessionState | None = None
    count = AT_ONCE if task.every is not None else 1
    for offset in range(count):
        known = fold(rules, known, event(offset, Trigger(name=TriggerName("a"), data={}), at_us=0)).state
    if task.retry is not None:
        for number in range(count):
            failed = Failed(instance=_instance(number), command=_command(number), error="e")
            known = fold(rules, known, event(count + number, failed, at_us=0)).state
    if known is None:
        raise AssertionError("the benchmark has no session")
    return known


def _instance(number: int) -> InstanceId:
    return instance_id(TaskName("t"), number)


def _command(number: int) -> CommandId:
    return command_id(APP, SESSION, generation=0, task=TaskName("t"), number=number)


def one_session() -> list[Row]:
    """Milliseconds that the step takes in which 1,000 timers of a session fire."""
    rows = []
    for what, tasks in ONE_SESSION.items():
        rules = rules_of(tasks)
        known = waiting_session(rules)
        late = event(10 * AT_ONCE, Timer(), at_us=HOUR_US)
        gc.collect()
        gc.disable()
        folded, took = fold(rules, known, late), list[float]()
        for _ in range(ROUNDS):
            begun = time.process_time()
            fold(rules, known, late)
            took.append(time.process_time() - begun)
        gc.enable()
        # A session has at most 1,000 unresolved instances: the first round was decided before.
        if len(folded.decisions) + folded.resolved < AT_ONCE - 1:
            raise AssertionError(f"of {what} only some have fired")
        rows.append(Row(name=f"one step with {AT_ONCE:,} {what}", value=median(took) * 1e3, unit="ms"))
    return rows


def pending(sessions: int) -> list[Row]:
    """Memory of pending timers, and the time in which a take-over finds them in stored states."""
    rules = rules_of(WAITING)
    known = fold(rules, None, event(1, Trigger(name=TriggerName("a"), data={"score": 3}), at_us=5)).state
    value = state.encode(known)
    keys = [f"session-{number}".encode() for number in range(sessions)]
    scan = Scan(rules, scanned=-1)
    begun = time.process_time()
    for key in keys:
        scan.look(key, value)
    found = scan.take_found()
    looked_s = time.process_time() - begun
    begun = time.process_time()
    service = TimerService(clock=SystemClock(), append=_nothing)
    service.set((one.session, one.due_us) for one in found)
    set_s = time.process_time() - begun
    if len(service) != sessions:
        raise AssertionError("the benchmark does not find all timers")
    tracemalloc.start()
    again = TimerService(clock=SystemClock(), append=_nothing)
    again.set((one.session, one.due_us) for one in found)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    said = f"{sessions:,} pending timers"
    return [
        Row(name=f"{said}: memory", value=used / 2**20, unit="MiB"),
        Row(name=f"{said}: found in stored states at a take-over", value=looked_s + set_s, unit="s"),
        Row(
            name=f"{said}: found in stored states at a take-over",
            value=looked_s / sessions * 1e6,
            unit="µs each",
        ),
    ]


async def _nothing(_: list[NewRecord]) -> None:
    """Append nothing."""


class _MovedClock(SystemClock):
    """A clock that is ahead of the machine's."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead_us


class _Executor:
    """Confirms at once, and notes when each session's command came."""

    def __init__(self) -> None:
        self.at: dict[SessionId, float] = {}

    async def dispatch(self, decision: Decision) -> None:
        self.at[decision.session] = time.perf_counter()

    def destination(self, decision: Decision) -> str | None:  # noqa: ARG002 - the port's signature
        """None is ever refused."""
        return None

    async def close(self) -> None:
        """Nothing to let go of."""


async def _same_second(folder: Path, sessions: int) -> list[Row]:
    clock, executor = _MovedClock(), _Executor()
    log = SqliteLog(folder, create=True, clock=clock)
    store = SqliteStore(folder, app=APP, log=log)
    engine = EmbeddedEngine(app=APP, log=log, store=store, dispatcher=executor, clock=clock)
    running = asyncio.create_task(engine.run())
    tasks = {**WAITING, "u": {"after": ["t.timeout"], "run": "r"}, "v": {"after": ["probe"], "run": "r"}}
    await engine.apply(json.dumps(tasks))
    collect_less_often()
    for first in range(0, sessions, 1_000):
        some = range(first, min(first + 1_000, sessions))
        await log.append([NewRecord(key=f"s{number}".encode(), value=b'{"type":"a"}') for number in some])
    await engine.reached(1 + sessions)
    begun, cpu = time.perf_counter(), time.process_time()
    clock.ahead_us = _DAY * 1_000_000
    waits: list[float] = []
    while len(executor.at) < sessions + len(waits):
        probe = SessionId(f"probe-{len(waits)}")
        asked = time.perf_counter()
        await log.append([NewRecord(key=probe.encode(), value=b'{"type":"probe"}')])
        while probe not in executor.at:  # noqa: ASYNC110 - waiting for an event would add a wake-up
            await asyncio.sleep(0.001)
        waits.append((executor.at[probe] - asked) * 1e3)
        await asyncio.sleep(_PROBE_S)
    took_s, used_s = time.perf_counter() - begun, time.process_time() - cpu
    engine.stop()
    await running
    await log.close()
    said = f"embedded: {sessions:,} sessions due in the same second"
    wait = f"{said}, append to hand-over of another session's event"
    return [
        Row(name=f"{said}, timers", value=sessions / took_s, unit="timers/s"),
        Row(name=f"{said}, CPU time", value=used_s / sessions * 1e6, unit="µs/timer"),
        Row(name=f"{wait}, p50", value=median(waits), unit="ms"),
        Row(name=f"{wait}, p95", value=quantiles(waits, n=20)[18], unit="ms"),
        Row(name=f"{wait}, at most", value=max(waits), unit="ms"),
    ]


def run(sessions: int = SESSIONS) -> list[Row]:
    """All of it."""
    rows = one_session() + pending(sessions)
    with TemporaryDirectory() as folder:
        return rows + asyncio.run(_same_second(Path(folder), sessions))
