"""Measures an event of a session with a past: many open instances, many triggers, one finished instance.

Each event is a batch of its own. If its state is not in memory (*scattered*), the event and the state are
decoded, the event folded, the state encoded. A worker keeps the state of a *busy* session in memory. CPU
time, medians and minima of rounds in which the sessions take turns.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from tests.benchmarks.rows import Row
from triggerstream.core.events import Event
from triggerstream.core.fold import next_due, step
from triggerstream.core.ids import AppId, SessionId, TaskName, command_id
from triggerstream.core.results import Folded
from triggerstream.core.tasks import AppliedConfiguration, Rules
from triggerstream.core.timers import with_exact_due
from triggerstream.engine.processor import Processor
from triggerstream.wire import events, state, tasksfile
from triggerstream.wire.records import Record

APP = AppId("bench")
OPEN = 900
OPEN_LIMIT_US = 500
"""The limit for an event of a session with so many open instances, on a quiet machine."""
FIRED = 200
"""Triggers of the sessions that a round measures, so that few long ones and many short ones are as many."""
TRIGGERS_LIMIT = 2
"""The limit for the cost of an event of a session of 200 triggers against one of 5."""
ROUNDS = 15
START_US = 1_700_000_000_000_000
DATA = {"score": 3, "name": "hello world"}
Fields = dict[str, Any]


def record_of(value: Fields, *, offset: int) -> Record:
    """An event of the session as a record."""
    return Record(
        partition=0,
        offset=offset,
        arrival_us=START_US + offset,
        key=b"s",
        value=json.dumps(value).encode(),
    )


class Session:
    """A session of one task, stored between two events."""

    def __init__(self, task: Fields) -> None:
        config = tasksfile.read(json.dumps({"t": task}), name="tasks.json")
        applied = AppliedConfiguration(config=config, offset=-1, arrival_us=0)
        self.rules = Rules(app=APP, history=(applied,))
        self.offset = 0
        self.stored: bytes | None = None

    def fold(self, value: Fields) -> float:
        """Fold one event; the processor time that it took, in µs."""
        record = record_of({"id": str(self.offset), **value}, offset=self.offset)
        self.offset += 1
        start = time.process_time()
        event = events.decode(record)
        assert isinstance(event, Event)
        known = None if self.stored is None else state.decode_lazily(self.stored)
        folded = step(self.rules, known, event)
        assert isinstance(folded, Folded)
        new = with_exact_due(self.rules, folded.state)
        self.stored = state.encode(new)
        next_due(self.rules, new)
        return (time.process_time() - start) * 1e6

    def fire(self, name: str) -> float:
        """Fold a trigger."""
        return self.fold({"type": name, "data": DATA})

    def report(self, number: int, kind: str) -> float:
        """Fold an outcome of an instance."""
        task = TaskName("t")
        command = command_id(APP, SessionId("s"), generation=0, task=task, number=number)
        data = {"instance": f"t#{number}", "command": command, "attempt": 0}
        return self.fold({"type": f"triggerstream.task.{kind}", "data": data})


def with_open(count: int, after: list[str]) -> Session:
    """A session with open instances of one task: decided, or waiting if ``after`` names a trigger."""
    session = Session({"after": after, "andEvery": "a", "run": "x.y"})
    for _ in range(count):
        session.fire("a")
    return session


def of_triggers(count: int) -> float:
    """µs an event of sessions of that number of triggers, from the first to the last."""
    rounds = max(1, FIRED // count)
    taken = 0.0
    for _ in range(rounds):
        session = Session({"after": [f"module{n}Received" for n in range(count)], "run": "x.y"})
        taken += sum(session.fire(f"module{n}Received") for n in range(count))
    return taken / count / rounds


def of_triggers_in_a_worker(count: int, *, scattered: bool) -> float:
    """The same in a worker, whose commands count as well, and which remembers the state of a busy session."""
    session = Session({"after": [f"module{n}Received" for n in range(count)], "run": "x.y"})
    records = [
        record_of({"id": str(n), "type": f"module{n}Received", "data": DATA}, offset=n) for n in range(count)
    ]
    rounds = max(1, FIRED // count)
    start = time.process_time()
    for _ in range(rounds):
        stored: dict[SessionId, bytes] = {}
        processor = Processor(app=APP)
        for record in records:
            if scattered:
                processor = Processor(app=APP)
            checkpoint = processor.process(session.rules, [record], stored.get)
            stored = {name: one.state for name, one in checkpoint.states.items()}
    return (time.process_time() - start) / count / rounds * 1e6


def finished() -> float:
    """µs of an event of a session with one finished instance."""
    session = Session({"after": ["a"], "run": "x.y"})
    session.fire("a")
    session.report(0, "finished")
    return session.fire("other")


CASES: dict[str, tuple[list[str], Callable[[Session, int], float]]] = {
    "the next instance of scheduled ones": ([], lambda session, _: session.fire("a")),
    "the next instance of those that wait": (["b"], lambda session, _: session.fire("a")),
    "a trigger that no task uses": ([], lambda session, _: session.fire("other")),
    "a scheduled one is started": ([], lambda session, at: session.report(at * 37, "started")),
    "a scheduled one is finished": ([], lambda session, at: session.report(at * 37, "finished")),
}


def run() -> list[Row]:
    """µs an event."""
    rows: list[Row] = []
    for name, (after, fold) in CASES.items():
        session = with_open(OPEN, after)
        (times,) = _rounds(partial(fold, session))
        what = f"{OPEN} open instances: {name}"
        limit = f"limit {OPEN_LIMIT_US} µs"
        rows.append(Row(name=f"{what}, {limit}", value=median(times), unit="µs/event"))
        rows.append(Row(name=f"{what}, least", value=min(times), unit="µs/event"))
    ways: dict[str, Callable[[int], float]] = {
        "decoded, folded, encoded": of_triggers,
        "in a worker, scattered": partial(of_triggers_in_a_worker, scattered=True),
        "in a worker, busy": partial(of_triggers_in_a_worker, scattered=False),
    }
    for way, measure in ways.items():
        few, many = _rounds(lambda _, f=measure: f(5), lambda _, f=measure: f(200))  # type: ignore[misc]
        rows.append(
            Row(
                name=f"session of 200 triggers of one task, {way}, limit {TRIGGERS_LIMIT} x",
                value=median(many),
                unit="µs/event",
                peer="one of 5",
                ratio=median(one / other for one, other in zip(many, few, strict=True)),
            )
        )
    (one,) = _rounds(lambda _: finished())
    rows.append(Row(name="session with one finished instance", value=median(one), unit="µs/event"))
    return rows


def _rounds(*measures: Callable[[int], float]) -> list[list[float]]:
    """The results of each measure, taken in turns."""
    times: list[list[float]] = [[] for _ in measures]
    for at in range(1, ROUNDS + 1):
        gc.collect()
        gc.disable()
        for measure, found in zip(measures, times, strict=True):
            found.append(measure(at))
        gc.enable()
    return times
